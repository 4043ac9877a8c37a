"""MMEngine hooks: the teacher, and one hook a distillation method."""
from .distill import DistillHook
from .finite import FiniteLossHook
from .ka import KAHook
from .seed import SeedHook
from .teacher import TeacherHook
from .translator import TranslatorHook

__all__ = [
    'DistillHook', 'FiniteLossHook', 'KAHook', 'SeedHook', 'TeacherHook',
    'TranslatorHook'
]
