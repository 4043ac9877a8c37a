"""ICKD, inter-channel correlation (Liu et al., ICCV 2021).

Follows ADLab-AutoDrive/ICKD: ``ICKDLoss`` of its CIFAR code and ``ChSimLoss``
of its ImageNet code. Its code for segmentation was never released: the grid
is after the paper and the README.
"""

import torch
from torch import Tensor, nn

from seg_kd.losses._functional import (check_channels, full_precision, inverse,
                                       tiles, valid_positions, with_gradient)


class ICKDLoss(nn.Module):
    r"""How differently student and teacher correlate their channels.

    .. math::
        \operatorname{mean}_{n, g} \tfrac1C \sum_i
        \| \hat S_i - \hat T_i \|_2^2, \qquad \hat F_i = F_i / \|F_i\|, \quad
        F = f f'

    :math:`f` (C x P) is a cell g of the map of image n, :math:`\hat F_i` row
    i of its Gram matrix, of length 1. The student comes through a conv and BN
    to the teacher's channels C.

    Paper form: ``grid=(1, 1)`` is the value of the CIFAR code (weight 2.5).
    The ImageNet code has ``kernel_size=3`` and divides by the number of
    images N once more: its weight 500 is 500 / N here. For segmentation the
    authors cut the map into cells; on VOC they report with MobileNetV2 72.10
    mIoU for one cell, 72.26 for 4 x 4, 72.79 for 16 x 16 and 72.58 for 32 x
    32, with ResNet-18 74.14, 74.97, 74.74 and 75.01.

    Dense: a cell sees its valid positions, in each map those of that map's
    own grid (Gram matrices need not agree in positions: nothing is resized).
    The mean is over cells with a valid position in both maps. BN sees all.

    The gradient is found together with the value, cell by cell, from C x C
    matrices or, in small cells, from P x P ones; it cannot be differentiated
    again. A channel of zeros correlates with nothing: its row is zero.

    Args:
        student_channels: Of the student's map.
        teacher_channels: Of the teacher's map.
        grid: Rows and columns of cells; no more than the smaller map has.
        kernel_size: Of the conv. CIFAR: 1.

    Attributes:
        embed: The conv, without bias, and BN.

    Shape:
        ``(N, Cs, h, w), (N, C, H, W), (N, ., .) -> ()``, in squared cosines a
        channel: between 0 and 4, and 0 where all channels correlate alike. It
        depends on crop and stride only through what a cell shows.

    Raises:
        ValueError: For a grid below 1, an even ``kernel_size``, maps of other
            channels or batches, or a mask that is not ``(N, ., .)`` bool; in
            training also for a single 1x1 map, which BN cannot normalize.
    """

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 grid: tuple[int, int] = (4, 4),
                 kernel_size: int = 1) -> None:
        super().__init__()
        if min(grid) < 1 or kernel_size % 2 == 0:
            raise ValueError('grid must be at least 1 x 1 and kernel_size '
                             f'odd, not {grid} and {kernel_size}')
        self.channels = student_channels, teacher_channels
        self.grid = tuple(grid)
        self.embed = nn.Sequential(
            nn.Conv2d(student_channels,
                      teacher_channels,
                      kernel_size,
                      padding=kernel_size // 2,
                      bias=False), nn.BatchNorm2d(teacher_channels))

    def extra_repr(self) -> str:
        return f'grid={self.grid}'

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None) -> Tensor:
        self._check(student, teacher)
        with full_precision(teacher):
            student = self.embed(student.to(self.embed[0].weight.dtype))
            teacher = teacher.detach().to(student.dtype)
            value, gradient = self._batch(student.detach(), teacher, mask)
            return with_gradient(student, value, gradient)

    def _check(self, student: Tensor, teacher: Tensor) -> None:
        check_channels(student, 'student', self.channels[0])
        check_channels(teacher, 'teacher', self.channels[1])
        if len(student) != len(teacher):
            raise ValueError(f'student has {len(student)} images and teacher '
                             f'{len(teacher)}')
        if self.training and student[:, 0].numel() == 1:
            raise ValueError('BN cannot train on a single 1x1 map: use a '
                             'larger crop or batch')

    @torch.no_grad()
    def _batch(self, student: Tensor, teacher: Tensor,
               mask: Tensor | None) -> tuple[Tensor, Tensor]:
        """The loss and its derivative by the embedded student."""
        gradient = student.clone(memory_format=torch.contiguous_format)
        valid = [valid_positions(x, mask) for x in (student, teacher)]
        sizes = zip(self.grid, student.shape[2:], teacher.shape[2:])
        grid = [min(size) for size in sizes]
        value = student.new_zeros((), dtype=torch.double)
        count = valid[0].new_zeros((), dtype=torch.long)
        for s, t, *keep in zip(gradient, teacher, *valid):
            t = t.clone(memory_format=torch.contiguous_format)
            maps = clear_(s, keep[0]), clear_(t, keep[1]), *keep
            for cell in zip(*(cells(x, grid) for x in maps)):
                found, seen = compare_cell(*cell)
                value += found
                count += seen
        scale = 1 / (count.clamp(min=1).double() * student.shape[1])
        value = (value * scale).to(student.dtype)
        return value, gradient.mul_(scale)


def clear_(x: Tensor, valid: Tensor) -> Tensor:
    """Zero where not valid, in place; ``(C, H, W), (H, W)``, contiguous."""
    ignored = (~valid).flatten().nonzero().squeeze(1)
    x.view(len(x), -1).index_fill_(1, ignored, 0.)
    return x


def cells(x: Tensor, grid: list[int]) -> list[Tensor]:
    """Views of the cells of one map, ``(..., H, W)``, row by row."""
    return [
        cell for band in x.tensor_split(grid[0], -2)
        for cell in band.tensor_split(grid[1], -1)
    ]


def compare_cell(s: Tensor, t: Tensor, *keep: Tensor) -> tuple[Tensor, Tensor]:
    """Value of a cell, and whether it shows anything in both maps.

    The derivative by ``s`` replaces it.
    """
    seen = keep[0].any() & keep[1].any()
    slope = s.flatten(1)  # a copy, unless the cell is as wide as the map
    value = compare(slope, t.flatten(1))
    torch.mul(slope.view_as(s), seen, out=s)
    return value * seen, seen


def compare(s: Tensor, t: Tensor) -> Tensor:
    """``sum_i |S_i - T_i|^2`` of rows; the derivative by ``s`` replaces it.

    Shape:
        ``(C, P), (C, Q) -> ()``.
    """
    few = 4 * (s.shape[1] + t.shape[1]) <= len(s)
    return compare_positions(s, t) if few else compare_channels(s, t)


def compare_channels(s: Tensor, t: Tensor) -> Tensor:
    """From the Gram matrices as they are: three products of P C^2."""
    unit, length = unit_gram(s)
    gap = unit - unit_gram(t)[0]
    value = gap.square().sum(dtype=torch.double)
    slope = gap.addcmul_(unit, (gap * unit).sum(1, keepdim=True), value=-1)
    slope = slope.mul_(2 * length)
    slope = slope + slope.T
    for tile in tiles(len(s), s.shape[1], s.device):
        s[:, tile] = slope @ s[:, tile]
    return value


def unit_gram(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of length 1, and 1 over the lengths that they had."""
    gram = x @ x.T
    length = inverse(gram.norm(dim=1, keepdim=True))
    return gram.mul_(length), length


def compare_positions(s: Tensor, t: Tensor) -> Tensor:
    r"""The same without a C x C matrix: ten products of P^2 C.

    .. math::
        S_i T_i' = s_i (s't) t_i', \qquad
        |\hat S_i - \hat T_i|^2 = 2 - 2 \cos(S_i, T_i)

    in float64, since the two cancel where the rows nearly agree.
    """
    result, s, t = s, s.double(), t.double()
    ss, ts, tt = s @ (s.T @ s), t @ (t.T @ s), t @ (t.T @ t)
    length, other = (inverse((x * y).sum(1, keepdim=True).clamp(min=0).sqrt())
                     for x, y in ((s, ss), (t, tt)))
    cross = length * other
    cosine = cross * (ts * s).sum(1, keepdim=True)
    own = cosine * length.square()
    slope = ss * own - ts * cross
    slope += s @ (s.T @ (own * s)) - t @ (t.T @ (cross * s))
    result.copy_(2 * slope)
    return (length > 0).sum() + (other > 0).sum() - 2 * cosine.sum()
