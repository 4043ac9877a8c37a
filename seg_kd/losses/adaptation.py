"""Feature adaptation of Knowledge Adaptation (He et al., CVPR 2019).

After equation (3) of "Knowledge Adaptation for Efficient Semantic
Segmentation". There is no official code.
"""

from torch import Tensor

from seg_kd.losses._functional import (check_equal, inverse, norm_and_slope,
                                       prepare, sum_positions)
from seg_kd.losses._maps import MapLoss


class AdaptationLoss(MapLoss):
    r"""Distance of the directions of student and teacher at each position.

    .. math::
        \tfrac1m \sum_j \Bigl\| \frac{S_j}{\|S_j\|_q}
        - \frac{T_j}{\|T_j\|_q} \Bigr\|_p

    :math:`j` runs over the :math:`m` valid positions; the norms sum over
    channels, as in the paper. Each position is normalized by itself: the
    known port divides the whole map by one length, which lets positions with
    large activations decide, and is not the paper's.

    A vector of zeros stays zero and gets no gradient. The gradient is found
    together with the value, tile by tile, and cannot be differentiated again.

    Args:
        p: Order of the distance, from 1 to inf. Paper: 1.
        q: Order of the normalization, from 1 to inf. Paper: 2.

    Shape:
        ``(N, C, h, w), (N, C, H, W), (N, ., .) -> ()``. A student on another
        grid is resized to the teacher's. The mean over all valid positions
        of the batch does not depend on batch or crop; with p=1 and q=2 it
        lies between 0 and :math:`2 \sqrt C`.

    Raises:
        ValueError: For p or q below 1, unequal channels or batches, maps that
            are not 4-d, or a mask that is not ``(N, ., .)`` bool.
    """

    shown = 'p', 'q'

    def __init__(self, p: float = 1, q: float = 2) -> None:
        super().__init__()
        if not (p >= 1 and q >= 1):
            raise ValueError(f'p and q must be at least 1, not {p} and {q}')
        self.p = p
        self.q = q

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        student, teacher, valid = prepare(student, teacher, mask)
        check_equal(student, teacher, 'put an adapter between (KALoss)')
        scale = 1 / valid.sum().clamp(min=1).to(student.dtype)
        return sum_positions(self._positions, student, teacher, valid, scale)

    def _positions(self, student: Tensor,
                   teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Distance at each position; gradient with respect to student."""
        length, length_slope = norm_and_slope(student, self.q)
        to_unit = inverse(length)
        unit = student * to_unit
        teacher = teacher * inverse(norm_and_slope(teacher, self.q)[0])
        distance, slope = norm_and_slope(unit - teacher, self.p)
        slope -= length_slope * (slope * unit).sum(-2, keepdim=True)
        return distance, slope.mul_(to_unit)
