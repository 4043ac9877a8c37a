"""The registries that configs look names up in, in one place.

They are MMEngine's and MMSegmentation's own: what is registered here works in
any of their configs, and everything of theirs works in ours. Two things in
them are mended here, where both are imported first:

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
from typing import Iterator

import mmengine.config.utils
from mmengine.registry import DATA_SAMPLERS, HOOKS, OPTIM_WRAPPERS, RUNNERS

__all__ = [
    'DATASETS', 'DATA_SAMPLERS', 'HOOKS', 'MODELS', 'OPTIM_WRAPPERS',
    'RUNNERS', 'TRANSFORMS', 'without_import_noise'
]

# Albumentations asks the package index for a newer version when imported.
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

mmengine.config.utils.MODULE2PACKAGE['mmseg'] = 'onedl-mmsegmentation'


@contextlib.contextmanager
def without_import_noise() -> Iterator[None]:
    """Drops what MMSegmentation and MMCV say about parts we do not use."""
    printed = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings(
            'ignore', message='Fail to import ``MultiScaleDeformableAttention')
        with contextlib.redirect_stdout(printed):
            yield
    for line in printed.getvalue().splitlines():
        if line != 'Could not import OneDL':
            print(line, file=sys.stdout)


with without_import_noise():
    from mmseg.registry import DATASETS, MODELS, TRANSFORMS
