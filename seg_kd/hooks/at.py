"""Attention transfer as a hook, of activations or of gradients."""
from typing import Any

from seg_kd.errors import UserError
from seg_kd.hooks.auto_weight import total
from seg_kd.hooks.distill import DistillHook, Path, in_list, paths
from seg_kd.hooks.methods import LOGITS
from seg_kd.losses import ATLoss
from seg_kd.registry import HOOKS
from seg_kd.teacher.task_gradients import gradients

MODES = ('activation', 'gradient')


@HOOKS.register_module()
class ATHook(DistillHook):
    """Attention transfer (Zagoruyko and Komodakis, 2017): :class:`ATLoss`.

    With ``mode='gradient'`` the loss compares not the tapped maps F, but the
    gradients ``dL/dF`` of each network's own task: of the student's losses as
    they are, through which the gradient of the term passes a second time, and
    of the teacher's cross entropy on the same labels. Both are times the
    number of valid pixels, so that they do not depend on crop and batch. The
    paper takes the gradient by the image: ``student=teacher='backbone:input'``
    with ``form='jacobian'``. Layers above the tap must be differentiable
    twice; SyncBN, ``with_cp`` and ``torch.compile`` are not. The teacher's
    activations are kept from its tap on, but from its first layer on where
    the path has an index: ``'backbone.layer4'`` is leaner than
    ``'backbone[3]'``.

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
        super().__init__(student, teacher, **settings)
        if mode not in MODES:
            raise UserError(f'mode must be one of {MODES}, not {mode!r}')
        self.mode = mode
        self.teacher_logits = teacher_logits if mode == 'gradient' else None

    def before_train(self, runner) -> None:
        super().before_train(runner)
        if self.mode == 'gradient':  # the image, say, asks for none by itself
            self._taps.leaves = set(paths(self.student))

    def compared(self, student, teacher, output):
        if self.mode == 'activation':
            return student, teacher
        source = self._source
        task = total({k: output[k] for k in output.keys() - source.terms})
        own = gradients(task * source.mask.sum(),
                        dict(zip(paths(self.student), in_list(student))),
                        'student',
                        create_graph=True)
        logits = self.teacher_logits
        return list(own.values()), [
            source.gradients[logits, path] for path in paths(self.teacher)
        ]
