"""SP, similarity-preserving distillation (Tung and Mori, ICCV 2019).

The paper form is that of ``distiller_zoo/SP.py`` of HobbitLong/RepDistiller,
which the paper's author verified.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_kd.losses._functional import check_form, inverse, unit, with_gradient
from seg_kd.losses._gram import (CLOSE, Grams, Quadratic, Rows, add_symmetric,
                                 can_be_finer, dot, grams_of, mirrored,
                                 product, product_dtype)
from seg_kd.losses._relation import RelationLoss, count_of
from seg_kd.losses.instances import GRID, Instances


class SPLoss(RelationLoss):
    r"""How differently student and teacher find instances similar.

    .. math::
        G = F F', \qquad \hat G_i = G_i / \|G_i\|_2, \qquad
        L = \tfrac1M \sum_{i=1}^M \| \hat G_{s,i} - \hat G_{t,i} \|_2^2

    The rows of :math:`F` are the :math:`M` instances of the batch. A row
    of zeros stays one.

    Dense: the mean over the instances, as above. ``form='paper'`` is the mean
    over the pairs: the dense value divided by M, which shrinks with the crop.
    The paper's own instances are ``'map'``, and its weight 3000 belongs
    to a batch of 64 of them: 3000 / 64, about 47, here.

    The value is exact for all positions, in time and memory linear in M,
    as :math:`\hat G_{s,i} \cdot \hat G_{t,i}` is
    :math:`s_i (S'T) t_i' / \sqrt{s_i (S'S) s_i'\; t_i (T'T) t_i'}`. Where
    the rows differ by less than 5 % it is found in float64; on a GPU always,
    or never where that is slow (README.md of this folder).
    More channels than instances: from the M x M matrices themselves. Else the
    gradient cannot be differentiated again.

    Args:
        form: ``'dense'`` or ``'paper'``.
        instances: Which vectors are compared, see :class:`RelationLoss`.
        max_instances: Of a short form; of more a random subset is taken.
        grid: Of ``'region'``.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .), (N, ., .) -> ()``. A student
        on another grid is resized to the teacher's. From 0 to 4, for maps
        without negative values to 2; the scale of a map does not matter.

    Raises:
        ValueError: For another ``form`` or kind, bounds below 1, maps that
            do not fit each other, or ``'class'`` without labels.
    """

    shown = ('form', )

    def __init__(self,
                 form: str = 'dense',
                 instances: Instances | str = 'pixel',
                 max_instances: int | None = None,
                 grid: Sequence[int] = GRID) -> None:
        super().__init__(instances, max_instances, grid)
        check_form(form)
        self.form = form

    padded = True

    def relate(self,
               student: Tensor,
               teacher: Tensor,
               there: Tensor | None = None) -> Tensor:
        count = count_of(student, there)
        scale = 1 / count**(1 if self.form == 'dense' else 2)
        if len(student) <= max(student.shape[1], teacher.shape[1]):
            gap = similarities(student) - similarities(teacher)
            return (scale * gap.square().sum()).to(gap.dtype)
        value, gradient = decomposed(student.detach(), teacher)
        return with_gradient(student, scale * value, gradient.mul_(scale))


def similarities(x: Tensor) -> Tensor:
    """The row-normalized Gram matrix itself."""
    x = x * power_of_two_scale(x.detach())
    return unit(x @ x.T)


def power_of_two_scale(x: Tensor) -> Tensor:
    """Power of 2 that brings the root mean square to about 1.

    Fourth powers of the maps must not overflow; this scaling is exact.
    """
    mean = torch.linalg.vector_norm(x) / max(1, x.numel())**.5
    return F.threshold(mean, 0., 1.).log2().round().neg().exp2()


@torch.no_grad()
def decomposed(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Sum over the rows, and its gradient with respect to the student."""
    scale = power_of_two_scale(student)
    s, t = Rows(student * scale), Rows(teacher * power_of_two_scale(teacher))
    found = from_grams(s, t, grams_of(s, t, product_dtype(student)))
    if found is None:  # the rows nearly agree: float32 would cancel
        found = from_grams(s, t, grams_of(s, t, torch.double))
    value, gradient = found
    return value, gradient.mul_(-2 * scale)


def from_grams(s: Rows, t: Rows, grams: Grams) -> tuple[Tensor, Tensor] | None:
    r"""The sum over the rows, and -1/2 of its gradient.

    None where float32 is too coarse for it. That is seen from the rows of
    length 1 themselves: the scale of a map does not matter.

    With the cosine :math:`c_i` of the rows of the two Gram matrices,
    :math:`w_i = 1 / (|G_{s,i}| |G_{t,i}|)` and
    :math:`u_i = c_i / |G_{s,i}|^2`, the latter is

    .. math::
        w_k (S'T) t_k + (S'WT) t_k - u_k (S'S) s_k - (S'US) s_k
    """
    ss, st, tt = (x.to(s.dtype) for x in grams)
    teacher = Quadratic(tt)
    weighted_ss, weighted_st = (torch.zeros_like(x) for x in (ss, st))
    value = s.matrix.new_zeros((), dtype=torch.double)
    gradient = torch.empty_like(s.matrix)
    for tile in s.tiles():
        x, y = s[tile], t[tile]
        own, other = product(x, ss), product(y, st.T)
        s_inverse, t_inverse = (inverse(square.clamp(min=0).sqrt())
                                for square in (dot(own, x), teacher(y)))
        w = s_inverse * t_inverse
        cosine = dot(other, x) * w
        value += ((s_inverse > 0).sum() + (t_inverse > 0).sum() -
                  2 * cosine.sum())
        w, u = (v.to(s.dtype) for v in (w, -cosine * s_inverse.square()))
        gradient[tile] = other.mul_(w).addcmul_(own, u)
        weighted_st += (x * w).T @ y
        add_symmetric(weighted_ss, x * u, x)
    if can_be_finer(s) and value < CLOSE**2 * len(s):
        return None
    weighted_ss = mirrored(weighted_ss)
    for tile in s.tiles():
        gradient[tile] += product(t[tile], weighted_st.T)
        gradient[tile] += product(s[tile], weighted_ss)
    return value.clamp(min=0), gradient
