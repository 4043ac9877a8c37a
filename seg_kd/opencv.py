"""Whether OpenCV starts: asked before anything else is imported.

MMCV and MMSegmentation require ``opencv-python``, Albumentations requires
``opencv-python-headless``. pip installs both, into the same folder, and the
former needs libraries that a machine without a display often lacks.
"""
import sys
from types import TracebackType


class OpenCVError(ImportError):
    """OpenCV cannot be imported; uncaught, it is one line."""


def require_opencv() -> None:
    """
    Raises:
        OpenCVError: OpenCV does not start; it says what to install.
    """
    try:
        from cv2 import imread  # noqa: F401  (a folder's remains have none)
    except ImportError as error:
        reason = ' '.join(str(error).split())
        sys.excepthook = _on_one_line
        raise OpenCVError(
            f'OpenCV does not start ({reason}); without a display, run: '
            'pip uninstall -y opencv-python && pip install --force-reinstall '
            '--no-deps opencv-python-headless; or install the libraries it '
            'needs (Debian, Ubuntu: apt install libgl1 libglib2.0-0)'
        ) from None


def _on_one_line(kind: type[BaseException], error: BaseException,
                 trace: TracebackType | None) -> None:
    if issubclass(kind, OpenCVError):
        print(f'error: {error}', file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)
