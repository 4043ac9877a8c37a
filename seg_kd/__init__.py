"""seg_kd: knowledge distillation for semantic segmentation.

Importing the package imports nothing else. The losses, ``seg_kd.losses``, and
``Distiller``, ``Term`` and ``Teacher`` here need torch alone. What a config
can name is registered by :mod:`seg_kd.register`: a config says
``custom_imports=dict(imports=['seg_kd.register'])``, and every command does it
by itself.
"""
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seg_kd.distiller import Distiller, Term
    from seg_kd.teacher.teacher import Teacher

__version__ = '0.1.0'
__all__ = ['Distiller', 'Teacher', 'Term']

_PLACES = dict(Distiller='seg_kd.distiller',
               Term='seg_kd.distiller',
               Teacher='seg_kd.teacher.teacher')


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
