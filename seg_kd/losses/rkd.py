"""RKD, relational knowledge distillation (Park et al., CVPR 2019).

Follows ``metric/loss.py`` of lenscloth/RKD, the authors' code.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from torch import Tensor

from seg_kd.losses._functional import check_least, inverse, keep, with_gradient
from seg_kd.losses._gram import Rows, add_product, add_sums, pair_tiles
from seg_kd.losses._relation import RelationLoss, count_of, kept
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
        if there is None:
            chosen = subset(len(student), self.angle_instances)
        else:
            chosen = choose(there, self.angle_instances)
        terms = {}
        if weight := self.weights['distance']:
            terms['distance'] = weight * differentiable(
                distance, student, teacher, there)
        if weight := self.weights['angle']:
            few = [student, teacher, there]
            if len(chosen) < len(student):
                few = [x if x is None else x[chosen] for x in few]
            terms['angle'] = weight * differentiable(angle, *few)
        return terms


def differentiable(term: Callable, student: Tensor, teacher: Tensor,
                   there: Tensor | None) -> Tensor:
    return with_gradient(student, *term(student.detach(), teacher, there))


# -- distances -------------------------------------------------------------


@torch.no_grad()
def distance(student: Tensor,
             teacher: Tensor,
             there: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Mean over the pairs, and its gradient with respect to the student.

    With the slope :math:`c_{ij} = h'`, the gradient with respect to a distance
    d is :math:`(c - \sum_{ij} c_{ij} d_{ij} / (n \mu)) / (M^2 \mu)` for n
    distances above 0, and :math:`(s_i - s_j) / d_{ij}` is that of d.
    """
    count = count_of(student, there)
    s, t = Distances(student, there, count), Distances(teacher, there, count)
    for rows, columns, times in pair_tiles(s.rows):
        for x in (s, t):
            x.count_in(x.between(rows, columns)[0], times)
    value, moment = student.new_zeros(2, dtype=torch.double)
    # weights of s_i - s_j: through the distance itself, and through the mean
    sums = s.rows.zeros(2, len(student), 1)
    grads = s.rows.zeros(2, *student.shape)
    for rows, columns, times in pair_tiles(s.rows):
        x, x_inverse = s.between(rows, columns)
        y, _ = t.between(rows, columns)
        gap = (x * s.scale).sub_(y.mul_(t.scale))
        slope = gap.clamp(-1, 1)
        value.add_(huber(gap, slope), alpha=times)
        moment.add_(x.mul_(slope).sum(dtype=torch.double), alpha=times)
        for k, weight in enumerate((slope.mul_(x_inverse), x_inverse)):
            add_sums(sums[k], weight, rows, columns)
            add_product(grads[k], weight, s.rows, rows, columns)
    share = moment * s.scale / s.count.clamp(min=1)
    sums, grads = (x[0].sub_(x[1].mul_(share)) for x in (sums, grads))
    pairs = count**2
    for tile in s.rows.tiles():
        grads[tile] = sums[tile] * s.rows[tile] - grads[tile]
    return value / pairs, grads.mul_(2 / pairs * s.scale)


class Distances:
    """Between the rows of a matrix, tile by tile."""

    def __init__(self, matrix: Tensor, there: Tensor | None,
                 count: Tensor | int) -> None:
        mean = (Rows(matrix).sum() / count).to(matrix.dtype)
        # far from 0 they would cancel
        self.rows = Rows(kept(matrix - mean, there))
        self.squares = self.rows.lengths().square().to(self.rows.dtype)
        self.terms = kept(self.squares, there, math.inf)
        self.last: tuple[tuple[slice, slice], tuple[Tensor, Tensor]] | None
        self.last = None
        self.total = matrix.new_zeros((), dtype=torch.double)
        self.count = matrix.new_zeros((), dtype=torch.long)

    def between(self, rows: slice, columns: slice) -> tuple[Tensor, Tensor]:
        """Distances, and 1 over them or 0.

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
        both = self.squares[rows] + self.squares[columns].T
        square = torch.addmm(both,
                             self.rows[rows],
                             self.rows[columns].T,
                             alpha=-2)
        if rows == columns:  # an instance and itself
            square.fill_diagonal_(0.)
        if self.terms is not self.squares:
            both = self.terms[rows] + self.terms[columns].T
        return root(square, both, self.rows.width)

    def count_in(self, tile: Tensor, times: int) -> None:
        self.total.add_(tile.sum(dtype=torch.double), alpha=times)
        self.count.add_(tile.count_nonzero(), alpha=times)

    @cached_property
    def scale(self) -> Tensor:
        """1 over the mean of those above 0, when all are counted in."""
        return inverse(self.total / self.count.clamp(min=1))


def root(square: Tensor, terms: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """Distance, and 1 over it; both 0 where the square is but rounding.

    Args:
        square: Of the distance.
        terms: The sum of squares of which it was the difference.
        width: Length of the vectors: rounding grows with its root.
    """
    noise = (16 + width**.5) * torch.finfo(square.dtype).eps
    one_over = keep(square.rsqrt(), square > noise * terms)
    return square.mul_(one_over), one_over


def huber(gap: Tensor, slope: Tensor) -> Tensor:
    """Sum of smooth L1, whose slope is known."""
    return torch.sub(gap, slope, alpha=.5).mul_(slope).sum(dtype=torch.double)


# -- angles ----------------------------------------------------------------


@torch.no_grad()
def angle(student: Tensor,
          teacher: Tensor,
          there: Tensor | None = None) -> tuple[Tensor, Tensor]:
    r"""Mean over the triplets; gradient with respect to the student.

    All follows from the inner products of pairs, in float64. With
    :math:`e_j` from corner i to j, :math:`\cos = e_j e_k / |e_j| |e_k|`, and
    the gradient with respect to :math:`e_j` is :math:`\sum_k w_{jk} e_k`; so
    the student's is a sum of its instances, too: ``mix``.
    """
    count = count_of(student, there)
    s, t = Corners(student, there, count), Corners(teacher, there, count)
    value = student.new_zeros((), dtype=torch.double)
    mix = torch.zeros_like(s.products)
    chunk = CHUNK if student.device.type == 'cpu' else 64 * CHUNK
    step = max(1, chunk // max(1, len(student))**2)
    for start in range(0, len(student), step):
        at = slice(start, start + step)
        cosine, one_over = s.at(at)
        gap = cosine - t.at(at)[0]
        slope = gap.clamp(-1, 1)
        value += huber(gap, slope)
        weight = slope * one_over.unsqueeze(2) * one_over.unsqueeze(1)
        radial = (slope * cosine).sum(2) * one_over.square()
        weight.diagonal(dim1=1, dim2=2).sub_(radial)
        arms = weight.sum(2)  # of a corner, what moves each instance
        mix += weight.sum(0)
        mix[at] -= arms
        mix[:, at] -= arms.T
        mix.diagonal()[at] += arms.sum(1)
    triplets = count**3
    gradient = mix.mul_(2 / triplets) @ student.to(mix.dtype)
    return value / triplets, gradient


class Corners:
    """Angles between the rows of a matrix."""

    def __init__(self, matrix: Tensor, there: Tensor | None,
                 count: Tensor | int) -> None:
        x = matrix.double()
        x = kept(x - x.sum(0, keepdim=True) / count, there)
        self.products = x @ x.T
        self.squares = self.products.diagonal()
        both = self.squares.unsqueeze(1) + self.squares
        square = both - 2 * self.products
        if there is not None:
            terms = kept(self.squares, there, math.inf)
            both = terms.unsqueeze(1) + terms
        self.one_over = root(square, both, matrix.shape[1])[1]

    def at(self, corner: slice) -> tuple[Tensor, Tensor]:
        """Cosines ``(I, M, M)``, and 1 over the distances ``(I, M)``."""
        one_over, rows = self.one_over[corner], self.products[corner]
        cosine = self.products - rows.unsqueeze(1) - rows.unsqueeze(2)
        cosine += self.squares[corner][:, None, None]
        cosine *= one_over.unsqueeze(1)
        return cosine.mul_(one_over.unsqueeze(2)), one_over
