"""VID, variational information distillation (Ahn et al., CVPR 2019).

After ``distiller_zoo/VID.py`` of HobbitLong/RepDistiller, which has it from
the authors.
"""
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses._functional import (channel_errors, check_form, input_of,
                                       mask_nonfinite)
from seg_kd.losses._maps import MapLoss, convolution


class VIDLoss(MapLoss):
    r"""How badly the student predicts the teacher, as Gaussian likelihood.

    .. math::
        \tfrac12 \operatorname{mean}_{j, c} \Bigl[
        \frac{(\mu(S) - T)_{jc}^2}{\sigma_c^2} + \log \sigma_c^2 \Bigr],
        \qquad \sigma_c^2 = \operatorname{softplus}(a_c) + \epsilon

    :math:`j` runs over the valid positions of the batch; :math:`\mu`, three
    1x1 convolutions with ReLU between, and :math:`a` are trained with the
    student. The constant :math:`\log 2\pi / 2` is left out, as by the
    authors; the value can be negative.

    Dense: :math:`\mu(S)` is resized to the teacher's grid. The authors'
    code, ``form='paper'``, averages the larger map over the cells of the
    smaller grid (theirs must be square). The forms agree where grids do.

    Args:
        student_channels: ``Cs``.
        teacher_channels: ``Ct``.
        hidden_channels: Between the convolutions; the teacher's by default.
        form: ``'dense'`` or ``'paper'``.
        init_variance: First :math:`\sigma_c^2`, in squared teacher units.
        eps: Smallest :math:`\sigma_c^2`.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``, in nats per
        teacher activation: the value does not grow with batch, crop or
        channels. Without a valid position it is 0.

    Raises:
        ValueError: For another ``form``, an ``init_variance`` that is not
            above ``eps``, or maps that do not fit.
    """

    shown = 'form', 'eps'

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 hidden_channels: int | None = None,
                 form: str = 'dense',
                 init_variance: float = 5.,
                 eps: float = 1e-5) -> None:
        super().__init__(student_channels, teacher_channels)
        check_form(form)
        if not init_variance > eps:
            raise ValueError('init_variance must be above eps, not '
                             f'{init_variance} with eps {eps}')
        hidden = hidden_channels or teacher_channels
        self.mean = nn.Sequential(convolution(student_channels, hidden),
                                  nn.ReLU(inplace=True),
                                  convolution(hidden, hidden),
                                  nn.ReLU(inplace=True),
                                  convolution(hidden, teacher_channels))
        raw = math.log(math.expm1(init_variance - eps))  # inverse softplus
        self.raw_variance = nn.Parameter(torch.full((teacher_channels, ), raw))
        self.form, self.eps = form, eps

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        student = input_of(self, student, mask)
        if self.form == 'paper':
            student, teacher = to_smaller_grid(student,
                                               mask_nonfinite(teacher, mask))
        errors, count = channel_errors(self.mean(student), teacher, mask)
        variance = F.softplus(self.raw_variance) + self.eps
        nll = (errors / variance + variance.log()).mean() / 2
        return nll * (count > 0)


def to_smaller_grid(student: Tensor, teacher: Tensor):
    """The larger of two maps, averaged over the cells of the smaller grid."""
    size = [min(a, b) for a, b in zip(student.shape[2:], teacher.shape[2:])]
    return [
        x if x.shape[2:] == torch.Size(size) else F.adaptive_avg_pool2d(
            x, size) for x in (student, teacher)
    ]
