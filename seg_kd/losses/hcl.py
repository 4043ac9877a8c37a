"""Hierarchical context loss of ReviewKD (Chen et al., CVPR 2021).

Follows ``hcl`` of dvlab-research/ReviewKD; it is the same function in its
CIFAR, ImageNet and detection code, and in RuipingL/TransKD. See "dense".
"""
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_kd.losses._functional import (EPS, Maps, check_equal, check_least,
                                       constant, full_precision, layer_pairs,
                                       number, parts, prepare, tiles,
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
        grids: Cells a side, in the order of the weights 1/2, 1/4, ... Time
            goes with the number of all cells, of which there are to be few; a
            row as long as the map is kept for each.

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
            students, _, valid = zip(*levels)
            cells = Cells(self.grids, valid, students)
            terms, gradients = zip(
                *map(squares, levels, cells.averages, cells.factors))
            value = torch.stack([x for level in terms for x in level])
            value /= torch.cat([
                divisor.expand(len(level))
                for level, divisor in zip(terms, cells.divisors)
            ])
            return with_gradient(students, value.sum(dtype=torch.double),
                                 gradients, cells.divisors)


class Cells:
    """The cells of all grids of all levels, and what they count.

    A level's loss is the sum of all squares of its gap and, times
    ``factors``, of those of the gap's averages over the cells; that over its
    divisor. What depends on the mask is little work, done for all levels at
    once.

    Attributes:
        averages: ``(G, H * W)`` of each level: one row a cell.
        factors: ``(N, G, 1)`` of each level.
        divisors: ``(levels,)``.
    """

    def __init__(self, grids: Sequence[int], valid: Sequence[Tensor],
                 students: Sequence[Tensor]) -> None:
        device, dtype = students[0].device, students[0].dtype
        channels = tuple(x.shape[1] for x in students)
        sizes = [tuple(x.shape[1:]) for x in valid]
        kept = tuple(tuple(g for g in grids if g < min(x)) for x in sizes)
        rows = [averages(*x, device, dtype) for x in zip(sizes, kept)]
        self.averages = [x[:-1] for x in rows]
        found = [x.flatten(1).to(dtype) @ r.T for x, r in zip(valid, rows)]
        shares = torch.cat(
            [*(x[:, :-1] for x in found), *(x[:, -1:] for x in found)], 1)
        totals = sums(kept, channels, device, dtype) @ shares.sum(0)
        each = [len(x) for x in self.averages]
        cells = sum(each)
        # where there is nothing, the gap is 0: any number does
        own, self.divisors, counts = totals.clamp(min=EPS).split(
            [cells, len(each), cells])
        # mean of valid positions: 1 / share, squared; it counts share
        factors = counts / own / shares[:, :cells].clamp(min=EPS)
        self.factors = factors.unsqueeze(2).split(each, 1)


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
         device: torch.device, dtype: torch.dtype) -> Tensor:
    """Makes sums and multiples of the shares of cells and counts of levels.

    Shape:
        ``(cells + levels + cells, cells + levels)``: from shares and counts
        to the sum of the shares in each cell's grid, to each level's divisor,
        and to the count of each cell's level times the weight of its grid.
    """
    cells = sum(g * g for kept in grids for g in kept)
    totals = torch.zeros(cells + len(grids), cells + len(grids))
    counts = torch.zeros(cells, cells + len(grids))
    start = 0
    for level, (kept, width) in enumerate(zip(grids, channels), cells):
        weights = [2.**-k for k in range(len(kept) + 1)]
        totals[level, level] = width * sum(weights)
        for g, weight in zip(kept, weights[1:]):
            grid = slice(start, start + g * g)
            totals[grid, grid] = 1
            counts[grid, level] = weight
            start = grid.stop
    return torch.cat([totals, counts]).to(device, dtype)


@torch.no_grad()
def squares(level: tuple[Tensor, Tensor, Tensor], cells: Tensor,
            factor: Tensor) -> tuple[list[Tensor], Tensor]:
    """Of a level: squares, to be added up, and the slope of their sum."""
    student, teacher, valid = level
    terms = []
    gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
    maps = student, teacher, valid.unsqueeze(1), gradient
    for images in parts(*(x.flatten(2) for x in maps), factor):
        s, t, there, out, weight = (x if x.dim() == 3 else x[None]
                                    for x in images)
        rows, clear = cells.expand(len(s), -1, -1), clearing(there)
        size = s[:, 0].numel()
        for tile in tiles(size, s.shape[1], s.device):  # of channels
            gap = torch.sub(s[:, tile], t[:, tile], out=out[:, tile])
            clear(gap)
            means = rows @ gap.mT
            slope = means * weight
            terms += [dot(gap, gap), dot(means, slope)]
            gap.baddbmm_(slope.mT, rows, beta=2, alpha=2)
            clear(gap)
    return terms, gradient


def dot(x: Tensor, y: Tensor) -> Tensor:
    return torch.dot(x.flatten(), y.flatten())


def clearing(valid: Tensor) -> Callable[[Tensor], Tensor]:
    """Writes 0 where not valid; a CPU is fast at few places, one by one."""
    if valid.device.type == 'cpu':
        places = valid.logical_not().flatten().nonzero().squeeze(1)
        return lambda gap: gap.index_fill_(-1, places, 0.)
    return lambda gap: torch.where(
        valid, gap, number(0., gap.dtype, gap.device), out=gap)
