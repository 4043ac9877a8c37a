"""Logit standardization (Sun et al., CVPR 2024).

"Logit Standardization in Knowledge Distillation", after
``mdistiller/distillers/KD.py`` of sunshangquan/logit-standardization-KD.
"""

from torch import Tensor

from seg_kd.losses._functional import inverse
from seg_kd.losses.kd import KDLoss

EPS = 1e-7


class LogitStdLoss(KDLoss):
    r"""Knowledge distillation of z-scores: the ranks, not the magnitudes.

    .. math::
        \mathrm{KD}_\tau(z(s), z(t)), \qquad z(x) = \frac{x -
        \operatorname{mean}_c x}{10^{-7} + \operatorname{std}_c x}

    Mean and (unbiased) deviation are those of the classes at one position, so
    a student need not reach the range of its teacher's logits. The authors'
    code takes them over the last axis, which is the classes in a matrix of
    logits and would be the width in a map. With positions as its rows it
    gives this value, already a mean: there is no other form.

    Where the logits of a position are all equal there is no gradient through
    the deviation.

    Args:
        temperature: :math:`\tau`, of the z-scores.
        grid: As in :class:`KDLoss`.

    Shape:
        As :class:`KDLoss`, in nats times :math:`\tau^2`.

    Raises:
        ValueError: As :class:`KDLoss`.
    """

    def __init__(self, temperature: float = 2., grid: str = 'teacher') -> None:
        super().__init__(temperature, grid=grid)

    def _positions(self, student: Tensor,
                   teacher: Tensor) -> tuple[Tensor, Tensor]:
        z, deviation = standardize(student)
        divergence, slope = super()._positions(z, standardize(teacher)[0])
        # KD's slopes add up to 0 over classes: nothing passes by the mean
        along = (slope * z).sum(1, keepdim=True)
        along *= inverse(deviation) / (z.shape[1] - 1)
        deviation += EPS
        slope -= z.mul_(along.mul_(deviation))
        return divergence, slope.div_(deviation)


def standardize(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Z-scores over the classes, and the standard deviations.

    Shape:
        ``(N, C, H, W) -> (N, C, H, W), (N, 1, H, W)``.
    """
    centred = logits - logits.mean(1, keepdim=True)
    square = centred.square().sum(1, keepdim=True)
    deviation = square.div_(logits.shape[1] - 1).sqrt_()
    return centred.div_(deviation + EPS), deviation
