"""MMEngine hooks: the teacher, and one hook a distillation method."""
from .distill import DistillHook
from .ka import KAHook
from .seed import SeedHook
from .teacher import TeacherHook
from .translator import TranslatorHook

__all__ = [
    'DistillHook', 'KAHook', 'SeedHook', 'TeacherHook', 'TranslatorHook'
]
