"""SRD, the role of the projector (Miles and Mikolajczyk, AAAI 2024).

After "Understanding the Role of the Projector in Knowledge Distillation" and
roymiles/Simple-Recipe-Distillation: ``OurDistillationLoss`` of its ImageNet
code, ``DistillationLoss`` of its DeiT code.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses._functional import (check_channels, full_precision,
                                       mask_invalid, mask_nonfinite, number_of,
                                       prepare, valid_positions)

FORMS = ('dense', 'paper')
PROJECTORS = ('linear', 'mlp', 'none')
NORMS = ('batch', 'l2', 'none')
SAMPLE = 4096  # positions, at most, that the correlation is measured on
CHANNELS = 64  # and about so many channels of each map


class SRDLoss(nn.Module):
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
        super().__init__()
        for name, value, known in (('form', form, FORMS),
                                   ('projector', projector,
                                    PROJECTORS), ('norm', norm, NORMS)):
            if value not in known:
                raise ValueError(f'{name} must be one of {known}, not '
                                 f'{value!r}')
        if projector == 'none' and student_channels != teacher_channels:
            raise ValueError(
                f'{student_channels} channels cannot be compared with '
                f"{teacher_channels} without a projector: projector='linear'")
        if floor < 0:
            raise ValueError(f'floor must not be negative, but is {floor}')
        if not alpha >= 1:
            raise ValueError(f'alpha must be at least 1, not {alpha}')
        self.channels = dict(student=student_channels,
                             teacher=teacher_channels)
        self.projector = make_projector(projector,
                                        student_channels,
                                        hidden_channels or teacher_channels,
                                        teacher_channels,
                                        bias=norm != 'batch')
        self.norm, self.form, self.eps = norm, form, eps
        self.alpha, self.log, self.floor = alpha, log, floor
        self.correlate = correlate
        self.correlation: Tensor | None = None

    def extra_repr(self) -> str:
        return (f'norm={self.norm!r}, form={self.form!r}, '
                f'alpha={self.alpha:g}, log={self.log}, '
                f'correlate={self.correlate}')

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None) -> Tensor:
        check_channels(student, 'student', self.channels['student'])
        check_channels(teacher, 'teacher', self.channels['teacher'])
        with full_precision(teacher):
            student, teacher, mask = self._inputs(student, teacher, mask)
            projected = self.projector(student)
            self.correlation = mean_correlation(student, projected,
                                                valid_positions(student, mask))
            return self._compare(*prepare(projected, teacher, mask))

    def _inputs(self, student: Tensor, teacher: Tensor, mask: Tensor | None):
        """In the projector's precision; in the paper's form one an image."""
        dtype = torch.promote_types(student.dtype, torch.float32)
        for parameter in self.projector.parameters():
            dtype = parameter.dtype
        student = mask_nonfinite(student.to(dtype), mask)
        teacher = teacher.to(dtype)
        if self.form == 'paper':
            valid = valid_positions(teacher, mask)
            student = image_means(student, valid_positions(student, mask))
            teacher = image_means(teacher, valid)
            mask = valid.flatten(1).any(1)[:, None, None]
        return student, teacher, mask

    def _compare(self, student: Tensor, teacher: Tensor,
                 valid: Tensor) -> Tensor:
        count = number_of(valid)
        student, teacher = (self._normalize(x, valid)
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

    def _normalize(self, x: Tensor, valid: Tensor) -> Tensor:
        if self.norm == 'batch':
            return standardize(x, valid, self.eps)
        x = mask_invalid(x, valid.unsqueeze(1))
        return F.normalize(x) if self.norm == 'l2' else x


def power_sums(gap: Tensor, alpha: float) -> Tensor:
    """``|gap| ** alpha``, added up over positions, and no map of powers."""
    axes = tuple(range(2, gap.dim()))
    return torch.linalg.vector_norm(gap, alpha, dim=axes).pow(alpha)


def make_projector(kind: str, student: int, hidden: int, teacher: int,
                   bias: bool) -> nn.Module:
    """``bias`` of the last layer: batch norm would undo it."""
    if kind == 'none':
        return nn.Identity()
    if kind == 'linear':
        return nn.Conv2d(student, teacher, 1, bias=bias)
    return nn.Sequential(nn.Conv2d(student, hidden, 1), nn.ReLU(inplace=True),
                         nn.Conv2d(hidden, teacher, 1, bias=bias))


def image_means(x: Tensor, valid: Tensor) -> Tensor:
    """``(N, C, H, W), (N, H, W) -> (N, C, 1, 1)``, over valid positions."""
    total = mask_invalid(x, valid.unsqueeze(1)).sum((2, 3), keepdim=True)
    count = valid.sum((1, 2)).clamp(min=1)
    return total / count[:, None, None, None]


def standardize(x: Tensor, valid: Tensor, eps: float) -> Tensor:
    """Batch norm over the valid positions, without parameters; 0 elsewhere.

    Shape:
        ``(N, C, H, W), (N, H, W) -> (N, C, H, W)``.
    """
    keep, count = valid.unsqueeze(1), number_of(valid).to(x.dtype)
    x = mask_invalid(x, keep)
    mean = x.sum((0, 2, 3), keepdim=True) / count
    x = mask_invalid(x - mean, keep)
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
    x, y = (standardize(z, valid, 0.).flatten(2) for z in (x, y))
    product = sum(a @ b.T for a, b in zip(x, y))
    return product.abs().mean() / number_of(valid)
