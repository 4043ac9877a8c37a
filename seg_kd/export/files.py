"""Files that are written whole or not at all, and never over others."""
import importlib.util
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from seg_kd.errors import UserError

PACKAGES = 'onnx', 'onnxruntime', 'onnxscript'


def refuse_existing(paths: Iterable[str], force: bool) -> None:
    """Raises UserError where one of the files, or folders, is there."""
    there = [path for path in paths if os.path.exists(path)]
    if there and not force:
        raise UserError(f'{there[0]} exists: give another place, or --force '
                        'to write over it')


@contextmanager
def written_whole(path: str) -> Iterator[str]:
    """Another name to write to; the file gets its own at the end.

    Where the work fails, nothing is left, and what was there stays.
    """
    folder, name = os.path.split(path)
    os.makedirs(folder or '.', exist_ok=True)
    part = os.path.join(folder, f'.part_{name}')  # the ending tells the kind
    try:
        yield part
        os.replace(part, path)
    finally:
        if os.path.exists(part):
            os.remove(part)


def require_onnx(packages: Iterable[str] = PACKAGES) -> None:
    """Raises UserError where a package of the extra ``export`` is missing."""
    require_extra('export', packages, 'ONNX')


def require_extra(extra: str, packages: Iterable[str], what: str) -> None:
    """Raises UserError where a package is missing that ``what`` needs."""
    missing = [p for p in packages if importlib.util.find_spec(p) is None]
    if missing:
        raise UserError(f'{what} needs {", ".join(missing)}: '
                        f"pip install 'seg_kd[{extra}]'")
