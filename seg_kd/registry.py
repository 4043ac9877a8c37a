"""The registries that configs look names up in, in one place.

They are MMEngine's and MMSegmentation's own: what is registered here works in
any of their configs, and everything of theirs works in ours. Three things in
them are mended here, where both are imported first:

- MMEngine looks ``mmseg::`` configs up under the name of a distribution that
  is no longer installed.
- It finds ``_base_ = 'seg_kd::ka_deeplab.py'`` only in a folder of ours, and
  gives what it finds a scope for which there are no registries.
- MMSegmentation prints, and MMCV warns, about optional parts that we do not
  use. Just those messages are dropped; every other one passes.
"""
import contextlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import mmengine.config.utils
from mmengine.config import Config
from mmengine.registry import (DATA_SAMPLERS, HOOKS, LOG_PROCESSORS, METRICS,
                               MODEL_WRAPPERS, OPTIM_WRAPPERS, RUNNERS,
                               Registry)

from seg_kd import shipped
from seg_kd.opencv import require_opencv

require_opencv()

__all__ = [
    'DATASETS', 'DATA_SAMPLERS', 'HOOKS', 'LOG_PROCESSORS', 'METRICS',
    'MODELS', 'MODEL_WRAPPERS', 'OPTIM_WRAPPERS', 'RUNNERS', 'TRANSFORMS',
    'class_of', 'is_kind', 'type_name', 'without_import_noise'
]

# Albumentations asks the package index for a newer version when imported.
os.environ.setdefault('NO_ALBUMENTATIONS_UPDATE', '1')

mmengine.config.utils.MODULE2PACKAGE.update(mmseg='onedl-mmsegmentation',
                                            seg_kd='seg_kd')
_mmengines_path = Config._get_cfg_path


def _base_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
    if cfg_path.startswith(shipped.SCOPE):
        return shipped.find(cfg_path), None
    return _mmengines_path(cfg_path, filename)


Config._get_cfg_path = staticmethod(_base_path)


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


def class_of(cfg: Any, registry: Registry) -> type | None:
    """The class of a config: a type may be given by name, or be the class."""
    kind = cfg.get('type') if isinstance(cfg, dict) else type(cfg)
    found = registry.get(kind) if isinstance(kind, str) else kind
    return found if isinstance(found, type) else None


def is_kind(cfg: Any, registry: Registry, kinds: Any) -> bool:
    """Is it of one of these classes, or of one derived from them?"""
    found = class_of(cfg, registry)
    return found is not None and issubclass(found, kinds)


def type_name(cfg: Any) -> str:
    """Name of the class that a config is of, without its module."""
    kind = cfg.get('type', '') if isinstance(cfg, dict) else type(cfg)
    return (kind
            if isinstance(kind, str) else kind.__name__).rpartition('.')[2]
