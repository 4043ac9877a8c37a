"""CCKD, correlation congruence (Peng et al., ICCV 2019).

There is no official code. The kernels are those of ``CCKDLoss`` in
yoshitomo-matsubara/torchdistill ``losses/mid_level.py``; that one takes the
root of the squared sum, which the paper does not.
"""
import math
from collections.abc import Sequence

import torch
from torch import Tensor

from seg_kd.losses._functional import check_choice, with_gradient
from seg_kd.losses._gram import (Rows, accurate_grams, add_product, pair_tiles,
                                 product, through_length)
from seg_kd.losses._relation import RelationLoss, count_of
from seg_kd.losses.instances import GRID, Instances

MOST = 2048  # instances, where the time is quadratic in them


class CCKDLoss(RelationLoss):
    r"""How differently student and teacher correlate instances.

    .. math::
        L = \tfrac1{M^2} \sum_{ij} \bigl( k(s_i, s_j) - k(t_i, t_j) \bigr)^2

    over the pairs of the :math:`M` instances of the batch. The kernel is

    .. math::
        k(x, y) = x \cdot y \quad\text{or}\quad
        e^{-2\gamma} \sum_{p=0}^P \frac{(2\gamma)^p}{p!} (x \cdot y)^p,

    the latter being the Gaussian :math:`e^{-\gamma \|x - y\|^2}` of unit
    vectors, expanded to order :math:`P`.

    The mean over the pairs is both the paper's form and the dense one: it does
    not depend on the crop. The paper compares images by embeddings of length
    1, from layers that are trained; here the instances themselves get it, so
    the channels need not agree and nothing is trained. For embeddings of your
    own, put them in front, in a loss of yours that calls this one with
    ``normalize=False``; the teacher's gets no gradient here.

    Bilinear: exact for all positions, from C x C products, in time and memory
    linear in M; in float64 where the kernels differ by less than 5 %, on a GPU
    as in :class:`SPLoss`. Gaussian: in tiles, with memory linear in M and time
    quadratic, so M is bounded. The gradient cannot be differentiated again.

    Args:
        kernel: ``'bilinear'`` or ``'gaussian'``.
        gamma: Of the Gaussian. Paper: 0.4.
        order: P of the Gaussian. Paper: 2.
        normalize: Give each instance the length 1.
        instances: Which vectors are compared, see :class:`RelationLoss`.
        max_instances: Of a short form; of more a random subset is taken. None:
            all. ``'auto'``: 2048 with the Gaussian, else all.
        grid: Of ``'region'``.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .), (N, ., .) -> ()``. A student
        on another grid is resized to the teacher's. Squared differences of
        cosines, from 0 to 4, with the bilinear kernel.

    Raises:
        ValueError: For another kernel or kind, ``gamma`` not positive, orders
            or bounds below 1, maps that do not fit each other, or ``'class'``
            without labels.
    """

    shown = 'kernel', 'gamma', 'order', 'normalize'

    def __init__(self,
                 kernel: str = 'gaussian',
                 gamma: float = .4,
                 order: int = 2,
                 normalize: bool = True,
                 instances: Instances | str = 'pixel',
                 max_instances: int | None | str = 'auto',
                 grid: Sequence[int] = GRID) -> None:
        if max_instances == 'auto':
            max_instances = MOST if kernel == 'gaussian' else None
        super().__init__(instances, max_instances, grid)
        check_choice('kernel', kernel, 'bilinear', 'gaussian')
        if not gamma > 0 or order < 1:
            raise ValueError('gamma must be positive and order at least 1, '
                             f'not {gamma} and {order}')
        self.kernel, self.gamma, self.order = kernel, gamma, order
        self.normalize = normalize

    padded = True

    def relate(self,
               student: Tensor,
               teacher: Tensor,
               there: Tensor | None = None) -> Tensor:
        value, gradient = self.gap(student.detach(), teacher)
        scale = 1 / count_of(student, there)**2
        return with_gradient(student, scale * value, gradient.mul_(scale))

    @torch.no_grad()
    def gap(self, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Sum over the pairs, and its gradient with respect to student."""
        s, t = (Rows(x, unit=self.normalize) for x in (student, teacher))
        if self.kernel == 'bilinear' and len(s) > max(s.width, t.width):
            value, gradient = decomposed(s, t)
        else:
            value, gradient = in_tiles(s, t, self.coefficients())
        if self.normalize:
            gradient = through_length(gradient, s)
        return value, gradient

    def coefficients(self) -> list[float]:
        """The kernel as a polynomial of the inner product."""
        if self.kernel == 'bilinear':
            return [0., 1.]
        g = 2 * self.gamma
        return [
            math.exp(-g) * g**p / math.factorial(p)
            for p in range(self.order + 1)
        ]


def decomposed(s: Rows, t: Rows) -> tuple[Tensor, Tensor]:
    """The bilinear kernel: ``|S'S|^2 + |T'T|^2 - 2 |S'T|^2``."""
    grams = accurate_grams(s, t)
    ss, st, tt = (x.square().sum() for x in grams)
    own, other = (4 * x.to(s.dtype) for x in grams[:2])
    gradient = torch.empty_like(s.matrix)
    for tile in s.tiles():
        gradient[tile] = product(s[tile], own).sub_(product(t[tile], other.T))
    return (ss + tt - 2 * st).clamp(min=0), gradient


def in_tiles(s: Rows, t: Rows,
             coefficients: list[float]) -> tuple[Tensor, Tensor]:
    """Any polynomial of the inner product."""
    slopes = [4 * p * c for p, c in enumerate(coefficients)][1:]
    value = s.matrix.new_zeros((), dtype=torch.double)
    gradient = s.zeros(len(s), s.width)
    for rows, columns, times in pair_tiles(s):
        x, y = (a[rows] @ a[columns].T for a in (s, t))
        gap = polynomial(x, coefficients).sub_(polynomial(y, coefficients))
        value += times * gap.square().sum(dtype=torch.double)
        add_product(gradient, gap.mul_(polynomial(x, slopes)), s, rows,
                    columns)
    return value, gradient


def polynomial(x: Tensor, coefficients: list[float]) -> Tensor:
    """By Horner's rule."""
    total = torch.full_like(x, coefficients[-1])
    for c in coefficients[-2::-1]:
        total.mul_(x).add_(c)
    return total
