"""RKD, relational knowledge distillation (Park et al., CVPR 2019).

Follows ``metric/loss.py`` of lenscloth/RKD, the authors' code.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from seg_kd.losses._functional import (check_least, constant, inverse, keep,
                                       with_gradient)
from seg_kd.losses._gram import Rows, add_product, add_sums, pair_tiles
from seg_kd.losses._relation import RelationLoss, count_of
from seg_kd.losses.instances import GRID, Instances, choose, subset

CHUNK = 1 << 18  # triplets at a time, on a CPU


class RKDLoss(RelationLoss):
    r"""How differently student and teacher arrange instances in space.

    .. math::
        L_D &= \operatorname{mean}_{ij}\, h\Bigl(
            \frac{|s_i - s_j|}{\mu_s} - \frac{|t_i - t_j|}{\mu_t} \Bigr) \\
        L_A &= \operatorname{mean}_{ijk}\, h\bigl(
            \cos \angle s_j s_i s_k - \cos \angle t_j t_i t_k \bigr)

    :math:`h` is the smooth L1 (Huber, from 1), :math:`\mu` the mean of the
    distances above 0, and the means are over all :math:`M^2` pairs and
    :math:`M^3` triplets of the instances of the batch, as in the authors'
    code: those of an instance with itself count, with 0. The values do
    not depend on the crop, so this is paper and dense form in one.

    The distance of an instance from itself is 0, and so is any that rounding
    may have made: in float32 and with 256 channels those under about 0.002 of
    the two instances' distance from the mean of all.

    The distances run in tiles: memory is linear in M and time quadratic, so M
    is bounded. The angles are between the triplets of a random subset of the
    instances, as there are :math:`M^3` of them. Value and gradient are found
    together, and the latter cannot be differentiated again.

    Args:
        distance_weight: Factor of :math:`L_D`; 0 leaves it out.
        angle_weight: Factor of :math:`L_A`; 0 leaves it out. The authors' code
            has 1 and 2, HobbitLong/RepDistiller 25 and 50.
        instances: Which vectors are compared, see :class:`RelationLoss`.
        max_instances: Of a short form; of more a random subset is taken. None:
            all.
        angle_instances: Bound on the instances between which are angles.
            None: no further bound.
        grid: Of ``'region'``.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .), (N, ., .)`` to a dict of
        ``distance`` and ``angle``, both ``()`` and weighted. A student on
        another grid is resized to the teacher's. Unit-free: the scale of a
        map does not matter; the angle's is from 0 to 1.5 times its weight.

    Raises:
        ValueError: For negative weights or none above 0, another kind, bounds
            below 1, maps that do not fit each other, or ``'class'`` without
            labels.
    """

    shown = 'weights', 'angle_instances'

    def __init__(self,
                 distance_weight: float = 1.,
                 angle_weight: float = 2.,
                 instances: Instances | str = 'pixel',
                 max_instances: int | None = 2048,
                 angle_instances: int | None = 128,
                 grid: Sequence[int] = GRID) -> None:
        super().__init__(instances, max_instances, grid)
        weights = dict(distance=distance_weight, angle=angle_weight)
        if min(weights.values()) < 0 or not any(weights.values()):
            raise ValueError('weights must not be negative, nor all 0, but '
                             f'are {weights}')
        check_least('angle_instances', angle_instances)
        self.weights, self.angle_instances = weights, angle_instances

    padded = True

    def relate(self,
               student: Tensor,
               teacher: Tensor,
               there: Tensor | None = None) -> dict[str, Tensor]:
        if not len(student):
            return {
                name: student.sum()
                for name, w in self.weights.items() if w
            }
        count = count_of(student, there)
        means = [
            Rows(x.detach()).sum(dtype=torch.double) / count
            for x in (student, teacher)
        ]
        terms = {}
        if weight := self.weights['distance']:
            terms['distance'] = differentiable(distance, student, teacher,
                                               means, there, count, weight)
        if weight := self.weights['angle']:
            student, teacher, there = few(student, teacher, there,
                                          self.angle_instances)
            count = count_of(student, there)
            terms['angle'] = differentiable(angle, student, teacher, means,
                                            there, count, weight)
        return terms


def differentiable(
    term: Callable,
    student: Tensor,
    teacher: Tensor,
    *rest: Any,
) -> Tensor:
    return with_gradient(student, *term([student.detach(), teacher], *rest))


def few(student: Tensor, teacher: Tensor, there: Tensor | None,
        most: int | None) -> tuple[Tensor, Tensor, Tensor | None]:
    """At most so many instances, at random."""
    if there is None:
        chosen = subset(len(student), most)
    else:
        chosen = choose(there, most)
    if len(chosen) == len(student):
        return student, teacher, there
    there = there if there is None else there[chosen]
    return student[chosen], teacher[chosen], there


# What follows holds both networks in one tensor, the student first: a GPU is
# asked for half as many kernels.

# -- distances -------------------------------------------------------------


@torch.no_grad()
def distance(matrices: Sequence[Tensor], means: Sequence[Tensor],
             there: Tensor | None, count: Tensor | int,
             weight: float) -> tuple[Tensor, Tensor]:
    r"""Mean over the pairs, and its gradient with respect to the student.

    With the slope :math:`c_{ij} = h'`, the gradient with respect to a distance
    d is :math:`(c - \sum_{ij} c_{ij} d_{ij} / (n \mu)) / (M^2 \mu)` for n
    distances above 0, and :math:`(s_i - s_j) / d_{ij}` is that of d.
    """
    both = Distances(matrices, means, there)
    vectors = both.rows[0]
    total = number = value = moment = None
    for rows, columns, times in pair_tiles(vectors):
        length = both.between(rows, columns)[0]
        total = plus(total, length.sum((1, 2), dtype=torch.double), times)
        number = plus(number, length.count_nonzero((1, 2)), times)
    one_over_total = inverse(total)
    one_over_mean = one_over_total * number
    scale = one_over_mean.to(vectors.dtype).view(2, 1, 1)
    # weights of s_i - s_j: through the distance itself, and through the mean
    sums = vectors.zeros(2, len(vectors), 1)
    grads = vectors.zeros(2, *vectors.matrix.shape)
    for rows, columns, times in pair_tiles(vectors):
        length, one_over = both.between(rows, columns)
        gap = difference(length * scale)
        slope = gap.clamp(-1, 1)
        value = plus(value, huber(gap, slope), times)
        pulled = length[0].mul_(slope).sum(dtype=torch.double)
        moment = plus(moment, pulled, times)
        pulls = torch.stack([slope.mul_(one_over[0]), one_over[0]])
        add_sums(sums, pulls, rows, columns)
        add_product(grads, pulls, vectors, rows, columns)
    share = moment * one_over_total[0]
    sums, grads = (x[0].addcmul_(x[1], share, value=-1) for x in (sums, grads))
    for tile in vectors.tiles():
        grads[tile].addcmul_(sums[tile], vectors[tile], value=-1)
    one = weight * count**-2.
    return value * one, grads.mul_(-2 * one * one_over_mean[0])


def plus(total: Tensor | None, found: Tensor, times: int = 1) -> Tensor:
    """``total + times * found``, and no kernel for what is first and once."""
    if times > 1:
        found = found * times
    return found if total is None else total.add_(found)


class Distances:
    """Between the rows of each of two matrices ``(M, .)``, tile by tile."""

    def __init__(self, matrices: Sequence[Tensor], means: Sequence[Tensor],
                 there: Tensor | None) -> None:
        self.rows = [  # far from 0 they would cancel
            Rows(x - mean.to(x.dtype)) for x, mean in zip(matrices, means)
        ]
        lengths = [
            torch.linalg.vector_norm(x.matrix,
                                     dim=1,
                                     keepdim=True,
                                     dtype=x.dtype) for x in self.rows
        ]
        self.squares = torch.stack(lengths).square_()
        self.bounds = bounds(self.squares, matrices, there)
        self.last: tuple[tuple[slice, slice], tuple[Tensor, Tensor]] | None
        self.last = None

    def between(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Distances, and 1 over them or 0: both ``(2, R, C)``.

        The last tile is kept until it is asked for once more.
        """
        place = rows, columns
        found = self.last[1] if self.last and self.last[0] == place else None
        self.last = None
        if found is None:
            found = self._between(rows, columns)
            self.last = place, found
        return found

    def _between(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        square = self.squares[:, rows] + self.squares[:, columns].mT
        for out, x in zip(square, self.rows):
            out.addmm_(x[rows], x[columns].T, alpha=-2)
        if rows == columns:  # an instance and itself
            square.diagonal(dim1=1, dim2=2).zero_()
        return root(square, self.bounds[:, rows] + self.bounds[:, columns].mT)


def bounds(squares: Tensor, matrices: Sequence[Tensor],
           there: Tensor | None) -> Tensor:
    """For each row what the square of a distance is but rounding below.

    That is the sum of both rows' bounds.

    Shape:
        ``(2, M, 1)``.
    """
    widths = tuple(x.shape[1] for x in matrices)
    found = squares * noise(widths, squares.dtype, squares.device)
    return found if there is None else keep(found, there.unsqueeze(1),
                                            math.inf)


@constant
def noise(widths: tuple[int, ...], dtype: torch.dtype,
          device: torch.device) -> Tensor:
    """Of a square of a distance, relative to the terms of which it is left.

    Rounding grows with the root of the vectors' length.
    """
    found = [(16 + width**.5) * torch.finfo(dtype).eps for width in widths]
    return torch.tensor(found, dtype=dtype, device=device).view(-1, 1, 1)


def root(square: Tensor, bound: Tensor) -> tuple[Tensor, Tensor]:
    """Distance, and 1 over it; both 0 where the square is but rounding."""
    one_over = inverse_distance(square, bound)
    return square.mul_(one_over), one_over


def inverse_distance(square: Tensor, bound: Tensor) -> Tensor:
    return keep(square.rsqrt(), square > bound)


def difference(both: Tensor) -> Tensor:
    """The student's less the teacher's."""
    return both[0].sub_(both[1])


def huber(gap: Tensor, slope: Tensor) -> Tensor:
    """Sum of smooth L1, whose slope is known."""
    return torch.sub(gap, slope, alpha=.5).mul_(slope).sum(dtype=torch.double)


# -- angles ----------------------------------------------------------------


@torch.no_grad()
def angle(matrices: Sequence[Tensor], means: Sequence[Tensor],
          there: Tensor | None, count: Tensor | int,
          weight: float) -> tuple[Tensor, Tensor]:
    r"""Mean over the triplets; gradient with respect to the student.

    All follows from the inner products of pairs, in float64. With
    :math:`e_j` from corner i to j, :math:`\cos = e_j e_k / |e_j| |e_k|`, and
    the gradient with respect to :math:`e_j` is :math:`\sum_k w_{jk} e_k`; so
    the student's is a sum of its instances, too: ``mix``.
    """
    corners = Corners(matrices, means, there)
    vectors = corners.rows[0]
    value = mix = None
    chunk = CHUNK if vectors.device.type == 'cpu' else 64 * CHUNK
    step = max(1, chunk // len(vectors)**2)
    for start in range(0, len(vectors), step):
        at = slice(start, start + step)
        cosine, one_over_arms = corners.at(at)
        gap = cosine[0] - cosine[1]
        slope = gap.clamp(-1, 1)
        value = plus(value, huber(gap, slope))
        pulls = slope * one_over_arms[0]
        radial = (slope * cosine[0]).sum(2) * corners.one_over[0, at].square()
        pulls.diagonal(dim1=1, dim2=2).sub_(radial)
        arms = pulls.sum(2)  # of a corner, what moves each instance
        mix = plus(mix, pulls.sum(0))
        mix[at] -= arms
        mix[:, at] -= arms.T
        mix.diagonal()[at] += arms.sum(1)
    one = weight * count**-3.
    return value * one, mix.mul_(2 * one) @ vectors


class Corners:
    """Angles between the rows of each of two matrices.

    Attributes:
        rows: Of each, less their mean: ``(M, .)`` in float64.
        products: ``(2, M, M)``, between them.
        one_over: ``(2, M, M)``, 1 over their distances.
    """

    def __init__(self, matrices: Sequence[Tensor], means: Sequence[Tensor],
                 there: Tensor | None) -> None:
        self.rows = [x - mean for x, mean in zip(matrices, means)]
        self.products = torch.stack([x @ x.T for x in self.rows])
        self.squares = self.products.diagonal(dim1=1, dim2=2).unsqueeze(2)
        square = torch.sub(self.squares + self.squares.mT,
                           self.products,
                           alpha=2)
        bound = bounds(self.squares, matrices, there)
        self.one_over = inverse_distance(square, bound + bound.mT)

    def at(self, corner: slice) -> tuple[Tensor, Tensor]:
        """Cosines, and 1 over both their arms: ``(2, I, M, M)``."""
        one_over, rows = self.one_over[:, corner], self.products[:, corner]
        cosine = self.products.unsqueeze(1) - rows.unsqueeze(2)
        cosine -= (rows - self.squares[:, corner]).unsqueeze(3)
        one_over_arms = one_over.unsqueeze(2) * one_over.unsqueeze(3)
        return cosine.mul_(one_over_arms), one_over_arms
