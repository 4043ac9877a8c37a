"""SRD, the role of the projector (Miles and Mikolajczyk, AAAI 2024).

After "Understanding the Role of the Projector in Knowledge Distillation" and
roymiles/Simple-Recipe-Distillation: ``OurDistillationLoss`` of its ImageNet
code, ``DistillationLoss`` of its DeiT code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses._functional import (check_choice, check_form, check_least,
                                       input_of, mask_invalid, number_of,
                                       power_sums, prepare, valid_positions)
from seg_kd.losses._maps import MapLoss, convolution

SAMPLE = 4096  # positions, at most, that the correlation is measured on
CHANNELS = 64  # and about so many channels of each map


class SRDLoss(MapLoss):
    r"""The teacher's map against the student's through a projector.

    .. math::
        \log \Bigl( \operatorname{mean}_{j, c}
        \bigl| \mathrm{BN}(P S) - \mathrm{BN}(T) \bigr|_{jc}^\alpha
        + \text{floor} \Bigr)

    :math:`j` runs over the valid positions of the batch, :math:`P` is
    trained with the student, BN has no parameters and the statistics of these
    positions, in training and evaluation. The log of a sum of high powers is
    a soft maximum: what is worst counts most, yet saturates.

    The authors' form, ``form='paper'``, is on vectors, one an image (here the
    mean over its valid positions), and has a sum in place of the mean. At as
    many vectors it is larger by the log of their number times ``Ct``. They
    give it the weight 2, next to a KL of the logits at temperature 1. With one
    image BN leaves nothing of it.

    Args:
        student_channels: ``Cs``.
        teacher_channels: ``Ct``.
        projector: ``'linear'`` (a 1x1 conv), ``'mlp'`` (two with ReLU
            between), or ``'none'`` for equal channels.
        norm: Of both maps before they are compared: ``'batch'``, ``'l2'``
            (each position by its length), or ``'none'``.
        form: ``'dense'`` or ``'paper'``.
        alpha: Power of the differences. Authors: 4. With ``log=False`` 1 and
            2 make it a mean absolute and a mean squared error.
        log: Take the logarithm, as the authors do.
        correlate: Compare channels, as the authors' code for DeiT does: the
            correlation of a channel of student and teacher, and 1, take the
            place of the two maps.
        hidden_channels: Of the MLP; the teacher's by default.
        eps: Of BN. ImageNet code: 1e-4, DeiT code: 0.
        floor: Added under the logarithm. DeiT code: 1e-5, ImageNet code: 0;
            equal maps then give that of the least normal float32, about -87.

    Attributes:
        correlation: Mean absolute correlation of a channel before the
            projector with one after it, over positions (at most 4096) and
            channels (about 64 of each) of the last forward. The paper watches
            it fall while projectors train, and finds that a projector which
            decorrelates more teaches less.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``, without a unit
        where there is BN; from ``log(floor)`` up. Without a valid position it
        is 0. The dense form does not grow with batch, crop or channels.

    Raises:
        ValueError: For another ``form``, ``projector`` or ``norm``, alpha
            below 1, a negative floor, or maps that do not fit.
    """

    shown = 'norm', 'form', 'alpha', 'log', 'correlate'

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 projector: str = 'linear',
                 norm: str = 'batch',
                 form: str = 'dense',
                 alpha: float = 4.,
                 log: bool = True,
                 correlate: bool = False,
                 hidden_channels: int | None = None,
                 eps: float = 1e-4,
                 floor: float = 1e-5) -> None:
        super().__init__(student_channels, teacher_channels)
        check_form(form)
        check_choice('projector', projector, 'linear', 'mlp', 'none')
        check_choice('norm', norm, 'batch', 'l2', 'none')
        check_least('alpha', alpha)
        if projector == 'none' and student_channels != teacher_channels:
            raise ValueError(
                f'{student_channels} channels cannot be compared with '
                f"{teacher_channels} without a projector: projector='linear'")
        if floor < 0:
            raise ValueError(f'floor must not be negative, but is {floor}')
        self.projector = make_projector(projector,
                                        student_channels,
                                        hidden_channels or teacher_channels,
                                        teacher_channels,
                                        bias=norm != 'batch')
        self.norm, self.form, self.eps = norm, form, eps
        self.alpha, self.log, self.floor = alpha, log, floor
        self.correlate = correlate
        self.correlation: Tensor | None = None

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        student = input_of(self, student, mask)
        valid = valid_positions(student, mask)
        if self.form == 'paper':  # one vector an image
            shown = valid_positions(teacher, mask)
            teacher = image_means(teacher.to(student.dtype), shown)
            student = image_means(student, valid)
            mask = shown.flatten(1).any(1)[:, None, None]
            valid = mask
        projected = self.projector(student)
        self.correlation = mean_correlation(student, projected, valid)
        return self._distance(
            *prepare(projected, teacher, mask, is_finite=True))

    def _distance(self, student: Tensor, teacher: Tensor,
                  valid: Tensor) -> Tensor:
        count = number_of(valid)
        student, teacher = (self._normalize(x, valid, count)
                            for x in (student, teacher))
        if self.correlate:
            student = (student * teacher).sum((0, 2, 3)) / count
            gap, count = student - 1, 1
        else:
            gap = student - teacher
        channels = student.shape[0 if self.correlate else 1]
        total = power_sums(gap, self.alpha).sum(dtype=torch.double)
        if self.form == 'dense':
            total = total / (count * channels)
        if self.log:  # finite, and flat, where nothing differs
            least = torch.finfo(torch.float32).tiny
            total = (total + self.floor).clamp(min=least).log()
        return total.to(gap.dtype) * valid.any()

    def _normalize(self, x: Tensor, valid: Tensor, count: Tensor) -> Tensor:
        if self.norm == 'batch':
            return standardize(x, valid, self.eps, count)
        x = mask_invalid(x, valid.unsqueeze(1))
        return F.normalize(x) if self.norm == 'l2' else x


def make_projector(kind: str, student: int, hidden: int, teacher: int,
                   bias: bool) -> nn.Module:
    """``bias`` of the last layer: batch norm would undo it."""
    if kind == 'none':
        return nn.Identity()
    if kind == 'linear':
        return convolution(student, teacher, bias=bias)
    return nn.Sequential(convolution(student, hidden, bias=True),
                         nn.ReLU(inplace=True),
                         convolution(hidden, teacher, bias=bias))


def image_means(x: Tensor, valid: Tensor) -> Tensor:
    """``(N, C, H, W), (N, H, W) -> (N, C, 1, 1)``, over valid positions."""
    total = mask_invalid(x, valid.unsqueeze(1)).sum((2, 3), keepdim=True)
    count = valid.sum((1, 2)).clamp(min=1)
    return total / count[:, None, None, None]


def standardize(x: Tensor,
                valid: Tensor,
                eps: float,
                count: Tensor | None = None) -> Tensor:
    """Batch norm over the valid positions, without parameters; 0 elsewhere.

    ``count`` is their number, where it is known.

    Shape:
        ``(N, C, H, W), (N, H, W) -> (N, C, H, W)``.
    """
    there = valid.unsqueeze(1)
    count = number_of(valid) if count is None else count
    count = count.to(x.dtype)
    x = mask_invalid(x, there)
    mean = x.sum((0, 2, 3), keepdim=True) / count
    x = mask_invalid(x - mean, there)
    variance = x.square().sum((0, 2, 3), keepdim=True) / count
    return x * (variance + eps).clamp(min=1e-24).rsqrt()


@torch.no_grad()
def mean_correlation(x: Tensor, y: Tensor, valid: Tensor) -> Tensor:
    """Mean of ``|corr(x_i, y_j)|`` over pairs of channels.

    Over at most ``SAMPLE`` positions and less than twice ``CHANNELS`` channels
    of each, evenly spread: a mean over thousands of pairs needs no more. A
    channel that does not vary is correlated with none.

    Shape:
        ``(N, C, H, W), (N, D, H, W), (N, H, W) -> ()``, from 0 to 1.
    """
    step = max(1, round((valid.numel() / SAMPLE)**.5))
    x, y = (z[:, ::max(1, z.shape[1] // CHANNELS)] for z in (x, y))
    x, y, valid = (z[..., ::step, ::step] for z in (x, y, valid))
    count = number_of(valid)
    x, y = (standardize(z, valid, 0., count).flatten(2) for z in (x, y))
    product = (x @ y.mT).sum(0)
    return product.abs().mean() / count
