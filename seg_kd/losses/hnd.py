"""HND, head network distillation (Matsubara et al., HotEdgeVideo 2019).

After "Distilled Split Deep Neural Networks for Edge-Assisted Real-Time
Systems" and its code, yoshitomo-matsubara/head-network-distillation: Adam
1e-3 on ``MSELoss(reduction='sum')``, no labels.
"""

import torch.nn.functional as F
from torch import Tensor

from seg_kd.losses._functional import (check_channels, check_choice,
                                       mask_invalid, number_of, prepare)
from seg_kd.losses._maps import MapLoss


class HNDLoss(MapLoss):
    r"""Squared distance of the student's head and the teacher's, at the split.

    .. math:: \operatorname{mean}_{n,c,y,x} (S - T)^2

    over valid positions :math:`(n, y, x)` and all channels. The paper's form,
    ``reduction='sum'``, is the sum in place of the mean: larger by the factor
    valid positions x channels, so its value and the right learning rate
    depend on batch and crop (Adam's steps do not).

    The student has the teacher's channels already, because the teacher's
    tail runs on its output: there is no adapter.

    Args:
        reduction: ``'mean'``, or ``'sum'`` as in the paper.

    Shape:
        ``(N, C, h, w), (N, C, H, W), (N, ., .) -> ()``, in squared teacher
        units. A student on another grid is resized to the teacher's. The
        mean does not depend on batch or crop.

    Raises:
        ValueError: For another reduction, unequal channels or batches, maps
            that are not 4-d, or a mask that is not ``(N, ., .)`` bool.
    """

    shown = ('reduction', )

    def __init__(self, reduction: str = 'mean') -> None:
        super().__init__()
        check_choice('reduction', reduction, 'mean', 'sum')
        self.reduction = reduction

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        check_channels(student, 'student', teacher.shape[1])
        student, teacher, valid = prepare(student, teacher, mask)
        total = F.mse_loss(*(mask_invalid(x, valid.unsqueeze(1))
                             for x in (student, teacher)),
                           reduction='sum')
        if self.reduction == 'sum':
            return total
        count = number_of(valid) * student.shape[1]
        return (total / count).to(total.dtype)
