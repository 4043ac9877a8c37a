"""Head network distillation as a hook."""
from typing import Any

from mmengine.logging import print_log
from torch import nn

from seg_kd.distiller import Requests, Term
from seg_kd.errors import UserError
from seg_kd.hooks.distill import DistillHook
from seg_kd.losses import HNDLoss
from seg_kd.registry import HOOKS


class SplitTerm(Term):
    """At the split of the student, which gets the teacher's tail.

    Args:
        masked: See :class:`HNDHook`.
    """

    def __init__(self,
                 *settings: Any,
                 masked: bool = False,
                 **more: Any) -> None:
        super().__init__(*settings, **more)
        self.masked = masked

    def requests(self, student: nn.Module) -> Requests:
        if not hasattr(student, 'take_tail'):
            raise UserError('HNDHook trains the head of a SplitSegmentor, '
                            f'not a {type(student).__name__}: see '
                            'configs/hnd_deeplab.py')
        self.student, self.teacher = 'backbone', student.split_path
        return Requests([self.student], [self.teacher],
                        weights=student.take_tail)

    def build_loss(self, student, teacher):
        print_log(
            f'The teacher is split behind {self.teacher}, {tuple(teacher)}; '
            'the tail has its weights and is frozen', 'current')
        return super().build_loss(student, teacher)

    def compute(self, loss, student, teacher, step):
        mask = step.mask if self.masked else None
        return self.named(loss(student, teacher, mask))


@HOOKS.register_module()
class HNDHook(DistillHook):
    """Trains the head of a split network, see :class:`HNDLoss`.

    The model is a :class:`~seg_kd.split.SplitSegmentor`; where it is split
    is said there, so there are no layer paths to give. The hook fills its
    tail from the teacher, and the teacher then runs no further than to the
    split point.

    Args:
        masked: Leave out pixels without a label. By default all count: the
            method needs no labels.
        settings: Of :class:`DistillHook`, and of the loss.
    """

    loss_cls = HNDLoss
    term_cls = SplitTerm

    def __init__(self, masked: bool = False, **settings: Any) -> None:
        if settings.keys() & {'student', 'teacher'}:
            raise UserError('HNDHook: the split is said in the model, as '
                            'split=; leave student= and teacher= out')
        super().__init__((), (), masked=masked, **settings)  # in the model
