"""Affinity distillation of Knowledge Adaptation (He et al., CVPR 2019).

After equations (4) and (5) of "Knowledge Adaptation for Efficient Semantic
Segmentation". There is no official code.
"""

import torch
from torch import Tensor

from seg_kd.losses._functional import (check_choice, mask_invalid, parts,
                                       prepare, with_gradient)
from seg_kd.losses._gram import (Quadratic, Rows, accurate_grams,
                                 add_symmetric, dot, exact_floats,
                                 finest_dtype, mirrored, product, tangential)
from seg_kd.losses._maps import MapLoss

FLOOR = 1e-6  # rows that agree better (RMS of cosines) get no gradient
COARSE = 5e-4  # the same where float64 is too slow


class AffinityLoss(MapLoss):
    r"""How differently student and teacher relate the positions of an image.

    .. math::
        A_{ij} = \tfrac1m \cos(F_i, F_j), \qquad
        L = \operatorname{mean}_n \sum_i \| A_{s,i} - A_{t,i} \|_2

    :math:`i, j` are the :math:`m` valid positions of one image, the rows are
    not squared, and the mean is over images with at least one of them.

    The paper's form grows with the crop, as :math:`\sqrt m`: it adds
    :math:`m` rows, each :math:`1/m` times the root of a sum of :math:`m`
    squares. The weight 1 of the paper belongs to it.

    Dense: ``per='position'`` is the root mean square over j, mean over i,
    of the difference of cosines; it does not depend on the crop. It is the
    paper's form divided by :math:`\sqrt m`, so at :math:`m = 32 \cdot 64`
    (a 512x1024 crop at stride 16) weight 1 there is weight 45.25 here.

    The value is exact, yet no m x m matrix exists, forward or backward: time
    and memory are linear in m (README.md of this folder). A vector of zeros
    is related to nothing, has cosine 0 and gets no gradient. Maps whose
    affinities agree to less than 5 % are worked on in float64, on a GPU all
    are; of one that is slow in it none (see there). Equal maps give about 1e-7
    instead of 0 (in the cosines' root mean square), the root of float64's
    rounding, and a finite gradient. The gradient cannot be differentiated
    again.

    Args:
        per: ``'map'``, the paper's, or ``'position'``.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``. A student on
        another grid is resized to the teacher's. Differences of cosines,
        from 0 to 2 for ``'position'``, to :math:`2 \sqrt m` for ``'map'``.

    Raises:
        ValueError: For another ``per``, maps that are not 4-d, unequal
            batches, or a mask that is not ``(N, ., .)`` bool.
    """

    shown = ('per', )

    def __init__(self, per: str = 'map') -> None:
        super().__init__()
        check_choice('per', per, 'map', 'position')
        self.per = per

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        student, teacher, valid = prepare(student, teacher, mask)
        with exact_floats(teacher.device):
            found = self._batch(student.detach(), teacher, valid)
        return with_gradient(student, *found)

    @torch.no_grad()
    def _batch(self, student: Tensor, teacher: Tensor,
               valid: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient with respect to the student's map."""
        count = valid.flatten(1).sum(1).double()
        power = 1. if self.per == 'map' else 1.5
        scale = count.clamp(min=1).pow(-power) / (count > 0).sum().clamp(min=1)
        value = student.new_zeros((), dtype=torch.double)
        gradient = torch.empty_like(student,
                                    memory_format=torch.contiguous_format)
        finest = finest_dtype(student) is torch.double
        floor = (FLOOR if finest else COARSE) * count.sqrt()
        for x, y, there, out, *each in parts(student, teacher, valid, gradient,
                                             floor, scale):
            s, t = (Rows(mask_invalid(m, there.unsqueeze(-3)).flatten(-2).mT,
                         unit=True) for m in (x, y))
            value += row_sum(s, t, *each, out.flatten(-2).mT)
        return value, gradient


def row_sum(s: Rows, t: Rows, floor: Tensor, scale: Tensor,
            gradient: Tensor) -> Tensor:
    r"""``sum_i |a_i|``, ``a_ij = s_i s_j' - t_i t_j'``, times ``scale``.

    Of one image or, with a floor and a scale each, of several: their sum.
    Fills ``gradient`` with that with respect to the student's
    vectors before they got length 1; a row shorter than ``floor`` has none.
    Both follow from C x C matrices:

    .. math::
        |a_i|^2 &= s_i (S'S) s_i' + t_i (T'T) t_i' - 2 s_i (S'T) t_i' \\
        \partial / \partial s_k &= \sum_j a_{kj} (1/|a_k| + 1/|a_j|) s_j
    """
    grams = accurate_grams(s, t)  # decides on the precision
    ss, st, tt = (x.to(s.dtype) for x in grams)
    own = Quadratic(tt)
    weighted_ss, weighted_st = (torch.zeros_like(x) for x in (ss, st))
    value = torch.zeros_like(floor)
    least = floor[..., None, None]
    for tile in s.tiles():
        x, y = s[tile], t[tile]
        cross = product(y, st.mT)
        toward = product(x, ss).sub_(cross)  # sum_j a_ij s_j
        square = dot(toward - cross, x) + own(y)
        norm = square.clamp(min=0).sqrt()
        value += norm.sum((-2, -1))
        weight = torch.where(norm > least, 1 / norm, 0.).to(s.dtype)
        gradient[..., tile, :] = toward.mul_(weight)
        weighted = x * weight
        add_symmetric(weighted_ss, weighted, x)
        weighted_st += weighted.mT @ y
    weighted_ss = mirrored(weighted_ss)
    for tile in s.tiles():
        x = s[tile]
        slope = product(x, weighted_ss)  # of the other rows
        slope.sub_(product(t[tile], weighted_st.mT))
        slope.add_(gradient[..., tile, :])
        length = (scale[..., None, None] * s.scale[..., tile, :]).to(x.dtype)
        gradient[..., tile, :] = tangential(slope, x).mul_(length)
    return (scale * value).sum()
