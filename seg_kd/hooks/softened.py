"""A control: what KD would bring if the teacher knew no more than how sure."""
from typing import Any

import torch
from torch import Tensor, nn

from seg_kd.distiller import Term
from seg_kd.errors import UserError
from seg_kd.hooks.methods import LogitHook
from seg_kd.losses import KDLoss, match_size
from seg_kd.losses.instances import at_centres, resize_labels
from seg_kd.registry import HOOKS
from seg_kd.teacher.teacher import Step


class SoftenedTerm(Term):
    """KD from labels that are as soft as the teacher's probabilities.

    At each position the label has the teacher's greatest probability, the
    other classes have equal shares of the rest. Where the label is ignored it
    is what the student says, from which nothing is learnt; images without
    labels do not count.
    """
    by_label = True

    def compute(self, loss: nn.Module, student: Tensor, teacher: Tensor,
                step: Step) -> dict[str, Tensor]:
        if step.labels is None:
            raise UserError(f'{self.name}: labels are softened, and the batch '
                            'has none')
        softened = soften(teacher, step.labels.to(teacher.device),
                          loss.temperature)
        if step.labelled is not None:
            counts = at_centres(step.labelled.to(teacher.device),
                                (len(teacher), *teacher.shape[2:]))
            own = match_size(student.detach(), teacher)
            softened = softened.where(counts.unsqueeze(1), own)
        return super().compute(loss, student, softened, step)


def soften(teacher: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """Logits whose softmax at the temperature is the softened label.

    Shape:
        ``(N, K, H, W), (N, ., .) -> (N, K, H, W)``. What they are at ignored
        positions does not matter.
    """
    classes = teacher.shape[1]
    labels = resize_labels(labels, (len(teacher), *teacher.shape[2:]))
    labels = labels.where(labels < classes, 0).unsqueeze(1)
    sure = (teacher / temperature).softmax(1).amax(1, keepdim=True)
    rest = ((1 - sure) / (classes - 1)).clamp(min=torch.finfo(sure.dtype).tiny)
    softened = rest.expand_as(teacher).scatter(1, labels, sure)
    return temperature * softened.log()


@HOOKS.register_module()
class SoftenedLabelsHook(LogitHook):
    """Stands in the place of a ``KDHook``, with its settings.

    If it brings as much as KD does, what KD brought was regularization.
    """
    loss_cls = KDLoss
    term_cls = SoftenedTerm
    term_name = 'softened'

    def __init__(self, *args: Any, **settings: Any) -> None:
        if settings.get('activation') == 'sigmoid':
            raise UserError('labels are softened over classes that exclude '
                            "each other: activation='sigmoid' has none")
        super().__init__(*args, **settings)
