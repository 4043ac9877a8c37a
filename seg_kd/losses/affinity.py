"""Affinity distillation of Knowledge Adaptation (He et al., CVPR 2019).

After equations (4) and (5) of "Knowledge Adaptation for Efficient Semantic
Segmentation". There is no official code.
"""
from typing import Optional, Tuple

import torch
from torch import Tensor, nn

from ._functional import (cleared, full_precision, inverse, prepare, tiles,
                          with_gradient)
from ._gram import Grams, gram, nearly_equal, product_dtype

FLOOR = 1e-6  # rows that agree better (RMS of cosines) get no gradient


class AffinityLoss(nn.Module):
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
    affinities agree to less than 5 % are worked on in float64, on CUDA all
    are. Equal maps give about 1e-7 instead of 0 (in the cosines' root mean
    square), the root of float64's rounding, and a finite gradient. The
    gradient cannot be differentiated again.

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

    def __init__(self, per: str = 'map') -> None:
        super().__init__()
        if per not in ('map', 'position'):
            raise ValueError(f"per must be 'map' or 'position', not {per!r}")
        self.per = per

    def extra_repr(self) -> str:
        return f'per={self.per!r}'

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Optional[Tensor] = None) -> Tensor:
        with full_precision(teacher):
            student, teacher, valid = prepare(student, teacher, mask)
            value, gradient = self._batch(student.detach(), teacher, valid)
            return with_gradient(student, value, gradient)

    @torch.no_grad()
    def _batch(self, student: Tensor, teacher: Tensor,
               valid: Tensor) -> Tuple[Tensor, Tensor]:
        """The loss and its derivative by the student's map."""
        count = valid.flatten(1).sum(1).double()
        power = 1. if self.per == 'map' else 1.5
        scale = count.clamp(min=1).pow(-power) / (count > 0).sum().clamp(min=1)
        value = student.new_zeros((), dtype=torch.double)
        gradient = torch.empty_like(student,
                                    memory_format=torch.contiguous_format)
        for n, maps in enumerate(zip(student, teacher)):
            s, t = (x.flatten(1) for x in maps)
            rows = row_sum(s, t, valid[n].flatten(), scale[n],
                           gradient[n].flatten(1))
            value += scale[n] * rows
        return value.to(student.dtype), gradient


def row_sum(student: Tensor, teacher: Tensor, valid: Tensor, scale: Tensor,
            gradient: Tensor) -> Tensor:
    r"""``sum_i |a_i|``, ``a_ij = s_i s_j - t_i t_j`` of unit vectors.

    Fills ``gradient``, shaped as ``student``, with ``scale`` times the
    derivative by the student's vectors. Both follow from C x C matrices:

    .. math::
        |a_i|^2 &= s_i (S'S) s_i' + t_i (T'T) t_i' - 2 s_i (S'T) t_i' \\
        \partial / \partial s_k &= \sum_j a_{kj} (1/|a_k| + 1/|a_j|) s_j

    Shape:
        ``(Cs, P), (Ct, P), (P,), (), (Cs, P) -> ()``.
    """
    dtype = product_dtype(student)
    s, t, length = unit_pair(student, teacher, valid, dtype)
    grams = gram(s, s), gram(s, t), gram(t, t)
    if dtype is torch.float32 and nearly_equal(grams):
        del s, t
        s, t, length = unit_pair(student, teacher, valid, torch.double)
        grams = gram(s, s), gram(s, t), gram(t, t)
    floor = FLOOR * valid.sum().double().sqrt()
    return from_grams(s, t, grams, floor, scale * length, gradient)


def unit_pair(student: Tensor, teacher: Tensor, valid: Tensor,
              dtype: torch.dtype) -> Tuple[Tensor, Tensor, Tensor]:
    """Both as unit columns, and 1 over the lengths of the student's."""
    s, length = unit_columns(student, valid, dtype)
    return s, unit_columns(teacher, valid, dtype)[0], length


def unit_columns(x: Tensor, valid: Tensor,
                 dtype: torch.dtype) -> Tuple[Tensor, Tensor]:
    """Columns of length 1, and 1 over their lengths.

    Both are 0 where a position is not valid (NaN there does no harm), or has
    a vector of zeros.
    """
    x = cleared(x, valid).to(dtype)
    length = inverse(x.square().sum(0).sqrt())
    return x * length, length


def from_grams(s: Tensor, t: Tensor, grams: Grams, floor: Tensor,
               scale: Tensor, gradient: Tensor) -> Tensor:
    """``sum_i |a_i|``; a row shorter than ``floor`` has no derivative.

    Fills ``gradient`` with the derivative by the unit vectors ``s``, passed
    on through their normalisation, times ``scale``, ``(P,)``.
    """
    ss, st, tt = (x.to(s.dtype) for x in grams)
    weighted_ss, weighted_st = (torch.zeros_like(x) for x in grams[:2])
    value = torch.zeros_like(floor)
    for tile in tiles(len(s), s.shape[1], s.device):
        x, y = s[:, tile], t[:, tile]
        cross = st @ y
        toward = (ss @ x).sub_(cross)  # sum_j a_ij s_j
        square = ((toward - cross).mul_(x).sum(0, dtype=torch.double) +
                  (tt @ y).mul_(y).sum(0, dtype=torch.double))
        norm = square.clamp(min=0).sqrt()
        value += norm.sum()
        weight = torch.where(norm > floor, 1 / norm, 0.).to(s.dtype)
        gradient[:, tile] = toward.mul_(weight)
        weighted = x * weight
        weighted_ss += weighted @ x.T
        weighted_st += weighted @ y.T
    ss, st = weighted_ss.to(s.dtype), weighted_st.to(s.dtype)
    for tile in tiles(len(s), s.shape[1], s.device):  # the other rows' part
        x = s[:, tile]
        total = (ss @ x).sub_(st @ t[:, tile]).add_(gradient[:, tile])
        total.sub_(x * (total * x).sum(0))
        gradient[:, tile] = total.mul_(scale[tile])
    return value
