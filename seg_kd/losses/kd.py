"""Knowledge distillation on logits (Hinton et al., NIPS workshop 2014).

"Distilling the Knowledge in a Neural Network". Dense after ``losses/kd.py``
of winycg/CIRKD, paper form after ``distiller_zoo/KD.py`` of
HobbitLong/RepDistiller.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_kd.losses._functional import (check_choice, check_form, keep,
                                       mask_invalid)
from seg_kd.losses._logits import LogitLoss, Strips, check_temperature, scaled


class KDLoss(LogitLoss):
    r"""How far the student's class probabilities are from the teacher's.

    .. math::
        \tau^2 \operatorname{mean}_i \mathrm{KL} \bigl(
        \operatorname{softmax}(t_i / \tau) \,\|\,
        \operatorname{softmax}(s_i / \tau) \bigr)

    :math:`i` runs over the valid positions of the batch, the softmax and the
    divergence over classes. :math:`\tau^2` keeps the gradient's size when
    the temperature changes. On vectors of logits, maps of 1x1, this is the
    paper's term as classification codes have it; on maps it is CIRKD's
    (temperature 1 there), but for the mask.

    The paper form divides by the number of images alone, as RepDistiller and
    ``kl_div(reduction='batchmean')`` do, so it grows with the crop: it is the
    dense form times the valid positions an image, 32768 for a 512x1024 crop
    at stride 4. The paper adds the term to that of the labels
    and halves the sum; here the weights of the two are the config's.

    ``activation='sigmoid'`` is for heads whose classes are a question each,
    mmseg's ``use_sigmoid=True`` and a single logit of foreground among them:
    the divergence is that of each class from what is not it, added up over
    classes.

    A student on another grid is resized as it would be for a prediction. The
    teacher's is the default: it is the finer one in most pairs, and to thin
    it out would lose what is narrower than a position of the student. The
    gradient is found together with the value, some rows at a time, and
    cannot be differentiated again.

    Args:
        temperature: :math:`\tau`. 4 in classification, 1 in CIRKD.
        form: ``'dense'``, the mean over valid positions, or ``'paper'``.
        grid: ``'teacher'``, or ``'mask'``: both are resized to the grid of
            the mask, which is that of the labels.
        activation: ``'softmax'`` over classes, or ``'sigmoid'`` of each.

    Shape:
        ``(N, C, h, w), (N, C, H, W), (N, ., .) -> ()``, in nats times
        :math:`\tau^2`, a position (paper: an image).

    Raises:
        ValueError: For a temperature that is not positive, another ``form``,
            ``grid`` or ``activation``, unequal classes or batches, fewer than
            two classes under a softmax, maps that are not 4-d, a mask that is
            not ``(N, ., .)`` bool, or none with ``grid='mask'``.
    """

    shown = 'temperature', 'form', 'grid', 'activation'

    def __init__(self,
                 temperature: float = 4.,
                 form: str = 'dense',
                 grid: str = 'teacher',
                 activation: str = 'softmax') -> None:
        super().__init__(grid)
        check_temperature(temperature)
        check_form(form)
        check_choice('activation', activation, 'softmax', 'sigmoid')
        self.temperature = temperature
        self.form = form
        self.activation = activation
        self.least_classes = 2 if activation == 'softmax' else 1

    def _value_and_grad(self, strips: Strips) -> Tensor:
        count = strips.count
        if self.form == 'paper':
            count = torch.full_like(count, len(strips.gradient))
        scale = 1 / count.clamp(min=1)
        value = torch.zeros_like(scale)
        for student, teacher, valid, add in strips:
            divergence, slope = self._positions(student, teacher)
            divergence = keep(divergence, valid)
            value += divergence.sum(dtype=torch.double)
            add(mask_invalid(slope.mul_(scale), valid))
        return value * scale

    def _positions(self, student: Tensor,
                   teacher: Tensor) -> tuple[Tensor, Tensor]:
        """The term at each position; gradient with respect to student."""
        log_s, log_t = map(self._log_probabilities, (student, teacher))
        t = log_t.exp()
        divergence = log_t.sub_(log_s).mul_(t).flatten(1, 2)
        divergence = divergence.sum(1, keepdim=True)
        divergence.clamp_(min=0)  # but for rounding it is not below
        slope = log_s.exp_().sub_(t)[:, 0].mul_(self.temperature)
        return divergence.mul_(self.temperature**2), slope

    def _log_probabilities(self, logits: Tensor) -> Tensor:
        """Of each class, and with sigmoids of what is not it.

        Shape:
            ``(N, C, ., .) -> (N, 1 or 2, C, ., .)``.
        """
        logits = scaled(logits, self.temperature)
        if self.activation == 'softmax':
            return logits.log_softmax(1).unsqueeze(1)
        return torch.stack([F.logsigmoid(logits), F.logsigmoid(-logits)], 1)
