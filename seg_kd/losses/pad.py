"""PAD, prime-aware adaptive distillation (Zhang et al., ECCV 2020).

There is no official code; the arithmetic is that of ``PADL2Loss`` and
``VarianceBranch4PAD`` of yoshitomo-matsubara/torchdistill, whose author had
it from the paper's.
"""
import math

import torch
from torch import Tensor, nn

from seg_kd.losses._functional import (channel_errors, check_channels,
                                       full_precision, mask_invalid,
                                       match_size, prepare, tiles,
                                       with_gradient)


class PADLoss(nn.Module):
    r"""Squared error, which counts less where the student finds it hard.

    .. math::
        \operatorname{mean}_{n,c,j} \Bigl[
        \frac{(T - R(S))^2}{\epsilon + e^{v}} + v \Bigr], \qquad v = V(S)

    R is a 1x1 conv, none where the channels agree. V, the variance head, is a
    1x1 conv and BN: the log-variance that the student expects of its error.
    BN's scale starts at 0, so v is 0 and the loss goes on where the warm
    stage, the plain ``mean (T - R(S))^2``, ended.

    Dense and paper form are one: on vectors, as maps of one position, it is
    the reference's Linear, BN and mean.

    Args:
        student_channels: Of the student's map.
        teacher_channels: Of the teacher's.
        warm: Plain squared error. The head is there and takes part (with a
            gradient of 0), so that a next stage finds all of its weights.
        per: ``'channel'``, a log-variance for each channel of each position,
            the reference's; or ``'position'``, one for all channels.
        eps: Added to each variance, in squared teacher units.

    Attributes:
        regressor: R.
        head: V.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``. Maps of the student
        on another grid are resized to the teacher's. In nats per activation
        (twice a negative Gaussian log-likelihood, but for a constant): may be
        negative. Warm: in squared teacher units.

    Raises:
        ValueError: For another ``per``, ``eps`` not above 0, maps of other
            channels or unequal batches, or a mask that is not ``(N, ., .)``
            bool.
    """

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 warm: bool = False,
                 per: str = 'channel',
                 eps: float = 1e-6) -> None:
        super().__init__()
        if per not in ('channel', 'position'):
            raise ValueError(f"per must be 'channel' or 'position', not "
                             f'{per!r}')
        if eps <= 0:
            raise ValueError(f'eps must be positive, not {eps}')
        self.channels = student_channels, teacher_channels
        self.warm, self.eps = warm, eps
        self.regressor: nn.Module = nn.Identity()
        if student_channels != teacher_channels:
            self.regressor = nn.Conv2d(student_channels, teacher_channels, 1)
        width = teacher_channels if per == 'channel' else 1
        self.head = nn.Sequential(
            nn.Conv2d(student_channels, width, 1, bias=False),
            nn.BatchNorm2d(width))
        nn.init.zeros_(self.head[1].weight)

    def extra_repr(self) -> str:
        return f'warm={self.warm}, eps={self.eps}'

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None) -> Tensor:
        check_channels(student, 'student', self.channels[0])
        check_channels(teacher, 'teacher', self.channels[1])
        with full_precision(teacher):
            student = student.to(self.head[0].weight.dtype)
            mean = self.regressor(student)
            if self.warm:
                idle = sum(p.sum() for p in self.head.parameters()) * 0
                return channel_errors(mean, teacher, mask)[0].mean() + idle
            mean, teacher, valid = prepare(mean, teacher, mask)
            spread = match_size(self.head(student), teacher)
            value, *slopes = self._batch(mean.detach(), spread.detach(),
                                         teacher, valid)
            # one term, by whose two parts both gradients go back
            return with_gradient(mean, value, slopes[0]) + with_gradient(
                spread, torch.zeros_like(value), slopes[1])

    @torch.no_grad()
    def _batch(self, mean: Tensor, spread: Tensor, teacher: Tensor,
               valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The loss, its derivatives by mean and log-variance."""
        share = 1 / (valid.sum().clamp(min=1) * mean.shape[1]).to(mean.dtype)
        value = mean.new_zeros((), dtype=torch.double)
        slopes = [
            torch.empty_like(x, memory_format=torch.contiguous_format)
            for x in (mean, spread)
        ]
        for m, v, t, keep, *out in zip(mean, spread, teacher, valid, *slopes):
            m, v, t, keep, *out = (x.flatten(-2)
                                   for x in (m, v, t, keep, *out))
            for tile in tiles(len(m), m.shape[1], m.device):
                terms = self._positions(
                    mask_invalid(m[:, tile] - t[:, tile], keep[tile]),
                    mask_invalid(v[:, tile], keep[tile]), keep[tile])
                value += terms[0].sum(dtype=torch.double)
                out[0][:, tile] = terms[1].mul_(share)
                out[1][:, tile] = terms[2].mul_(share)
        return (value * share).to(mean.dtype), *slopes

    def _positions(self, gap: Tensor, spread: Tensor,
                   keep: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Value and derivatives of each element; those by v of each of v."""
        precision = 1 / (spread.exp() + self.eps)
        slope = gap * precision
        error = gap.mul_(slope)
        known = torch.sigmoid(spread - math.log(self.eps))  # e^v precision
        by_spread = keep.to(gap) - error * known
        if len(spread) < len(gap):
            by_spread = by_spread.sum(0, keepdim=True)
        return error.add_(spread), slope.mul_(2), by_spread
