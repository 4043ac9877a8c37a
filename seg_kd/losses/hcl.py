"""Hierarchical context loss of ReviewKD (Chen et al., CVPR 2021).

Follows ``hcl`` of dvlab-research/ReviewKD; it is the same function in its
CIFAR, ImageNet and detection code, and in RuipingL/TransKD. See "dense".
"""
from collections.abc import Sequence
from functools import reduce
from operator import add

import torch
from torch import Tensor

from seg_kd.losses._functional import (Maps, check_equal, check_least,
                                       constant, full_precision, inverse,
                                       layer_pairs, parts, prepare, tiles,
                                       with_gradient)
from seg_kd.losses._maps import Loss

GRIDS = (4, 2, 1)  # of the authors


class HCLLoss(Loss):
    r"""Mean squared difference of two maps, and of coarser ones.

    .. math::
        \frac{1}{\sum_k 2^{-k}} \sum_k 2^{-k}
        \operatorname{mean} (P_k S - P_k T)^2

    :math:`P_0` leaves the map as it is; :math:`P_1, P_2, \ldots` average it
    to grids of 4 x 4, 2 x 2 and 1 x 1 cells. A grid that is not coarser than
    the map is left out, also of the divisor. Several levels are added up.
    Without a mask this is the authors' arithmetic: one form serves both.

    Dense: with a mask, a cell is the mean of its valid positions, and counts
    in the mean over cells by the share of its positions that are valid: one
    that is nearly all ignored says little, and an empty one nothing. The
    full map counts valid positions alone. The authors compare a grid with
    the height only; here it must be below the shorter side.

    The gradient is found together with the value, and cannot be
    differentiated again.

    Args:
        grids: Cells a side, in the order of the weights 1/2, 1/4, ...

    Shape:
        ``(N, C, h, w), (N, C, H, W), (N, ., .) -> ()``, or lists of as many
        maps. A student on another grid is resized to the teacher's. In
        squared teacher units; the first term does not depend on the crop.

    Raises:
        ValueError: For grids below 1, unequal channels, batches or numbers
            of levels, maps that are not 4-d, or a mask that is not ``(N, .,
            .)`` bool.
    """

    shown = ('grids', )

    def __init__(self, grids: Sequence[int] = GRIDS) -> None:
        super().__init__()
        check_least('grids', grids)
        self.grids = tuple(grids)

    def forward(self,
                student: Maps,
                teacher: Maps,
                mask: Tensor | None = None) -> Tensor:
        pairs = layer_pairs(student, teacher)
        with full_precision(pairs[0][1]):
            return reduce(add, (self._level(*pair, mask) for pair in pairs))

    def _level(self, student: Tensor, teacher: Tensor,
               mask: Tensor | None) -> Tensor:
        student, teacher, valid = prepare(student, teacher, mask)
        check_equal(student, teacher, 'put an adapter between (ReviewKDLoss)')
        grids = tuple(g for g in self.grids if g < min(valid.shape[1:]))
        count = valid.sum(dtype=student.dtype).clamp(min=1)
        value, gradient = half_squares(student.detach(), teacher, valid,
                                       Cells(grids, valid, count))
        weights = sum(2.**-k for k in range(len(grids) + 1))
        mean = 2 / (weights * student.shape[1]) / count
        return mean * with_gradient(student, value, gradient)


@constant
def blocks(grids: tuple[int, ...], device: torch.device,
           dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Which pairs of rows are of one grid, and their weight.

    Shape:
        Both ``(G, G)``; 0 between two grids.
    """
    number = torch.arange(len(grids)).repeat_interleave(torch.tensor(grids))
    same = number == number[:, None]
    weight = same * 2.**-(number + 1)
    return same.to(device, dtype), weight.to(device, dtype)


class Cells:
    """All grids at once: ``rows @ map @ columns.T`` has their averages.

    They are blocks on the diagonal; what lies between them has factor 0.

    Attributes:
        rows: ``(G, H)``, G the sum of the grids' sides.
        columns: ``(G, W)``.
        factor: ``(N, G, G)``, of the squares of averages, so that they are
            worth their weight next to the sum of the map's own squares.
    """

    def __init__(self, grids: tuple[int, ...], valid: Tensor,
                 count: Tensor) -> None:
        self.rows, self.columns = (averages(size, grids, valid.device,
                                            count.dtype)
                                   for size in valid.shape[1:])
        share = self.rows @ valid.to(count.dtype) @ self.columns.T
        # mean of valid positions: 1 / share, squared; it counts share
        self.factor = inverse(share)
        if grids:
            same, weight = blocks(grids, valid.device, count.dtype)
            totals = same @ (share.sum(0) * same) @ same
            self.factor *= inverse(totals).mul_(weight).mul_(count)


@constant
def averages(size: int, grids: tuple[int, ...], device: torch.device,
             dtype: torch.dtype) -> Tensor:
    """One row a cell of ``adaptive_avg_pool2d``, for all grids in turn.

    Where ``size`` is no multiple, neighbours share a position.

    Shape:
        ``(G, size)``; each row adds up to 1.
    """
    cells = [(i * size // g, -(-(i + 1) * size // g)) for g in grids
             for i in range(g)]
    rows = torch.zeros(len(cells), size, dtype=torch.double)
    for row, (start, end) in zip(rows, cells):
        row[start:end] = 1 / (end - start)
    return rows.to(device, dtype)


@torch.no_grad()
def half_squares(student: Tensor, teacher: Tensor, valid: Tensor,
                 cells: Cells) -> tuple[Tensor, Tensor]:
    """Half the sum of all squares; its gradient with respect to student."""
    squares = []
    gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
    for s, t, skip, factor, out in parts(student, teacher, ~valid.unsqueeze(1),
                                         cells.factor.unsqueeze(1), gradient):
        size = s[..., 0, :, :].numel()
        for tile in tiles(size, s.shape[-3], s.device):  # of channels
            gap = out[..., tile, :, :]
            torch.sub(s[..., tile, :, :], t[..., tile, :, :], out=gap)
            clear(gap, skip)
            squares.append(gap.square().sum())
            means = cells.rows @ gap @ cells.columns.T
            slope = means * factor
            squares.append((slope * means).sum())
            gap += cells.rows.T @ (slope @ cells.columns)
            clear(gap, skip)
    return torch.stack(squares).sum(dtype=torch.double) / 2, gradient


def clear(gap: Tensor, skip: Tensor) -> None:
    """Writes 0 where skipped; a CPU is fast at few places, one by one."""
    if gap.device.type == 'cpu':
        places = skip.flatten().nonzero().squeeze(1)
        gap.flatten(-2).index_fill_(-1, places, 0.)
    else:
        gap.masked_fill_(skip, 0.)
