"""AB, activation boundaries (Heo et al., AAAI 2019).

After "Knowledge Transfer via Distillation of Activation Boundaries Formed by
Hidden Neurons" and ``cifar10_AB_distillation.py`` of bhheo/AB_distillation.
"""
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seg_kd.losses._functional import (as_list, check_channels, check_form,
                                       check_norm, full_precision,
                                       mask_nonfinite, number_of, prepare,
                                       tiles, with_gradient)
from seg_kd.losses.connector import connector_layers

Channels = int | Sequence[int]
Maps = Tensor | Sequence[Tensor]


class ABLoss(nn.Module):
    r"""Whether the student's neurons are on where the teacher's are.

    .. math::
        \sum_l w_l \operatorname{mean}_{n,c,j}
        \max(0, \mu - \sigma\, C_l(S_l))^2, \qquad
        \sigma = \begin{cases} 1 & T_l > 0 \\ -1 & T_l \le 0 \end{cases}

    S and T are responses *before* their ReLU (``'layer.activate:input'`` in a
    layer path), but of T only the sign counts, which a ReLU does not change.
    :math:`C_l` is a connector, 1x1 conv and BN, trained with the student;
    where the channels agree there is none. :math:`w_l` is 1 for the last
    layer and halves towards the first, as the authors have it.

    Dense: the mean over channels and valid positions. With ``form='paper'``
    it is the authors' sum over an image, times 3/1000, mean over images: the
    dense form of a layer times :math:`0.003\, C_l m_l` for m positions.

    Ignored positions count in no term, but the connectors' BN sees them. The
    gradient with respect to the connected map is found together with the
    value, and cannot be differentiated again.

    Args:
        student_channels: Of the student's map, or of each, first to last.
        teacher_channels: Of the teacher's.
        margin: :math:`\mu`. Authors: 1.
        form: ``'dense'`` or ``'paper'``.
        connector: The connectors' kind, see
            :func:`~seg_kd.losses.connector.connector_layers`.

    Attributes:
        connectors: One for each layer.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``, or lists of such
        maps. A connected map on another grid is resized to the teacher's. In
        squared units of the margin; 1 for a student of zeros and one layer.

    Raises:
        ValueError: For another ``form`` or ``connector``, a margin that is not
            positive, maps
            of other number, channels or batches, or a mask that is not
            ``(N, ., .)`` bool; in training also for a single 1x1 map, which
            BN cannot normalize.
    """

    def __init__(self,
                 student_channels: Channels,
                 teacher_channels: Channels,
                 margin: float = 1.,
                 form: str = 'dense',
                 connector: str = 'bn') -> None:
        super().__init__()
        check_form(form)
        if margin <= 0:
            raise ValueError(f'margin must be positive, not {margin}')
        self.channels = list(
            zip(as_list(student_channels), as_list(teacher_channels)))
        self.margin, self.form = margin, form
        self.connectors = nn.ModuleList(
            start(connector, *channels) for channels in self.channels)

    def extra_repr(self) -> str:
        return f'margin={self.margin}, form={self.form!r}'

    def forward(self,
                student: Maps,
                teacher: Maps,
                mask: Tensor | None = None) -> Tensor:
        pairs = list(zip(as_list(student), as_list(teacher)))
        if len(pairs) != len(self.connectors):
            raise ValueError(f'{len(pairs)} maps for {len(self.connectors)} '
                             'connectors')
        total = 0.
        for i, (s, t) in enumerate(reversed(pairs)):
            total = total + self._layer(len(pairs) - 1 - i, s, t, mask) / 2**i
        return total

    def _layer(self, index: int, student: Tensor, teacher: Tensor,
               mask: Tensor | None) -> Tensor:
        check_channels(student, 'student', self.channels[index][0])
        check_channels(teacher, 'teacher', self.channels[index][1])
        connect = self.connectors[index]
        check_norm(connect, student)
        weight = next(connect.parameters(), student)
        with full_precision(teacher):
            dtype = torch.promote_types(weight.dtype, torch.float32)
            student = connect(mask_nonfinite(student.to(dtype), mask))
            student, teacher, valid = prepare(student, teacher, mask)
            scale = (.003 / len(student) if self.form == 'paper' else 1 /
                     (number_of(valid) * student.shape[1]))
            value, gradient = self._batch(student.detach(), teacher, valid,
                                          scale)
            return with_gradient(student, value, gradient)

    @torch.no_grad()
    def _batch(self, student: Tensor, teacher: Tensor, valid: Tensor,
               scale) -> tuple[Tensor, Tensor]:
        """The loss, and its gradient with respect to the connected map."""
        value = student.new_zeros((), dtype=torch.double)
        gradient = torch.empty_like(student,
                                    memory_format=torch.contiguous_format)
        for s, t, keep, out in zip(student, teacher, valid, gradient):
            s, t, keep, out = (x.flatten(-2) for x in (s, t, keep, out))
            for tile in tiles(len(s), s.shape[1], s.device):
                side = (t[:, tile] > 0).to(s.dtype).mul_(2).sub_(1)
                short = (self.margin - s[:, tile] * side).clamp_(min=0)
                short.masked_fill_(~keep[tile], 0.)
                out[:, tile] = side.mul_(short).mul_(-2 * scale)
                value += short.square_().sum(dtype=torch.double)
        return (value * scale).to(student.dtype), gradient


def start(kind: str, before: int, after: int) -> nn.Module:
    """A connector, initialized as the authors do; nothing if they agree.

    Shape:
        ``(N, before, H, W) -> (N, after, H, W)``.
    """
    if before == after:
        return nn.Identity()
    layers = connector_layers(kind, before, after)
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, std=math.sqrt(2 / after))
    return nn.Sequential(*layers)
