"""The methods whose hook is nothing but its loss and its usual taps."""
from typing import Any

from .distill import DistillHook, Path

LOGITS = 'decode_head.conv_seg'  # of every head of MMSegmentation


class LogitHook(DistillHook):
    """Base of methods on logits: tapped where the heads classify.

    Args:
        student: Layer path of the student's logits.
        teacher: Of the teacher's.
        settings: Of :class:`DistillHook`, and of the loss.
    """

    def __init__(self,
                 student: Path = LOGITS,
                 teacher: Path = LOGITS,
                 **settings: Any) -> None:
        super().__init__(student, teacher, **settings)
