"""AB, activation boundaries (Heo et al., AAAI 2019).

After "Knowledge Transfer via Distillation of Activation Boundaries Formed by
Hidden Neurons" and ``cifar10_AB_distillation.py`` of bhheo/AB_distillation.
"""
import math
from collections.abc import Sequence
from functools import reduce
from operator import add

from torch import Tensor, nn

from seg_kd.losses._functional import (Maps, as_list, check_form, check_norm,
                                       full_precision, input_of, layer_pairs,
                                       number_of, prepare, sum_positions)
from seg_kd.losses._maps import Loss
from seg_kd.losses.connector import connector_layers

Channels = int | Sequence[int]


class ABLoss(Loss):
    r"""Whether the student's neurons are on where the teacher's are.

    .. math::
        \sum_l w_l \operatorname{mean}_{n,c,j}
        \max(0, \mu - \sigma\, R_l(S_l))^2, \qquad
        \sigma = \begin{cases} 1 & T_l > 0 \\ -1 & T_l \le 0 \end{cases}

    S and T are responses *before* their ReLU (``'layer.activate:input'`` in a
    layer path), but of T only the sign counts, which a ReLU does not change.
    :math:`R_l` is a connector, 1x1 conv and BN, trained with the student;
    where the channels agree there is none. :math:`w_l` is 1 for the last
    layer and halves towards the first, as the authors have it.

    Dense: the mean over channels and valid positions. With ``form='paper'``
    it is the authors' sum over an image, times 3/1000, mean over images: the
    dense form of a layer times :math:`0.003\, C_l m_l` for C channels and m
    positions.

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

    shown = 'margin', 'form'

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

    def forward(self,
                student: Maps,
                teacher: Maps,
                mask: Tensor | None = None) -> Tensor:
        pairs = layer_pairs(student, teacher, self.channels)
        layers = reversed(list(zip(self.connectors, pairs)))
        with full_precision(pairs[0][1]):
            return reduce(add, (self._layer(connect, *pair, mask, 2.**-i)
                                for i, (connect, pair) in enumerate(layers)))

    def _layer(self, connect: nn.Module, student: Tensor, teacher: Tensor,
               mask: Tensor | None, weight: float) -> Tensor:
        check_norm(connect, student)
        student = connect(input_of(connect, student, mask))
        student, teacher, valid = prepare(student,
                                          teacher,
                                          mask,
                                          is_finite=True)
        scale = .003 / len(student) if self.form == 'paper' else (
            number_of(valid) * student.shape[1]).reciprocal()
        return sum_positions(self._neurons, student, teacher, valid,
                             scale * weight)

    def _neurons(self, student: Tensor,
                 teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The term of each neuron, and its slope."""
        side = (teacher > 0).to(student.dtype).mul_(2).sub_(1)
        short = (self.margin - student * side).clamp_(min=0)
        return short.square(), side.mul_(short).mul_(-2)


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
    return layers
