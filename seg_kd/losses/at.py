"""AT, attention transfer (Zagoruyko and Komodakis, ICLR 2017).

After "Paying More Attention to Attention" and ``utils.py`` of
szagoruyko/attention-transfer; winycg/CIRKD has the same on maps.
"""
import torch
import torch.nn.functional as F
from torch import Tensor

from seg_kd.losses._functional import (Maps, check_choice, check_least, finite,
                                       float_dtype, full_precision,
                                       layer_pairs, prepare, tiles)
from seg_kd.losses._maps import Loss


class ATLoss(Loss):
    r"""Do student and teacher look at the same places of an image?

    .. math::
        L = \sum_l \operatorname{mean}_n D\Bigl(\frac{Q_s}{\|Q_s\|_2},
        \frac{Q_t}{\|Q_t\|_2}\Bigr), \qquad
        Q_j = \operatorname{mean}_c |F_{jc}|^p

    :math:`Q`, the attention, is a vector over the :math:`m` valid positions
    of one image, :math:`l` the pairs of layers. The mean is over images with
    at least one valid position. The distance D comes in three scales:

    ============ =============================== ===========================
    form         D                               usual weight
    ============ =============================== ===========================
    ``'dense'``  :math:`\|a - b\|_2^2`           1 (the code's over m)
    ``'code'``   :math:`\|a - b\|_2^2 / m`       1e3; CIRKD on maps: 1e4
    ``'paper'``  :math:`\|a - b\|_2 / 2`         the paper's beta
    ============ =============================== ===========================

    The authors' code shrinks as the map grows, so that its weights belong to
    one size: 1e4 for 64x128 positions is 1.22 in the dense form. The dense
    form is the mean over positions of the squared difference of attentions,
    each in units of its root mean square; it does not depend on the crop.

    ``'jacobian'`` compares the maps as they are, all channels, by the paper's
    gradient-based distance: :math:`\|F_s - F_t\|_2 / 2` of the image. It is
    meant for gradients with respect to the image, as those of
    ``ATHook(mode='gradient')``.

    Attentions of unequal grids are compared on the teacher's; ports resize
    the features. Every form can be differentiated twice.

    Args:
        form: See above.
        p: Power of the activations. Authors: 2.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) -> ()``, or lists of as
        many maps; the sum over pairs. A pair lies between 0 and 2 (dense),
        2 / m (code), 0.71 (paper).

    Raises:
        ValueError: For another ``form``, p below 1, lists of unequal length,
            or maps that do not fit.
    """

    shown = 'form', 'p'

    def __init__(self, form: str = 'dense', p: float = 2.) -> None:
        super().__init__()
        check_choice('form', form, 'dense', 'code', 'paper', 'jacobian')
        check_least('p', p)
        self.form, self.p = form, p

    def forward(self,
                student: Maps,
                teacher: Maps,
                mask: Tensor | None = None) -> Tensor:
        pairs = layer_pairs(student, teacher)
        with full_precision(pairs[0][1]):
            return torch.stack([self._pair(*pair, mask)
                                for pair in pairs]).sum()

    def _pair(self, student: Tensor, teacher: Tensor,
              mask: Tensor | None) -> Tensor:
        if self.form != 'jacobian':
            student = attention(student, self.p)
            teacher = attention(teacher.detach(), self.p)
        elif student.shape[1] != teacher.shape[1]:
            raise ValueError("form='jacobian' compares channel by channel: "
                             f'{student.shape[1]} and {teacher.shape[1]} do '
                             'not agree')
        student, teacher, valid = prepare(student, teacher, mask)
        student, teacher = (x.masked_fill(~valid.unsqueeze(1), 0.).flatten(1)
                            for x in (student, teacher))
        count = valid.flatten(1).sum(1)
        distances = self._distance(student, teacher, count)
        return distances.sum() / (count > 0).sum().clamp(min=1)

    def _distance(self, student: Tensor, teacher: Tensor,
                  count: Tensor) -> Tensor:
        """The distance of each image: ``(N, m), (N, m), (N,) -> (N,)``."""
        if self.form == 'jacobian':
            return torch.linalg.vector_norm(student - teacher, dim=1) / 2
        gap = F.normalize(student) - F.normalize(teacher)
        if self.form == 'paper':
            return torch.linalg.vector_norm(gap, dim=1) / 2
        square = gap.square().sum(1)
        return square if self.form == 'dense' else square / count.clamp(min=1)


def attention(features: Tensor, p: float = 2.) -> Tensor:
    """Mean over channels of ``|features| ** p``, in float32 or better.

    Nothing of the size of the map is made on the way, and one map on the way
    back. It can be differentiated twice.

    Shape:
        ``(N, C, H, W) -> (N, 1, H, W)``.
    """
    return _Attention.apply(features.to(float_dtype(features)), p)


class _Attention(torch.autograd.Function):

    @staticmethod
    def forward(ctx, features, p):
        ctx.save_for_backward(features)
        ctx.p = p
        n, c, h, w = features.shape
        maps = features.flatten(2)
        out = features.new_empty((n, h * w))
        for tile in tiles(n * c, h * w, maps.device):
            out[:, tile] = power(maps[..., tile], p).mean(1)
        ctx.finite = finite(out)
        return out.view(n, 1, h, w)

    @staticmethod
    def backward(ctx, grad_output):
        features, = ctx.saved_tensors
        if not ctx.finite:  # times 0 a NaN under the mask would stay one
            features = torch.where(grad_output == 0, 0., features)
        factor = grad_output * (ctx.p / features.shape[1])
        if ctx.p == 2:
            return features * factor, None
        return features.sign() * power(features, ctx.p - 1) * factor, None


def power(x: Tensor, p: float) -> Tensor:
    """``|x| ** p``."""
    return x.square() if p == 2 else x.abs().pow(p)
