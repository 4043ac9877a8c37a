"""Hierarchical context loss of ReviewKD (Chen et al., CVPR 2021).

Follows ``hcl`` of dvlab-research/ReviewKD; it is the same function in its
CIFAR, ImageNet and detection code, and in RuipingL/TransKD. See "dense".
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_kd.losses._functional import (Maps, check_equal, check_least,
                                       constant, full_precision, inverse,
                                       layer_pairs, number, parts, prepare,
                                       tiles, with_gradient)
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
            levels = [prepare(*pair, mask) for pair in pairs]
            for s, t, _ in levels:
                check_equal(s, t, 'put an adapter between (ReviewKDLoss)')
            students = [s for s, *_ in levels]
            cells = Cells(self.grids, students,
                          [valid for *_, valid in levels])
            value = torch.zeros_like(cells.scales[0])
            gradients = [
                add_squares(value, *level, *weights) for level, weights in zip(
                    levels, zip(cells.averages, cells.factors, cells.scales))
            ]
        return with_gradient(students, value, gradients, cells.scales)


class Cells:
    """The cells of all grids of all levels, and what they count.

    A level's loss is half of: the squares of its gap and, times ``factors``,
    of the gap's averages over the cells, summed, times ``scales``. Levels are
    weighed together, as there is little to do for each.

    Attributes:
        averages: ``(G, H * W)`` of each level: one row a cell, grid by grid.
        factors: ``(N, G, 1)`` of each level.
        scales: ``(levels,)``, in float64.
    """

    def __init__(self, grids: Sequence[int], students: Sequence[Tensor],
                 valid: Sequence[Tensor]) -> None:
        device, dtype = students[0].device, students[0].dtype
        sizes = [tuple(x.shape[1:]) for x in valid]
        kept = tuple(tuple(g for g in grids if g < min(x)) for x in sizes)
        rows = [averages(*x, device, dtype) for x in zip(sizes, kept)]
        shares = [x.flatten(1).to(dtype) @ r.T for x, r in zip(valid, rows)]
        # of the cells of all levels, then of all levels
        share = torch.cat(
            [*(x[:, :-1] for x in shares), *(x[:, -1:] for x in shares)], 1)
        count = sum(len(x) - 1 for x in rows)
        channels = tuple(x.shape[1] for x in students)
        totals = sums(kept, channels, device) @ share.sum(0,
                                                          dtype=torch.double)
        inverses = inverse(totals[:share.shape[1]])
        # mean of valid positions: 1 / share, squared; it counts share
        factors = inverse(share[:, :count])
        factors *= inverses[:count] * totals[share.shape[1]:]
        self.averages = [x[:-1] for x in rows]
        self.factors = factors.unsqueeze(2).split(
            [len(x) for x in self.averages], 1)
        self.scales = inverses[count:]


@constant
def averages(size: tuple[int, int], grids: tuple[int, ...],
             device: torch.device, dtype: torch.dtype) -> Tensor:
    """One row a cell of ``adaptive_avg_pool2d``, for all grids in turn.

    Where ``size`` is no multiple, neighbours share a position.

    Shape:
        ``(G + 1, H * W)``; each row adds up to 1, but the last is all ones.
    """
    rows = [
        torch.kron(
            *(F.adaptive_avg_pool1d(torch.eye(length, dtype=torch.double), g).T
              for length in size)) for g in grids
    ]
    ones = torch.ones(1, size[0] * size[1], dtype=torch.double)
    return torch.cat([*rows, ones]).to(device, dtype)


@constant
def sums(grids: tuple[tuple[int, ...], ...], channels: tuple[int, ...],
         device: torch.device) -> Tensor:
    """Which shares make up which divisor, and which numerator.

    Shape:
        ``(cells + levels + cells, cells + levels)``: from the share of each
        cell and the count of each level, to what a cell and a level are
        divided by, and a cell multiplied with.
    """
    cells = sum(g * g for kept in grids for g in kept)
    divisors = torch.zeros(cells + len(grids), cells + len(grids))
    counts = torch.zeros(cells, cells + len(grids))
    start = 0
    for level, (kept, width) in enumerate(zip(grids, channels), cells):
        weights = [2.**-k for k in range(len(kept) + 1)]
        divisors[level, level] = width * sum(weights) / 2
        for g, weight in zip(kept, weights[1:]):
            grid = slice(start, start + g * g)
            divisors[grid, grid] = 1
            counts[grid, level] = weight
            start = grid.stop
    return torch.cat([divisors, counts]).to(device, torch.double)


@torch.no_grad()
def add_squares(value: Tensor, student: Tensor, teacher: Tensor, valid: Tensor,
                cells: Tensor, factor: Tensor, scale: Tensor) -> Tensor:
    """Adds the loss of a level; its gradient, but for ``scale``.

    Half a sum of squares is half its gradient times what is squared.
    """
    gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
    maps = student, teacher, valid.unsqueeze(1), gradient
    for images in parts(*(x.flatten(2) for x in maps), factor):
        s, t, there, out, weight = (x if x.dim() == 3 else x[None]
                                    for x in images)
        rows = cells.expand(len(s), -1, -1)
        for tile in tiles(s[:, 0].numel(), s.shape[1],
                          s.device):  # of channels
            found = out[:, tile]
            gap = torch.sub(s[:, tile],
                            t[:, tile],
                            out=torch.empty_like(found))
            clear(gap, there)
            slope = torch.bmm(rows, gap.mT).mul_(weight)
            torch.baddbmm(gap, slope.mT, rows, out=found)
            clear(found, there)
            square = torch.dot(gap.flatten(), found.flatten())
            value.addcmul_(square, scale, value=.5)
    return gradient


def clear(gap: Tensor, valid: Tensor) -> None:
    """Writes 0 where not valid; a CPU is fast at few places, one by one."""
    if gap.device.type == 'cpu':
        places = valid.logical_not().flatten().nonzero().squeeze(1)
        gap.index_fill_(-1, places, 0.)
    else:
        zero = number(0., gap.dtype, gap.device)
        torch.where(valid, gap, zero, out=gap)
