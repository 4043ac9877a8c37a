"""Feature adaptation of Knowledge Adaptation (He et al., CVPR 2019).

After equation (3) of "Knowledge Adaptation for Efficient Semantic
Segmentation". There is no official code.
"""

import torch
from torch import Tensor, nn

from seg_kd.losses._functional import (full_precision, inverse, norm_and_slope,
                                       prepare, tiles, with_gradient)


class AdaptationLoss(nn.Module):
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

    def __init__(self, p: float = 1, q: float = 2) -> None:
        super().__init__()
        if not (p >= 1 and q >= 1):
            raise ValueError(f'p and q must be at least 1, not {p} and {q}')
        self.p = p
        self.q = q

    def extra_repr(self) -> str:
        return f'p={self.p}, q={self.q}'

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None) -> Tensor:
        with full_precision(teacher):
            student, teacher, valid = prepare(student, teacher, mask)
            if student.shape[1] != teacher.shape[1]:
                raise ValueError(
                    f'student has {student.shape[1]} channels and teacher '
                    f'{teacher.shape[1]}: put an adapter between (KALoss)')
            value, gradient = self._batch(student.detach(), teacher, valid)
            return with_gradient(student, value, gradient)

    @torch.no_grad()
    def _batch(self, student: Tensor, teacher: Tensor,
               valid: Tensor) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient with respect to the student's map."""
        scale = 1 / valid.sum().clamp(min=1).to(student.dtype)
        value = student.new_zeros((), dtype=torch.double)
        gradient = torch.empty_like(student,
                                    memory_format=torch.contiguous_format)
        for s, t, keep, out in zip(student, teacher, valid, gradient):
            s, t, keep, out = (x.flatten(-2) for x in (s, t, keep, out))
            for tile in tiles(len(s), s.shape[1], s.device):
                distance, slope = self._positions(s[:, tile], t[:, tile])
                distance = torch.where(keep[tile], distance, 0.)
                value += distance.sum(dtype=torch.double)
                out[:, tile] = torch.where(keep[tile], slope * scale, 0.)
        return (value * scale).to(student.dtype), gradient

    def _positions(self, student: Tensor,
                   teacher: Tensor) -> tuple[Tensor, Tensor]:
        """Distance at each position; gradient with respect to student."""
        length, length_slope = norm_and_slope(student, self.q)
        to_unit = inverse(length)
        unit = student * to_unit
        teacher = teacher * inverse(norm_and_slope(teacher, self.q)[0])
        distance, slope = norm_and_slope(unit - teacher, self.p)
        slope -= length_slope * (slope * unit).sum(0)
        return distance, slope.mul_(to_unit)
