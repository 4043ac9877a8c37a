"""seg_kd: knowledge distillation for semantic segmentation.

Importing the package registers everything that a config can name, and mends
two things in the libraries below us, both silently:

- MMEngine looks ``mmseg::`` configs up under the name of a distribution that
  is no longer installed.
- MMSegmentation prints, and MMCV warns, about optional parts that we do not
  use. Just those messages are dropped; every other one passes.
"""
import contextlib
import io
import os
import sys
import warnings

import mmengine.config.utils

from .opencv import require_opencv

__version__ = '0.1.0'

require_opencv()

# Albumentations asks the package index for a newer version when imported.
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

mmengine.config.utils.MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'


@contextlib.contextmanager
def _without_import_noise():
    printed = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            'ignore', message='Fail to import ``MultiScaleDeformableAttention')
        with contextlib.redirect_stdout(printed):
            yield
    for line in printed.getvalue().splitlines():
        if line != 'Could not import OneDL':
            print(line, file=sys.stdout)


with _without_import_noise():
    import mmseg.datasets  # noqa: F401
    import mmseg.engine  # noqa: F401
    import mmseg.evaluation  # noqa: F401
    import mmseg.models  # noqa: F401
    import mmseg.visualization  # noqa: F401

from . import datasets, hooks, models, optim  # noqa: E402
from .runner import DistillRunner  # noqa: E402

__all__ = ['DistillRunner', 'datasets', 'hooks', 'models', 'optim']
