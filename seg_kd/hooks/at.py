"""Attention transfer as a hook, of activations or of gradients."""
from typing import Any

from torch import nn

from seg_kd.distiller import Path, Requests, Term, in_list, paths
from seg_kd.errors import UserError
from seg_kd.hooks.distill import DistillHook
from seg_kd.hooks.methods import LOGITS
from seg_kd.losses import ATLoss
from seg_kd.networks.auto_weight import total
from seg_kd.registry import HOOKS
from seg_kd.teacher.task_gradients import gradients

MODES = ('activation', 'gradient')


class GradientTerm(Term):
    """Compares gradients of the two tasks at the maps, not the maps.

    An image without labels has no task, and does not count.

    Args:
        teacher_logits: Path of the logits of the teacher's task.
        settings: Of :class:`Term`.
    """

    by_label = True

    def __init__(self,
                 *settings: Any,
                 teacher_logits: str = LOGITS,
                 **more: Any) -> None:
        super().__init__(*settings, **more)
        self.teacher_logits = teacher_logits

    def requests(self, student: nn.Module) -> Requests:
        return Requests(paths(self.student),
                        paths(self.teacher),
                        self.teacher_logits,
                        student_gradients=True)

    def compared(self, student, teacher, step, task):
        if step.labelled is None:
            raise UserError(f'{self.name}: gradients of the task need labels, '
                            'and these images have none')
        own = gradients(total(task) * step.labelled.sum(),
                        dict(zip(paths(self.student), in_list(student))),
                        'student',
                        create_graph=True)
        return list(own.values()), [
            step.gradients[self.teacher_logits, path]
            for path in paths(self.teacher)
        ]


@HOOKS.register_module()
class ATHook(DistillHook):
    """Attention transfer (Zagoruyko and Komodakis, 2017): :class:`ATLoss`.

    With ``mode='gradient'`` the loss compares not the tapped maps F, but the
    gradients ``dL/dF`` of each network's own task: of the student's losses as
    they are, through which the gradient of the term passes a second time, and
    of the teacher's cross entropy on the same labels. Both are times the
    number of valid pixels, so that they do not depend on crop and batch. The
    paper takes the gradient with respect to the image:
    ``student=teacher='backbone:input'`` with ``form='jacobian'``. Layers above
    the tap must be differentiable twice; SyncBN, ``with_cp`` and
    ``torch.compile`` are not. The teacher's activations are kept from its tap
    on, but from its first layer on where the path has an index:
    ``'backbone.layer4'`` is leaner than ``'backbone[3]'``.

    Args:
        student: Layer path, or several.
        teacher: As many in the teacher.
        mode: ``'activation'`` or ``'gradient'``.
        teacher_logits: Where the teacher classifies; for gradients only.
        settings: Of :class:`DistillHook` and of the loss (``form``, ``p``).
    """

    loss_cls = ATLoss

    def __init__(self,
                 student: Path,
                 teacher: Path,
                 mode: str = 'activation',
                 teacher_logits: str = LOGITS,
                 **settings: Any) -> None:
        if mode not in MODES:
            raise UserError(f'mode must be one of {MODES}, not {mode!r}')
        if mode == 'gradient':
            self.term_cls = GradientTerm
            settings['teacher_logits'] = teacher_logits
        super().__init__(student, teacher, **settings)
