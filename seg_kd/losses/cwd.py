"""CWD: channel-wise knowledge distillation (Shu et al., ICCV 2021).

"Channel-wise Knowledge Distillation for Dense Prediction". After equations
(4) and (5), ``losses/cwd.py`` of winycg/CIRKD and
``mmrazor/models/losses/cwd.py`` of open-mmlab/mmrazor.
"""
import torch
from torch import Tensor

from seg_kd.losses._functional import check_norm, number_of, prepare
from seg_kd.losses._logits import check_temperature
from seg_kd.losses._maps import MapLoss
from seg_kd.losses.connector import make_connector


class CWDLoss(MapLoss):
    r"""Where in the image each channel is active, compared as distributions.

    .. math::
        \phi(x_c)_i = \frac{\exp(x_{c,i} / \tau)}{\sum_j \exp(x_{c,j} / \tau)},
        \qquad
        \tau^2 \operatorname{mean}_{n, c} \sum_i \phi(t_c)_i
        \log \frac{\phi(t_c)_i}{\phi(A s_c)_i}

    The softmax runs over the valid positions :math:`i` of an image, one
    channel at a time; :math:`A` is a 1x1 convolution, trained with the
    student, where the channels differ, and nothing where they agree. For
    logits the channels are the classes: tap where both networks classify.

    Both references compute this value. They have no mask: here a position
    without a label is in neither distribution, and an image without any
    valid position does not count. The student's map is resized to the
    teacher's grid.

    Args:
        student_channels: ``Cs``.
        teacher_channels: ``Ct``.
        temperature: :math:`\tau`. The paper takes 4; weight 3 for logits, 50
            for the last map of the backbone.
        connector: :math:`A`, see
            :func:`~seg_kd.losses.connector.connector_layers`.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``, in nats times
        :math:`\tau^2`, per channel of an image. A distribution over more
        positions can differ by more, but the value does not grow with batch
        or channels, and repeating a map leaves it as it is.

    Raises:
        ValueError: For a temperature that is not positive, another
            ``connector``, or maps that do not fit; in training with BN also
            for a single 1x1 map.
    """

    shown = ('temperature', )

    def __init__(self,
                 student_channels: int,
                 teacher_channels: int,
                 temperature: float = 4.,
                 connector: str = 'linear') -> None:
        super().__init__(student_channels, teacher_channels)
        check_temperature(temperature)
        self.temperature = temperature
        self.connector = make_connector(connector, student_channels,
                                        teacher_channels)

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        check_norm(self, student)
        student, teacher, valid = prepare(student, teacher, mask)
        student = self.connector(student.where(valid.unsqueeze(1), 0.))
        log_s, log_t = (self._log_shares(x, valid) for x in (student, teacher))
        divergence = (log_t.exp() * (log_t - log_s)).sum(2)
        channels = number_of(valid.flatten(1).any(1)) * teacher.shape[1]
        value = self.temperature**2 / channels * divergence.sum()
        return value.to(divergence.dtype)

    def _log_shares(self, x: Tensor, valid: Tensor) -> Tensor:
        """Logarithm of each position's share in its channel.

        A position that does not count has a share of 0. Its logarithm is the
        lowest finite number, for which 0 times it is 0.

        Shape:
            ``(N, C, H, W), (N, H, W) -> (N, C, H * W)``.
        """
        lowest = torch.finfo(x.dtype).min
        x = (x / self.temperature).masked_fill(~valid.unsqueeze(1), lowest)
        return x.flatten(2).log_softmax(2)
