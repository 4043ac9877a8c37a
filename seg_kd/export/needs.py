"""Which classes a config can name only where this package is installed."""
import ast
import functools
import inspect
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import mmseg.registry
from mmengine.registry import Registry

from seg_kd.registry import class_of

OURS = __name__.split('.')[0]
REGISTRIES = [
    found for found in vars(mmseg.registry).values()
    if isinstance(found, Registry)
]
_LIBRARIES = {'albumentations', 'mmcv', 'mmengine', 'mmseg', 'torch'}


def module_of_ours(cfg: Any, registry: Registry) -> str:
    """The module that a config's type comes from, if it needs this package.

    That is one of ours, or one of the user's that imports one of ours. Empty
    for what MMSegmentation has itself, and for types that nobody has.
    """
    kind = class_of(cfg, registry)
    return '' if kind is None else _needs(kind.__module__)


@functools.cache
def _needs(module: str) -> str:
    root = module.split('.')[0]
    if root in _LIBRARIES or module not in sys.modules:
        return ''
    return module if root == OURS or _imports_ours(module) else ''


def _imports_ours(module: str) -> bool:
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, TypeError):  # of an interactive session, say
        return False
    return any(
        name.split('.')[0] == OURS for node in ast.walk(tree)
        for name in _imported(node))


def _imported(node: ast.AST) -> Iterable[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or '']
    return []


def without_ours(imports: Iterable[str]) -> list[str]:
    """Those of a config's ``custom_imports`` that do without this package."""
    return [
        name for name in imports if name.split('.')[0] != OURS
        and not (name in sys.modules and _imports_ours(name))
    ]


def typed(node: Any, path: str = '') -> Iterator[tuple[str, dict]]:
    """Every dict with a ``type``, and where it stands."""
    if isinstance(node, dict):
        if 'type' in node:
            yield path, node
        items: Iterable = node.items()
    elif isinstance(node, (list, tuple)):
        items = enumerate(node)
    else:
        return
    for key, value in items:
        yield from typed(value, f'{path}.{key}' if path else str(key))


def first_of_ours(node: Any, path: str = '') -> tuple[str, str, str] | None:
    """Path, type and module of the first that needs this package."""
    for where, cfg in typed(node, path):
        for registry in REGISTRIES:
            module = module_of_ours(cfg, registry)
            if module:
                return where, str(cfg['type']), module
    return None
