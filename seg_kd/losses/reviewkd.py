"""ReviewKD, knowledge review (Chen et al., CVPR 2021).

Follows dvlab-research/ReviewKD (``CIFAR-100/model/reviewkd.py``, and
``Detection/model/kd_trans.py`` for maps that need not be square); its port to
segmentation is RuipingL/TransKD ``train/ReviewKD.py``.
"""
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from seg_kd.losses._functional import (check_norm, full_precision, input_of,
                                       layer_pairs)
from seg_kd.losses._maps import conv_bn
from seg_kd.losses.hcl import GRIDS, HCLLoss


class Fusion(nn.Module):
    """ABF: one level of the student, fused with what deeper levels left.

    Args:
        in_channels: Of the student's map.
        mid_channels: Of what goes from level to level.
        out_channels: Of the teacher's map.
        fuses: Is there a deeper level?

    Shape:
        ``(N, in, h, w), (N, mid, ., .) or None, (H, W)`` to ``(N, out, H, W),
        (N, mid, H, W)``: for the teacher, and for the next level.
    """

    def __init__(self, in_channels: int, mid_channels: int, out_channels: int,
                 fuses: bool) -> None:
        super().__init__()
        self.reduce = authors_conv_bn(in_channels, mid_channels, 1)
        self.attention = nn.Conv2d(2 * mid_channels, 2, 1) if fuses else None
        self.expand = authors_conv_bn(mid_channels, out_channels, 3)

    def forward(self, student: Tensor, deeper: Tensor | None,
                size: torch.Size) -> tuple[Tensor, Tensor]:
        fused = self.reduce(student)
        if self.attention is not None:
            fused = self._fuse(fused, nearest(deeper, fused.shape[2:]))
        fused = nearest(fused, size)
        return self.expand(fused), fused

    def _fuse(self, own: Tensor, deeper: Tensor) -> Tensor:
        """Both, weighted by an attention map each."""
        both = torch.cat([own, deeper], 1)
        gates = self.attention(both).sigmoid()
        weighted = both.unflatten(1, (2, -1)) * gates.unsqueeze(2)
        return weighted.sum(1)


def authors_conv_bn(in_channels: int, out_channels: int,
                    size: int) -> nn.Sequential:
    """Conv without bias, initialized as the authors', and BN."""
    layers = conv_bn(in_channels, out_channels, size)
    nn.init.kaiming_uniform_(layers[0].weight, a=1)
    return layers


def nearest(features: Tensor, size: torch.Size) -> Tensor:
    return features if features.shape[2:] == size else F.interpolate(
        features, size)


class ReviewKDLoss(nn.Module):
    r"""Every level of the teacher, from that level and all deeper ones.

    .. math::
        \sum_l L_\text{HCL}(E_l(F_l), T_l), \qquad
        F_l = A_l \, R_l(S_l) + A'_l \, F_{l + 1}

    from the deepest level up. :math:`R_l`: 1x1 conv and BN to the middle
    width; :math:`A_l, A'_l`: two sigmoid maps, by a 1x1 conv on both; the
    deepest has :math:`F = R(S)`. :math:`E_l`: 3x3 conv and BN. What is left
    of deeper levels is brought to the student's grid, and :math:`F_l` to the
    teacher's, by nearest neighbour. :math:`L_\text{HCL}`: ``HCLLoss``.

    Dense: the authors' code on maps of any shape: their CIFAR code asks for
    squares, their detection code for equal strides. Without a mask the value
    is theirs on theirs. A mask counts in ``HCLLoss``; BN and the 3x3
    convs see all.

    Args:
        student_channels: Of each level, shallow to deep.
        teacher_channels: The same of the teacher.
        mid_channels: The middle width. None: that of the student's deepest
            level, at most 512, as on CIFAR; TransKD has 64.
        grids: See ``HCLLoss``.

    Attributes:
        levels: One ``Fusion`` (the paper's ABF) a level.

    Shape:
        ``[(N, Cs_l, h_l, w_l)], [(N, Ct_l, H_l, W_l)], (N, ., .) -> ()``, in
        squared teacher units, summed over levels.

    Raises:
        ValueError: For other numbers of levels, channels or images, a grid
            below 1, or a mask that is not ``(N, ., .)`` bool; in training
            also for a single 1x1 map, which BN cannot normalize.
    """

    def __init__(self,
                 student_channels: Sequence[int],
                 teacher_channels: Sequence[int],
                 mid_channels: int | None = None,
                 grids: Sequence[int] = GRIDS) -> None:
        super().__init__()
        levels = list(zip(student_channels, teacher_channels))
        if not len(student_channels) == len(teacher_channels) == len(
                levels) > 0:
            raise ValueError('student and teacher need as many levels, not '
                             f'{student_channels} and {teacher_channels}')
        self.channels = levels
        mid = mid_channels or min(512, student_channels[-1])
        self.levels = nn.ModuleList(
            Fusion(s, mid, t, fuses=k < len(levels))
            for k, (s, t) in enumerate(levels, 1))
        self.hcl = HCLLoss(grids)

    def forward(self,
                student: Sequence[Tensor],
                teacher: Sequence[Tensor],
                mask: Tensor | None = None) -> Tensor:
        pairs = layer_pairs(student, teacher, self.channels)
        outputs, fused = [], None
        with full_precision(pairs[0][1]):
            for level, (s, t) in reversed(list(zip(self.levels, pairs))):
                check_norm(level, s, t)
                output, fused = level(input_of(level, s, mask), fused,
                                      t.shape[2:])
                outputs.append(output)
        return self.hcl(outputs[::-1], [t for _, t in pairs], mask)
