"""The translator of Knowledge Adaptation (He et al., CVPR 2019).

After equation (1) of "Knowledge Adaptation for Efficient Semantic
Segmentation"; there is no official code. Where the paper is silent, the
layers are those of the paraphraser of Factor Transfer (Kim et al., NeurIPS
2018) in Jangho-Kim/Factor-Transfer-pytorch: LeakyReLU 0.1, no BN (commented
out there), widths ``C, kC, kC``.
"""
import math
from collections.abc import Sequence
from itertools import combinations_with_replacement

import torch
from torch import Tensor, nn

from seg_kd.losses._functional import (check_map, full_precision, input_of,
                                       keep, moments, number_of, read,
                                       valid_positions)

SLOPE = .1  # of the LeakyReLUs


class Encoder(nn.Module):
    """Teacher's map to the student's stride: three 3x3 convs and LeakyReLUs.

    The map is standardized by two buffers, ``mean`` of each channel and one
    ``std`` of all, those of the first batch that the encoder is trained on (0
    and 1 until then). The paper has no such step; without it its learning
    rate of 0.1 diverges on maps of a large mean or magnitude. It is a matter
    of initial biases and units: what can be learned stays the same.

    Attributes:
        stride: Of all three convs together.
        out_channels: Width of the last.

    Shape:
        ``(N, C, H, W) -> (N, out_channels, ceil(H/stride), ceil(W/stride))``.
    """

    def __init__(self, channels: int, strides: Sequence[int],
                 widths: Sequence[int]) -> None:
        super().__init__()
        self.stride = math.prod(strides)
        self.in_channels = channels
        self.out_channels = widths[-1]
        self.convs = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride, padding=1)
            for before, after, stride in zip((channels,
                                              *widths), widths, strides))
        self.register_buffer('mean', torch.zeros(channels))
        self.register_buffer('std', torch.ones(()))
        self.register_buffer('measured', torch.tensor(False))
        for conv in self.convs:
            initialize(conv, SLOPE, 9 * conv.in_channels)

    def standardize(self, teacher: Tensor) -> Tensor:
        """The map in units of its spread, around its mean."""
        return (teacher - self.mean[:, None, None]).div_(self.std)

    @torch.no_grad()
    def measure(self, teacher: Tensor, valid: Tensor) -> None:
        """Set ``mean`` and ``std`` once, the same on all ranks.

        A batch with nothing valid, or without spread, leaves it to the next.

        Shape:
            ``(N, C, H, W), (N, 1, H, W)``.
        """
        if read(self, 'measured'):
            return
        count, sums, squares = moments(teacher, valid)
        mean = sums / count.clamp(min=1)
        centre = mean.square().mean()
        variance = squares.mean() / count.clamp(min=1) - centre
        if variance > 1e-12 * centre:
            self.mean.copy_(mean)
            self.std.copy_(variance.sqrt())
            self.measured.fill_(True)
            read(self, 'measured')  # from now on no step waits for it

    def forward(self, teacher: Tensor) -> Tensor:
        return self.trace(teacher)[0]

    def trace(self, teacher: Tensor) -> tuple[Tensor, list[torch.Size]]:
        """The code, and the sizes of the maps on the way there."""
        features, sizes = self.standardize(teacher), []
        for conv in self.convs:
            sizes.append(features.shape[2:])
            features = nn.functional.leaky_relu_(conv(features), SLOPE)
        return features, sizes


class Decoder(nn.Module):
    """Mirror of ``Encoder``: three 3x3 transposed convs, the last linear.

    The last starts at zero, so the first guess is the mean of each channel:
    from random weights the paper's learning rate of 0.1 may diverge.

    Shape:
        ``(N, width, h, w)`` and the encoder's sizes ``-> (N, C, H, W)``, of
        exactly the encoder's input size.
    """

    def __init__(self, channels: int, strides: Sequence[int],
                 widths: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.ConvTranspose2d(before, after, 3, stride, padding=1)
            for before, after, stride in zip(reversed(widths), (
                *reversed(widths[:-1]), channels), reversed(strides)))
        slopes = (SLOPE, SLOPE, 1.)
        for conv, slope in zip(self.convs, slopes):
            # a stride of s leaves each output 1/s^2 of the taps
            taps = 9 / conv.stride[0]**2
            initialize(conv, slope, taps * conv.in_channels)
        nn.init.zeros_(self.convs[-1].weight)

    def forward(self, code: Tensor, sizes: Sequence[torch.Size]) -> Tensor:
        for conv, size in zip(self.convs[:-1], reversed(sizes[1:])):
            code = nn.functional.leaky_relu_(conv(code, size), SLOPE)
        return self.convs[-1](code, sizes[0])


class Autoencoder(nn.Module):
    """Encoder and decoder of a teacher's map: what their training shares.

    A subclass has the terms, ``_terms(teacher, valid, mask)``.

    Args:
        channels: Of the teacher's map.
        stride: Of the encoder; a product of three factors that are 1, 2 or 3.
        ratio: Width of the code relative to ``channels``.
        widths: Of the three convs; default ``(C, round(kC), round(kC))``.
    """

    def __init__(self,
                 channels: int,
                 stride: int,
                 ratio: float = .5,
                 widths: Sequence[int] | None = None) -> None:
        super().__init__()
        if widths is None:
            code = max(1, round(ratio * channels))
            widths = (channels, code, code)
        if len(widths) != 3 or min(widths) < 1:
            raise ValueError(f'widths must be three numbers, not {widths}')
        strides = split_stride(stride)
        self.relative_error: Tensor | None = None
        self.encoder = Encoder(channels, strides, widths)
        self.decoder = Decoder(channels, strides, widths)

    @property
    def out_channels(self) -> int:
        return self.encoder.out_channels

    def forward(self,
                teacher: Tensor,
                mask: Tensor | None = None) -> dict[str, Tensor]:
        check_map(teacher, 'teacher')
        if teacher.shape[1] != self.encoder.in_channels:
            raise ValueError(f'teacher has {teacher.shape[1]} channels, the '
                             f'{type(self).__name__.lower()} '
                             f'{self.encoder.in_channels}')
        with full_precision(teacher):
            teacher = input_of(self, teacher.detach(), mask)
            valid = valid_positions(teacher, mask).unsqueeze(1)
            if self.training:
                self.encoder.measure(teacher, valid)
            return self._terms(teacher, valid, mask)

    def _terms(self, teacher: Tensor, valid: Tensor,
               mask: Tensor | None) -> dict[str, Tensor]:
        raise NotImplementedError

    @torch.no_grad()
    def _compare(self, error: Tensor, teacher: Tensor, valid: Tensor) -> None:
        """Set ``relative_error`` from the sum of squared errors."""
        energy = keep(teacher / self.encoder.std, valid)
        energy = energy.square().sum()
        self.relative_error = torch.where(energy > 0,
                                          error.detach() / energy, 0.)


class Translator(Autoencoder):
    r"""Autoencoder that brings a teacher's map to the student's stride.

    .. math:: \| F - D(E(F)) \|^2 + \alpha \| E(F) \|_1

    Trained alone; then the decoder is dropped and ``encoder`` frozen
    (``KALoss``). Both sums are divided by the number of valid elements of
    F, so the ratio of the two terms is the paper's, and neither depends on
    the crop; ignored positions count in neither, but the 3x3 convs see them. F
    is standardized (``Encoder``). SGD at the paper's 0.1 with
    momentum diverges on maps of real networks, unless the norm of the
    gradient is clipped (to 1: the configs do).

    Args:
        channels: Of the teacher's map.
        stride: Teacher's to student's grid; a product of three factors that
            are 1, 2 or 3, the largest first: 4 is 2, 2, 1.
        ratio: k, width of the code relative to ``channels``.
        widths: Of the three convs; default ``(C, round(kC), round(kC))``.
        alpha: Weight of the L1 term. Paper: 1e-7 (printed "10e-7").

    Attributes:
        encoder: ``Encoder``, what is kept.
        decoder: ``Decoder``.
        out_channels: Width of the code.
        relative_error: :math:`\|F - D(E(F))\|^2 / \|F\|^2` over the valid
            positions of the last ``forward``, detached, for the log: 0 is
            perfect, 1 is as bad as a map of zeros. None before.

    Shape:
        ``(N, C, H, W), (N, ., .) -> dict(reconstruction=(), sparsity=())``,
        per element of the teacher's map, in units of its variance: 1 before
        training, when D gives the mean.

    Raises:
        ValueError: For a stride that has no such factors, not three widths,
            a map of other channels, or a mask that is not ``(N, ., .)`` bool.
    """

    def __init__(self,
                 channels: int,
                 stride: int = 2,
                 ratio: float = .5,
                 widths: Sequence[int] | None = None,
                 alpha: float = 1e-7) -> None:
        super().__init__(channels, stride, ratio, widths)
        self.alpha = alpha

    def _terms(self, teacher: Tensor, valid: Tensor,
               mask: Tensor | None) -> dict[str, Tensor]:
        code, sizes = self.encoder.trace(teacher)
        target = self.encoder.standardize(teacher)
        error = (self.decoder(code, sizes) - target).square()
        error = keep(error, valid).sum()
        kept = valid_positions(code, mask).unsqueeze(1)
        size = keep(code, kept).abs().sum()
        count = (number_of(valid) * teacher.shape[1]).to(teacher.dtype)
        self._compare(error, teacher, valid)
        return dict(reconstruction=error / count,
                    sparsity=self.alpha * size / count)


def split_stride(stride: int) -> tuple[int, int, int]:
    """Three factors of 1, 2 or 3, largest first: 2 is ``(2, 1, 1)``.

    Raises:
        ValueError: If there are none; a larger factor would skip pixels
            under a 3x3 kernel.
    """
    for factors in combinations_with_replacement((3, 2, 1), 3):
        if math.prod(factors) == stride:
            return factors
    raise ValueError(f'stride {stride} is no product of three factors of 1, 2 '
                     'or 3 (the convs of the translator)')


def initialize(conv: nn.Module, slope: float, fan_in: float) -> None:
    """He's normal initialization: a map keeps its magnitude; no bias."""
    gain = math.sqrt(2 / (1 + slope**2))
    nn.init.normal_(conv.weight, std=gain / math.sqrt(fan_in))
    nn.init.zeros_(conv.bias)


def frozen(autoencoder: nn.Module | None,
           channels: int) -> tuple[nn.Module | None, int]:
    """Its encoder, or one as it is, and the width of what it gives.

    None for none, which gives maps of ``channels`` as they are.
    """
    encoder = getattr(autoencoder, 'encoder', autoencoder)
    if encoder is None:
        return None, channels
    return encoder.requires_grad_(False), encoder.out_channels


@torch.no_grad()
def encoded(encoder: nn.Module | None, teacher: Tensor) -> Tensor:
    return teacher if encoder is None else encoder(teacher)
