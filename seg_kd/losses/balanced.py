"""The balanced map loss of agglomerative models (AM-RADIO, CVPR 2024).

After ``classification_pyt/distillation/loss.py`` of
NVIDIA/tao_pytorch_backend (``BalancedFeatureLoss``, ``ProjectionMLP``).
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses._functional import moments, prepare
from seg_kd.losses._maps import MapLoss

EPS = 1e-8  # of the cosine, as in the reference
SMALLEST = 1e-6  # standard deviation, relative to the largest channel's


class BalancedLoss(MapLoss):
    r"""Direction and, a little, size of the teacher's standardized vectors.

    .. math::
        \operatorname{mean}_j \bigl[ (1 - w)
        \bigl(1 - \cos(P(s)_j, \hat t_j)\bigr)
        + w \operatorname{mean}_c \mathrm{SmoothL1}_{\beta=2}
        (P(s)_{jc} - \hat t_{jc}) \bigr]

    :math:`j` runs over the valid positions of the batch, :math:`\hat t` is
    the teacher's map with each channel brought to mean 0 and variance 1, by
    the statistics of all valid positions that training has seen so far (over
    all processes). :math:`P` is the projector: a linear layer, then ``depth``
    residual blocks and the last layer, each LayerNorm, GELU and linear, on
    every position by itself; it is trained with the student.

    The reference rotates the standardized vectors by a Hadamard matrix as
    well and scales all channels alike (PHI-S); here each channel has its own
    scale, as for the plain standardization that its authors compare it with.
    It has no mask, and resizes with aligned corners.

    Args:
        student_channels: ``Cs``.
        teacher_channels: ``Ct``.
        size_weight: :math:`w`, the share of the smooth L1 term.
        width: Channels inside the projector.
        depth: Residual blocks in it; the reference takes 2.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``, per position, in
        units of the teacher's own deviation: it does not depend on batch,
        crop, channels or the teacher's scale. 0 without a valid position.

    Raises:
        ValueError: For a share outside 0 to 1, a width below 1, a negative
            depth, or maps that do not fit.
    """

    shown = ('size_weight', )

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 size_weight: float = .1,
                 width: int = 1024,
                 depth: int = 0) -> None:
        super().__init__(student_channels, teacher_channels)
        if not 0 <= size_weight <= 1:
            raise ValueError('size_weight is a share from 0 to 1, not '
                             f'{size_weight}')
        if width < 1 or depth < 0:
            raise ValueError('the projector needs a width of at least 1 and '
                             f'a depth of at least 0, not {width} and {depth}')
        self.size_weight = size_weight
        self.projector = Projector(student_channels, width, teacher_channels,
                                   depth)
        self.register_buffer('count', torch.zeros((), dtype=torch.double))
        self.register_buffer(
            'sums', torch.zeros(2, teacher_channels, dtype=torch.double))

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        student, teacher, valid = prepare(student, teacher, mask)
        shown = valid.unsqueeze(1)
        if self.training:
            count, *sums = moments(teacher, shown)
            self.count += count
            self.sums += torch.stack(sums)
        target = self._standardize(teacher.where(shown, 0.)).movedim(1, -1)
        found = self.projector(student.where(shown, 0.).movedim(1, -1))
        away = 1 - F.cosine_similarity(found, target, -1, EPS)
        size = F.smooth_l1_loss(found, target, reduction='none',
                                beta=2.).mean(-1)
        errors = (1 - self.size_weight) * away + self.size_weight * size
        return errors.where(valid, 0.).sum() / valid.sum().clamp(min=1)

    def _standardize(self, teacher: Tensor) -> Tensor:
        mean, square = self.sums / self.count.clamp(min=1)
        deviation = (square - mean.square()).clamp(min=0).sqrt()
        # a channel that never moves says nothing: it stays near 0
        least = SMALLEST * deviation.max()
        deviation = deviation.clamp(min=least).clamp(min=EPS)
        mean, deviation = (x.to(teacher)[:, None, None]
                           for x in (mean, deviation))
        return (teacher - mean) / deviation


class Projector(nn.Module):
    """``(..., inputs) -> (..., outputs)``, see :class:`BalancedLoss`."""

    def __init__(self, inputs: int, width: int, outputs: int,
                 depth: int) -> None:
        super().__init__()
        self.first = nn.Linear(inputs, width)
        self.blocks = nn.ModuleList(block(width, width) for _ in range(depth))
        self.last = block(width, outputs)
        nn.init.zeros_(self.last[-1].bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for residual in self.blocks:
            x = x + residual(x)
        return self.last(x)


def block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.LayerNorm(inputs), nn.GELU(),
                         nn.Linear(inputs, outputs))
