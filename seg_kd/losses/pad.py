"""PAD, prime-aware adaptive distillation (Zhang et al., ECCV 2020).

There is no official code; the arithmetic is that of ``PADL2Loss`` and
``VarianceBranch4PAD`` of yoshitomo-matsubara/torchdistill, whose author had
it from the paper's.
"""

import math

import torch
from torch import Tensor, nn

from seg_kd.losses._functional import (channel_errors, check_choice,
                                       check_norm, input_of, mask_invalid,
                                       match_size, number_of, prepare)
from seg_kd.losses._maps import MapLoss, conv_bn
from seg_kd.losses.connector import make_connector


class PADLoss(MapLoss):
    r"""Squared error, which counts less where the student finds it hard.

    .. math::
        \operatorname{mean}_{n,c,j} \Bigl[
        \frac{(T - R(S))^2}{\epsilon + e^{v}} + v \Bigr], \qquad v = V(S)

    R is a 1x1 conv, none where the channels agree. V, the variance head, is a
    1x1 conv and BN: the log-variance that the student expects of its error.
    BN's scale starts at 0, so v is 0 and the loss goes on where the warm
    stage, the plain ``mean (T - R(S))^2``, ended.

    Dense and paper form are one: on vectors, as maps of one position, it is
    the reference's Linear, BN and mean. Ignored positions count in no term,
    but V's BN sees them.

    Args:
        student_channels: Of the student's map.
        teacher_channels: Of the teacher's.
        warm: Plain squared error. The head is there and takes part (with a
            gradient of 0), so that a next stage finds all of its weights.
        per: ``'channel'``, a log-variance for each channel of each position,
            the reference's; or ``'position'``, one for all channels.
        eps: Added to each variance, in squared teacher units.
        connector: R's kind; a linear one is nothing where channels agree, see
            :func:`~seg_kd.losses.connector.connector_layers`.

    Attributes:
        regressor: R.
        head: V.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``. Maps of the student
        on another grid are resized to the teacher's. In nats per activation
        (twice a negative Gaussian log-likelihood, but for a constant): may be
        negative. Warm: in squared teacher units.

    Raises:
        ValueError: For another ``per`` or ``connector``, ``eps`` not above 0,
            maps of other channels or unequal batches, or a mask that is not
            ``(N, ., .)`` bool; in training, unless warm, also for a single
            1x1 map, which BN cannot normalize.
    """

    shown = 'warm', 'eps'

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 warm: bool = False,
                 per: str = 'channel',
                 eps: float = 1e-6,
                 connector: str = 'linear') -> None:
        super().__init__(student_channels, teacher_channels)
        check_choice('per', per, 'channel', 'position')
        if eps <= 0:
            raise ValueError(f'eps must be positive, not {eps}')
        self.warm, self.eps = warm, eps
        self.regressor = make_connector(connector,
                                        student_channels,
                                        teacher_channels,
                                        bias=True)
        self.head = conv_bn(student_channels,
                            teacher_channels if per == 'channel' else 1)
        nn.init.zeros_(self.head[1].weight)

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        check_norm(self.regressor if self.warm else self, student)
        student = input_of(self, student, mask)
        mean = self.regressor(student)
        if self.warm:
            idle = sum(p.sum() for p in self.head.parameters()) * 0
            return channel_errors(mean, teacher, mask)[0].mean() + idle
        mean, teacher, valid = prepare(mean, teacher, mask)
        keep = valid.unsqueeze(1)
        gap = mask_invalid(teacher - mean, keep)
        spread = mask_invalid(match_size(self.head(student), teacher), keep)
        # 1 / (eps + e^v), which overflows neither way
        precision = (math.log(self.eps) - spread).sigmoid() / self.eps
        terms = gap.square() * precision + spread
        total = terms.sum((2, 3)).sum(dtype=torch.double)
        return (total / (number_of(valid) * len(gap[0]))).to(gap.dtype)
