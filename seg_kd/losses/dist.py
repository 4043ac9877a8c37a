"""DIST, distillation from a stronger teacher (Huang et al., NeurIPS 2022).

"Knowledge Distillation from A Stronger Teacher", after
``segmentation/losses/dist_kd.py`` of hunto/DIST_KD.
"""
from collections.abc import Iterator

import torch
from torch import Tensor

from seg_kd.losses._functional import keep, mask_invalid
from seg_kd.losses._logits import (LogitLoss, Strip, Strips, check_temperature,
                                   scaled)

EPS = 1e-8  # of the authors, added to the product of the lengths


class DISTLoss(LogitLoss):
    r"""How badly the student's probabilities correlate with the teacher's.

    .. math::
        \tau^2 \Bigl[ \beta \operatorname{mean}_i (1 - \rho(p_{s,i \cdot},
        p_{t,i \cdot})) + \gamma \operatorname{mean}_c (1 -
        \rho(p_{s,\cdot c}, p_{t,\cdot c})) \Bigr], \qquad
        p = \operatorname{softmax}(x / \tau)

    :math:`\rho` is Pearson's correlation: over the classes of one position
    (relations between classes), and over the valid positions :math:`i` of the
    whole batch in one class (relations within a class). This is the authors'
    form for segmentation, positions as rows, and already a mean: it does
    not depend on the crop. A port that correlates over the axis of images
    alone is another loss. The authors' classification code has the
    temperature, with weight 2 and :math:`\tau` 1 (4 on CIFAR).

    :math:`10^{-8}` is added to the product of the lengths, as the authors do:
    a class that is nowhere likely has correlation 0 rather than that of its
    tiny probabilities. Constant probabilities get no gradient. The authors'
    float32 sums over a million positions are off by 1 % on a CPU; here they
    are added in float64, and nothing cancels where the two nearly agree.
    Value and gradient are found in two passes over strips of rows, and cannot
    be differentiated again.

    Args:
        beta: Weight of the relations between classes.
        gamma: Weight of the relations within classes.
        temperature: :math:`\tau`.
        grid: As in :class:`KDLoss`.

    Shape:
        ``(N, C, h, w), (N, C, H, W), (N, ., .) -> ()``, correlations times
        :math:`\tau^2`: from 0 to :math:`2 \tau^2 (\beta + \gamma)`.

    Raises:
        ValueError: For a temperature that is not positive, another ``grid``,
            unequal classes or batches, fewer than two classes, maps that are
            not 4-d, a mask that is not ``(N, ., .)`` bool, or none with
            ``grid='mask'``.
    """

    shown = 'beta', 'gamma', 'temperature', 'grid'

    def __init__(self,
                 beta: float = 1.,
                 gamma: float = 1.,
                 temperature: float = 1.,
                 grid: str = 'teacher') -> None:
        super().__init__(grid)
        check_temperature(temperature)
        self.beta, self.gamma = beta, gamma
        self.temperature = temperature

    def _value_and_grad(self, strips: Strips) -> Tensor:
        mean, scale, left, lost, gap = self._classes(strips)
        beta = strips.count.clamp(min=1).reciprocal()
        beta *= self.beta * self.temperature**2
        gamma = self.gamma * self.temperature**2 / len(gap)
        value = gamma * lost.sum(dtype=torch.double) * (strips.count > 0)
        for strip in strips:
            s, t = self._probabilities(strip)
            distance, slope = between_classes(s, t)
            distance, slope = distance.mul_(beta), slope.mul_(beta)
            unit = (s - mean[0]).mul_(scale[0])
            difference = unit - t.sub_(mean[1]).mul_(scale[1])
            within = (difference.square() * left).sum(1, keepdim=True)
            distance += within.mul_(gamma / 2)
            difference -= unit.mul_(gap)
            slope += difference.mul_(scale[0] * left * gamma)
            value += keep(distance, strip.valid).sum(dtype=torch.double)
            slope *= s  # back through the softmax
            slope -= s.mul_(slope.sum(1, keepdim=True))
            slope = scaled(slope, self.temperature)
            strip.add(mask_invalid(slope, strip.valid))
        return value

    def _probabilities(self, strip: Strip) -> Iterator[Tensor]:
        return (scaled(x, self.temperature).softmax(1)
                for x in (strip.student, strip.teacher))

    def _classes(self, strips: Strips) -> list[Tensor]:
        """Per class: means, 1 over lengths, ``shares``, and ``1 - rho``.

        Shape:
            ``(2, C, 1, 1)`` twice, student first, then ``(C, 1, 1)``.
        """
        counts, found = [], []
        for strip in strips:
            valid = strip.valid
            one = valid.to(strips.gradient)
            counts.append(one.sum(dtype=torch.double))
            pair = [mask_invalid(x, valid) for x in self._probabilities(strip)]
            means = [x.sum((0, 2, 3)) / counts[-1].clamp(min=1) for x in pair]
            s, t = (x.sub_(m[:, None, None]).mul_(one)
                    for x, m in zip(pair, means))
            products = [(a * b).sum((0, 2, 3))
                        for a, b in ((s, s), (t, t), (s, t))]
            found.append(torch.stack(means + products))
        mean, products = merged(torch.stack(counts),
                                torch.stack(found).double())
        noise = rounding(strips.gradient)
        flat = (products[:2] <= noise * strips.count * mean.square()).any(0)
        scale = products[:2].rsqrt().masked_fill(flat, 0.)
        left, lost = shares(products[:2].sqrt().prod(0), flat)
        gap = 1 - left * products[2] * scale[0] * scale[1]
        rows = torch.cat((mean, scale, torch.stack((left, lost, gap))))
        rows = rows.to(strips.gradient)[..., None, None]
        return [rows[:2], rows[2:4], *rows[4:]]


def rounding(x: Tensor) -> float:
    """Variance, relative to the squared mean, that rounding may have made."""
    return 64 * torch.finfo(x.dtype).eps**2


def shares(product: Tensor, flat: Tensor) -> tuple[Tensor, Tensor]:
    """What the epsilon leaves of a cosine, and what it takes.

    Each to its own precision: ``|x||y|`` and EPS over their sum.
    """
    product = product.masked_fill_(flat, 0.)
    total = product + EPS
    return product / total, EPS / total


def merged(counts: Tensor, found: Tensor) -> tuple[Tensor, Tensor]:
    """Means and centred products of everything, from those of K parts.

    Shape:
        ``(K,), (K, 5, C) -> (2, C), (3, C)``; the products are those of s and
        s, t and t, s and t.
    """
    means, products = found.split((2, 3), 1)
    counts = counts[:, None, None]
    mean = (counts * means).sum(0) / counts.sum().clamp(min=1)
    s, t = (means - mean).unbind(1)
    apart = torch.stack([s * s, t * t, s * t], 1)
    return mean, (products + counts * apart).sum(0)


def between_classes(s: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """``1 - rho`` over the classes, and its gradient with respect to ``s``.

    As half the squared distance of the two directions: ``1 - rho`` itself
    cancels where they agree.

    Shape:
        ``(N, C, R, W)``, probabilities, to ``(N, 1, R, W), (N, C, R, W)``.
    """
    mean = 1 / s.shape[1]
    s, t = s - mean, t - mean
    squares = [x.square().sum(1, keepdim=True) for x in (s, t)]
    flat = torch.minimum(*squares) <= rounding(s) * mean
    left, lost = shares(squares[0].sqrt() * squares[1].sqrt(), flat)
    scale, other = (x.rsqrt_().masked_fill_(flat, 0.) for x in squares)
    difference = s.mul_(scale) - t.mul_(other)
    distance = difference.square().sum(1, keepdim=True).div_(2)
    distance.mul_(left).add_(lost)
    slope = difference.sub_(s.mul_(distance)).mul_(scale.mul_(left))
    return distance, slope
