"""ICKD, inter-channel correlation (Liu et al., ICCV 2021).

Follows ADLab-AutoDrive/ICKD: ``ICKDLoss`` of its CIFAR code and ``ChSimLoss``
of its ImageNet code. Its code for segmentation was never released: the grid
is after the paper and the README.
"""
import torch
from torch import Tensor

from seg_kd.losses._functional import (EPS, check_norm, constant, input_of,
                                       inverse_root, keep, mask_invalid, unit,
                                       valid_positions)
from seg_kd.losses._maps import MapLoss
from seg_kd.losses.connector import connector_layers


class ICKDLoss(MapLoss):
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

    The value comes from C x C matrices or, in small cells, from P x P ones. A
    channel of zeros correlates with nothing: its row is zero.

    Args:
        student_channels: Of the student's map.
        teacher_channels: Of the teacher's map.
        grid: Rows and columns of cells; no more than the smaller map has.
        kernel_size: Of the conv. CIFAR: 1.
        connector: Of the student's map, see
            :func:`~seg_kd.losses.connector.connector_layers`.

    Attributes:
        embed: The connector; by default a conv without bias, and BN.

    Shape:
        ``(N, Cs, h, w), (N, C, H, W), (N, ., .) -> ()``, in squared cosines a
        channel: between 0 and 4, and 0 where all channels correlate alike. It
        depends on crop and stride only through what a cell shows.

    Raises:
        ValueError: For a grid below 1, another ``connector``, an even
            ``kernel_size``, maps of other
            channels or batches, or a mask that is not ``(N, ., .)`` bool; in
            training also for a single 1x1 map, which BN cannot normalize.
    """

    shown = ('grid', )

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 grid: tuple[int, int] = (4, 4),
                 kernel_size: int = 1,
                 connector: str = 'bn') -> None:
        super().__init__(student_channels, teacher_channels)
        if min(grid) < 1:
            raise ValueError(f'grid must be at least 1 x 1, not {grid}')
        self.grid = tuple(grid)
        self.embed = connector_layers(connector, student_channels,
                                      teacher_channels, kernel_size)

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        check_norm(self, student)
        student = self.embed(input_of(self, student, mask))
        teacher = teacher.detach().to(student.dtype)
        valid = [valid_positions(x, mask) for x in (student, teacher)]
        maps = [
            mask_invalid(x, there.unsqueeze(1))
            for x, there in zip((student, teacher), valid)
        ]
        sizes = zip(self.grid, student.shape[2:], teacher.shape[2:])
        grid = [min(size) for size in sizes]
        value, count = 0., 0
        cut = cells if teacher.device.type == 'cpu' else padded_cells
        for s, t, here, there in zip(*(cut(x, grid) for x in maps + valid)):
            seen = here.any(-1) & there.any(-1)
            value = value + (compare(s, t) * seen).sum()
            count = count + seen.sum()
        count = count.clamp(min=1).double() * teacher.shape[1]
        return (value / count).to(student.dtype)


def cells(x: Tensor, grid: list[int]) -> list[Tensor]:
    """The cells of maps ``(..., H, W)``, row by row: each ``(..., P)``."""
    return [
        cell.flatten(-2) for band in x.tensor_split(grid[0], -2)
        for cell in band.tensor_split(grid[1], -1)
    ]


def padded_cells(x: Tensor, grid: list[int]) -> list[Tensor]:
    """The cells of maps ``(N, ..., H, W)`` as one: ``(N, G, ..., P)``.

    For a GPU, whose kernels are to be worth their launch. Where a cell is
    smaller than the largest, 0 takes the place of what it lacks.
    """
    for axis, count in (-1, grid[1]), (-2, grid[0]):
        if x.shape[axis] % count:
            index, inside = places(x.shape[axis], count, x.device)
            x = x.index_select(axis, index)
            x = keep(x, inside.view([-1] + [1] * (-1 - axis)))
        x = x.unflatten(axis, (count, -1)).movedim(axis - 1, 1)
    return [x.flatten(1, 2).flatten(-2)]


@constant
def places(size: int, count: int,
           device: torch.device) -> tuple[Tensor, Tensor]:
    """Of each cell of a side as many positions, and which are its own.

    Both are ``(count * largest,)``.
    """
    least, more = divmod(size, count)
    at = torch.arange(count, device=device).unsqueeze(1)
    place = torch.arange(least + (more > 0), device=device)
    index = at * least + at.clamp(max=more) + place
    inside = place < least + (at < more).long()
    return index.clamp(max=size - 1).flatten(), inside.flatten()


def compare(s: Tensor, t: Tensor) -> Tensor:
    """``sum_i |S_i - T_i|^2`` of the rows of each map, in float64.

    Shape:
        ``(..., C, P), (..., C, Q) -> (...,)``.
    """
    few = 4 * (s.shape[-1] + t.shape[-1]) <= s.shape[-2]
    return compare_positions(s, t) if few else compare_channels(s, t)


def compare_channels(s: Tensor, t: Tensor) -> Tensor:
    """From the Gram matrices as they are."""
    gap = unit(s @ s.mT) - unit(t @ t.mT)
    return gap.square().sum((-2, -1), dtype=torch.double)


def compare_positions(s: Tensor, t: Tensor) -> Tensor:
    r"""The same without a C x C matrix, in small cells.

    .. math::
        S_i T_i' = s_i (s't) t_i', \qquad
        |\hat S_i - \hat T_i|^2 = 2 - 2 \cos(S_i, T_i)

    in float64, since the two cancel where the rows nearly agree.
    """
    s, t = s.double(), t.double()
    ss, st, tt = (((x @ (x.mT @ y)) * y).sum(-1)
                  for x, y in ((s, s), (s, t), (t, t)))
    cosine = st * inverse_root(ss) * inverse_root(tt)
    alive = torch.stack((ss, tt)) > EPS**2
    return alive.sum((0, -1)) - 2 * cosine.sum(-1)
