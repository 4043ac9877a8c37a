"""FSP, flow of solution procedure (Yim et al., CVPR 2017).

After "A Gift from Knowledge Distillation: Fast Optimization, Network
Minimization and Transfer Learning"; there is no official code. The arithmetic
is that of ``distiller_zoo/FSP.py`` of HobbitLong/RepDistiller.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses._functional import (EPS, as_list, check_choice, check_form,
                                       float_dtype, full_precision,
                                       layer_pairs, mask_invalid,
                                       valid_positions)
from seg_kd.losses._maps import Loss

Channels = Sequence[int]


class FSPLoss(Loss):
    r"""How a network goes from one layer to a later one, as inner products.

    .. math::
        G = \tfrac1m \sum_j F_{1,j} F_{2,j}^\top \in R^{C_1 \times C_2},
        \qquad \sum_\text{pairs} \operatorname{mean}_n
        \operatorname{mean}_{a,b} (G_s - G_t)_{ab}^2

    j runs over the m valid positions of one image; the mean is over images
    that have any. Of two layers the finer one is pooled to the grid of the
    other. Student and teacher need not share a grid: m differs, G does not.

    The entries' mean is the dense form, and RepDistiller's. With
    ``form='paper'`` it is their sum, :math:`C_1 C_2` times as much (of the
    teacher).

    Where the channels of student and teacher differ, a layer of the student
    gets a connector, a 1x1 conv W without bias. As G is linear in both
    layers, it is applied to G itself: :math:`W_1 G_s W_2^\top`, which costs
    nothing next to G, and no map of the teacher's width is ever made.

    Args:
        student_channels: Of the student's maps, first to last.
        teacher_channels: Of the teacher's.
        pairs: Indices of the layers of each pair; by default each with the
            next.
        pool: ``'avg'`` as in RepDistiller, over valid positions; or ``'max'``
            as in torchdistill.
        form: ``'dense'`` or ``'paper'``.

    Attributes:
        connectors: W of each layer, ``(Ct, Cs)``, where one is needed.

    Shape:
        ``[(N, Cs_l, h_l, w_l)], [(N, Ct_l, H_l, W_l)], (N, ., .) -> ()``, in
        the teacher's units to the fourth; it does not grow with the crop. Of
        float16 maps of large activations the gradient at weight 1 may not fit
        into float16, in which it goes back: a small weight makes it.

    Raises:
        ValueError: For another ``pool`` or ``form``, fewer than two layers,
            pairs that name others, or maps of other number, channels or
            batches.
    """

    shown = 'pairs', 'pool', 'form'

    def __init__(self,
                 student_channels: Channels,
                 teacher_channels: Channels,
                 pairs: Sequence[tuple[int, int]] | None = None,
                 pool: str = 'avg',
                 form: str = 'dense') -> None:
        super().__init__()
        check_form(form)
        check_choice('pool', pool, 'avg', 'max')
        self.channels = list(
            zip(as_list(student_channels), as_list(teacher_channels)))
        count = len(self.channels)
        pairs = pairs or [(i, i + 1) for i in range(count - 1)]
        if not pairs or not all(0 <= i < count for pair in pairs
                                for i in pair):
            raise ValueError(f'pairs {pairs} of {count} layers; name two or '
                             'more layers')
        self.pairs, self.pool, self.form = pairs, pool, form
        self.connectors = nn.ParameterDict({
            str(i):
            nn.init.orthogonal_(torch.empty(t, s))
            for i, (s, t) in enumerate(self.channels)
            if s != t and any(i in pair for pair in pairs)
        })

    def forward(self,
                student: Sequence[Tensor],
                teacher: Sequence[Tensor],
                mask: Tensor | None = None) -> Tensor:
        student, teacher = zip(*layer_pairs(student, teacher, self.channels))
        total = 0.
        with full_precision(teacher[0]):
            # an image with nothing valid has G = 0 in both
            images = torch.as_tensor(
                len(teacher[0]) if mask is
                None else mask.flatten(1).any(1).sum()).clamp(min=1)
            for i, j in self.pairs:
                s = flow(student[i], student[j], mask, self.pool)
                with torch.no_grad():
                    t = flow(teacher[i], teacher[j], mask, self.pool)
                s = self._connect(i, self._connect(j, s.mT).mT)
                total = total + self._distance(s, t) / images
        return total

    def _connect(self, layer: int, matrix: Tensor) -> Tensor:
        """From the student's channels in the rows to the teacher's."""
        if str(layer) not in self.connectors:
            return matrix
        return self.connectors[str(layer)] @ matrix

    def _distance(self, student: Tensor, teacher: Tensor) -> Tensor:
        reduce = torch.sum if self.form == 'paper' else torch.mean
        return reduce((student - teacher).square(), (1, 2)).sum()


def flow(first: Tensor, second: Tensor, mask: Tensor | None,
         pool: str) -> Tensor:
    """G of each image: mean over positions of the products of two layers.

    Shape:
        ``(N, C1, h, w), (N, C2, H, W), (N, ., .) -> (N, C1, C2)``, in float32
        or better; 0 for an image with nothing valid.
    """
    size = tuple(map(min, first.shape[2:], second.shape[2:]))
    (a, some), (b, other) = (pooled(x, mask, size, pool)
                             for x in (first, second))
    valid = valid_positions(a, mask).unsqueeze(1)
    for seen in (some, other):
        valid = valid if seen is None else valid & seen
    a, b = (mask_invalid(x, valid) for x in (a, b))
    count = valid.sum((2, 3)).clamp(min=1).unsqueeze(2)
    return a.flatten(2) @ b.flatten(2).mT / count


def pooled(features: Tensor, mask: Tensor | None, size: tuple[int, int],
           pool: str) -> tuple[Tensor, Tensor | None]:
    """A map on a coarser grid, and which positions had a valid one.

    None where that is the map's own grid.

    Shape:
        ``(N, C, H, W), (N, ., .) -> (N, C, *size), (N, 1, *size)``.
    """
    features = features.to(float_dtype(features))
    if features.shape[2:] == size:
        return features, None
    valid = valid_positions(features, mask).unsqueeze(1)
    share = F.adaptive_avg_pool2d(valid.to(features), size)
    if pool == 'max':
        features = features.where(valid, -1e30)
        return F.adaptive_max_pool2d(features, size), share > 0
    features = average(mask_invalid(features, valid), size)
    if mask is not None:  # 0 by anything, where there is no share
        features = features / share.clamp(min=EPS)
    return features, share > 0


def average(x: Tensor, size: tuple[int, int]) -> Tensor:
    """``adaptive_avg_pool2d``, on a CPU slow where all cells are equal."""
    if (x.device.type != 'cpu' or x.shape[2] % size[0]
            or x.shape[3] % size[1]):
        return F.adaptive_avg_pool2d(x, size)
    sums = x.unflatten(2, (size[0], -1)).sum(3)
    sums = sums.unflatten(3, (size[1], -1)).sum(4)
    return sums * (sums.numel() / x.numel())
