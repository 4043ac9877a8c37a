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
                               Registry, root)

from seg_kd import shipped
from seg_kd.errors import UserError
from seg_kd.opencv import require_opencv

require_opencv()

__all__ = [
    'DATASETS', 'DATA_SAMPLERS', 'HOOKS', 'LOG_PROCESSORS', 'METRICS',
    'MODELS', 'MODEL_WRAPPERS', 'OPTIM_WRAPPERS', 'RUNNERS', 'TRANSFORMS',
    'as_list', 'class_in', 'class_of', 'config_of_file', 'is_kind', 'names_in',
    'type_name', 'without_import_noise'
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


def config_of_file(path: str) -> Config:
    """A config from a file. It is code, and runs.

    Raises:
        UserError: It cannot be read, for whatever reason.
    """
    try:
        check_bases(path)
        found = Config.fromfile(path)
        import_all(found._cfg_dict)
        return found
    except UserError:
        raise
    except (Exception, SystemExit) as error:  # it is code: in any way
        raise UserError(f'config {path} cannot be read: '
                        f'{type(error).__name__}: {error}') from error


def import_all(node: Any) -> None:
    """A lazy config imports what it names when it is looked at."""
    if isinstance(node, (dict, list, tuple)):
        for inner in node.values() if isinstance(node, dict) else node:
            import_all(inner)


def check_bases(path: str, above: tuple[str, ...] = ()) -> None:
    """Raises UserError where a config is a base of itself."""
    if path in above:
        raise UserError(f'config {path} is a base of itself, by '
                        f'{", ".join(above[above.index(path):])}')
    for base in Config._get_base_files(path):
        if '::' not in base:
            inner = os.path.join(os.path.dirname(path), base)
            if os.path.isfile(inner):
                check_bases(os.path.normpath(inner), (*above, path))


def class_of(cfg: Any, registry: Registry) -> type | None:
    """The class of a config: a type may be given by name, or be the class."""
    kind = cfg.get('type') if isinstance(cfg, dict) else type(cfg)
    found = registry.get(kind) if isinstance(kind, str) else kind
    return found if isinstance(found, type) else None


def class_in(registry: Registry, kind: Any) -> Any:
    """What builds a ``type`` in the default scope; None: nothing does."""
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    with registry.switch_scope_and_registry(None) as here:
        return here.get(kind)


def names_in(kind: str) -> list[str]:
    """All that is registered under the name of a registry, in any scope."""
    registries = [r for r in vars(root).values() if isinstance(r, Registry)]
    return sorted({
        name
        for r in registries if r.name == kind
        for part in (r, *r.children.values()) for name in part.module_dict
    })


def is_kind(cfg: Any, registry: Registry, kinds: Any) -> bool:
    """Is it of one of these classes, or of one derived from them?"""
    found = class_of(cfg, registry)
    return found is not None and issubclass(found, kinds)


def type_name(cfg: Any) -> str:
    """Name of the class that a config is of, without its module."""
    kind = cfg.get('type', '') if isinstance(cfg, dict) else type(cfg)
    name = kind if isinstance(kind, str) else getattr(kind, '__name__', '')
    return name.rpartition('.')[2]


def as_list(value: Any) -> list[Any]:
    """What a config may give as one or as a list of several, as a list."""
    if not value:
        return []
    return value if isinstance(value, list) else [value]
