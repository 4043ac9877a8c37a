"""FitNets: hints for thin deep nets (Romero et al., ICLR 2015).

After equation (3) of the paper, ``losses/fitnet.py`` of winycg/CIRKD and
``distiller_zoo/FitNet.py`` of HobbitLong/RepDistiller.
"""

from torch import Tensor, nn

from seg_kd.losses._functional import (channel_errors, check_form, check_norm,
                                       input_of)
from seg_kd.losses._maps import MapLoss
from seg_kd.losses.connector import connector_layers

SCALES = {'dense': 1., 'paper': .5}


class FitNetLoss(MapLoss):
    r"""Squared distance of the teacher's map, the hint, from a regression.

    .. math:: \operatorname{mean}_{j, c} \bigl(r(S) - T\bigr)_{jc}^2

    :math:`j` runs over the valid positions of the batch, :math:`r` is a
    convolution that is trained with the student. CIRKD and RepDistiller
    compute this form, with weights 10 (or 1) and 100. The paper's is half of
    it, ``form='paper'``.

    Dense: maps need not agree in size. :math:`r` works on the student's grid
    and its output is resized to the teacher's, where the authors' codes
    assume equal grids or take strided and transposed convolutions.

    Args:
        student_channels: ``Cs``.
        teacher_channels: ``Ct``.
        form: ``'dense'``, or ``'paper'`` with the factor 1/2.
        kernel_size: Of the convolution, odd. CIRKD: 1.
        connector: ``'linear'``, ``'bn'`` (as in RepDistiller) or ``'mlp'``,
            see :func:`~seg_kd.losses.connector.connector_layers`. BN, and
            kernels above 1, see ignored positions too.
        relu: ReLU at the end, as the paper wants it where the hint itself
            comes out of one.
        bias: Of the convolution. Before BN there is none; RepDistiller's
            changes nothing there but the running mean.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``, in squared units of
        the teacher's activations: the value does not grow with batch, crop
        or channels.

    Raises:
        ValueError: For another ``form`` or ``connector``, an even kernel, or
            maps that do not fit; in training with BN also for a single 1x1
            map, which it cannot normalize.
    """

    shown = ('form', )

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 form: str = 'dense',
                 kernel_size: int = 1,
                 connector: str = 'linear',
                 relu: bool = False,
                 bias: bool = False) -> None:
        super().__init__(student_channels, teacher_channels)
        check_form(form)
        self.form = form
        self.regressor = connector_layers(connector, student_channels,
                                          teacher_channels, kernel_size, bias)
        if relu:
            self.regressor.append(nn.ReLU(inplace=True))

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        check_norm(self, student)
        student = self.regressor(input_of(self, student, mask))
        errors, _ = channel_errors(student, teacher, mask)
        return SCALES[self.form] * errors.mean()
