"""What all losses share: sizes, masks, precision, ready gradients."""
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

EPS = 1e-12  # a vector that is shorter has no direction: it counts as zero


def match_size(student: Tensor, teacher: Tensor) -> Tensor:
    """The student's map on the teacher's grid, see :func:`resize`.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W) -> (N, Cs, H, W)``; the same object
        where the grids agree.
    """
    if student.shape[2:] == teacher.shape[2:]:
        return student
    return resize(student, tuple(teacher.shape[2:]))


def resize(student: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, with half-pixel centres: ``(N, C, h, w) -> (N, C, *size)``."""
    return F.interpolate(student, size, mode='bilinear', align_corners=False)


def resize_mask(mask: Tensor, size: tuple[int, int]) -> Tensor:
    """Valid positions of a grid, from valid pixels at any resolution.

    A position is valid if at least half of the pixels that it covers are.
    The cells are those of ``adaptive_avg_pool2d``, so neither size need be a
    multiple of the other, and a mask that is coarser than the grid works too.

    Shape:
        ``(N, H, W) -> (N, *size)``, both bool, True where valid.

    Raises:
        ValueError: If ``mask`` is not boolean, or not ``(N, H, W)``.
    """
    if mask.dtype is not torch.bool or mask.dim() != 3:
        raise ValueError('mask must be bool and (N, H, W), not '
                         f'{mask.dtype} and {tuple(mask.shape)}')
    if mask.shape[1:] == tuple(size):
        return mask
    share = F.adaptive_avg_pool2d(mask.float().unsqueeze(1), tuple(size))
    return share.squeeze(1) >= .5


def prepare(student: Tensor, teacher: Tensor,
            mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
    """Two comparable maps: one precision, one grid, no teacher gradient.

    Half precision becomes float32 (sums over a map overflow float16, and
    bfloat16 has no digits to lose); float64 stays. What is not finite in an
    ignored position stays there: resizing does not spread it.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .)`` to
        ``(N, Cs, H, W), (N, Ct, H, W), (N, H, W)``.

    Raises:
        ValueError: If a map is not ``(N, C, H, W)``, or batches differ.
    """
    check_map(student, 'student')
    check_map(teacher, 'teacher')
    if len(student) != len(teacher):
        raise ValueError(f'student has {len(student)} images and teacher '
                         f'{len(teacher)}')
    dtype = torch.promote_types(student.dtype, torch.float32)
    teacher = teacher.detach().to(dtype)
    if student.shape[2:] != teacher.shape[2:]:
        student = mask_nonfinite(student, mask)
    student = match_size(student.to(dtype), teacher)
    return student, teacher, valid_positions(teacher, mask)


def check_map(tensor: Tensor, name: str) -> None:
    """Raise ValueError unless ``tensor`` is a map ``(N, C, H, W)``."""
    if tensor.dim() != 4:
        raise ValueError(f'{name} must be a map (N, C, H, W), not '
                         f'{tuple(tensor.shape)}')


def as_list(value: Any) -> list:
    """What a method takes of one layer or of several, as of several."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def check_form(form: str) -> None:
    """Raise ValueError unless ``form`` is one of the two."""
    if form not in ('dense', 'paper'):
        raise ValueError(f"form must be 'dense' or 'paper', not {form!r}")


def check_channels(tensor: Tensor, name: str, channels: int) -> None:
    """Raise ValueError unless it is a map of so many channels."""
    check_map(tensor, name)
    if tensor.shape[1] != channels:
        raise ValueError(f'{name} has {tensor.shape[1]} channels, not '
                         f'{channels}')


def check_norm(layers: nn.Module, *maps: Tensor) -> None:
    """Raise ValueError where a batch norm would train on one position."""
    if any(x[:, 0].numel() == 1 for x in maps) and any(
            isinstance(m, _BatchNorm) and m.training
            for m in layers.modules()):
        raise ValueError('BN cannot train on a single 1x1 map: use a larger '
                         'crop or batch')


def valid_positions(features: Tensor, mask: Tensor | None) -> Tensor:
    """``mask`` on the grid of ``features``; all True without a mask."""
    n, _, h, w = features.shape
    if mask is None:
        return features.new_ones((n, h, w), dtype=torch.bool)
    if len(mask) != n:
        raise ValueError(f'mask has {len(mask)} images, the map {n}')
    return resize_mask(mask, (h, w))


def number_of(valid: Tensor) -> Tensor:
    """How many are valid, at least 1; in float64.

    An integer tensor under ``/`` or ``**`` would round float64 to float32.
    """
    return valid.sum().clamp(min=1).double()


def mask_invalid(x: Tensor, valid: Tensor) -> Tensor:
    """``x``, but 0 where not valid, even in place of a NaN.

    ``x`` itself where everything is valid: do not write into it. A GPU would
    have to be waited for to know that, so only a CPU is asked.

    Shape:
        ``(N, C, H, W), (N, 1, H, W) -> (N, C, H, W)``, or any that broadcast.
    """
    if valid.device.type == 'cpu' and valid.all():
        return x
    return torch.where(valid, x, 0.)


def finite(x: Tensor) -> bool:
    """Whether all is finite, as far as a CPU can tell without a copy."""
    return x.device.type == 'cpu' and bool(x.detach().sum().isfinite())


def mask_nonfinite(x: Tensor, mask: Tensor | None) -> Tensor:
    """``x``, but 0 where it is not finite and not valid.

    For what sees ignored positions: times a weight of 0 a NaN stays one, in
    an interpolation, and in the gradient of a convolution's weight.

    Shape:
        ``(N, C, H, W), (N, ., .) -> (N, C, H, W)``.
    """
    if mask is None or finite(x):
        return x
    harmless = x.isfinite() | valid_positions(x, mask).unsqueeze(1)
    return torch.where(harmless, x, 0.)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context without autocast, which would undo ``prepare``'s float32."""
    return torch.autocast(tensor.device.type, enabled=False)


def tiles(channels: int, positions: int,
          device: torch.device) -> Iterator[slice]:
    """Slices over positions: cache-sized on CPU, launch-sized elsewhere."""
    budget = 1 << (18 if device.type == 'cpu' else 24)
    step = max(1, budget // channels)
    for start in range(0, positions, step):
        yield slice(start, start + step)


def norm_and_slope(x: Tensor, order: float) -> tuple[Tensor, Tensor]:
    r"""Length of each column, and its gradient with respect to it.

    .. math:: \|x\|_p, \quad \partial\|x\|_p / \partial x_c
              = \operatorname{sign}(x_c)\, |x_c / \|x\|_p|^{p - 1}

    The slope of a zero column is 0; for ``order=inf`` the entries that share
    the maximum share the slope, as in torch.

    Shape:
        ``(C, P) -> (1, P), (C, P)``.
    """
    if order == 1:
        return x.abs().sum(0, keepdim=True), x.sign()
    if order == 2:
        norm = x.square().sum(0, keepdim=True).sqrt()
        return norm, x * inverse(norm)
    if math.isinf(order):
        norm = x.abs().amax(0, keepdim=True)
        peak = (x.abs() == norm) * x.sign()
        return norm, peak / peak.abs().sum(0, keepdim=True).clamp(min=1)
    norm = torch.linalg.vector_norm(x, order, dim=0, keepdim=True)
    unit = x * inverse(norm)
    return norm, unit.sign() * unit.abs().pow(order - 1)


def inverse(norm: Tensor) -> Tensor:
    """``1 / norm``, and 0 where a vector is too short to have a direction."""
    return torch.where(norm > EPS, 1 / norm.clamp(min=EPS), 0.)


def inverse_root(square: Tensor) -> Tensor:
    """``inverse`` of a length, from its square; no gradient where it is 0."""
    alive = square > EPS**2
    return torch.where(alive, torch.where(alive, square, 1.).rsqrt(), 0.)


class _PrecomputedGrad(torch.autograd.Function):

    @staticmethod
    def forward(ctx, student, value, gradient):
        ctx.save_for_backward(gradient)
        return value.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        gradient, = ctx.saved_tensors
        return gradient * grad_output, None, None


def with_gradient(student: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
    """``value``, whose gradient with respect to ``student`` is known.

    A loss that computes both in one pass over tiles keeps one map for the
    backward pass, where autograd keeps one for every operation. Such a loss
    can be differentiated once: a second time raises RuntimeError.
    """
    return _PrecomputedGrad.apply(student, value, gradient)


def channel_errors(student: Tensor, teacher: Tensor,
                   mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean squared difference in each channel, over all valid positions.

    Shape:
        ``(N, C, h, w), (N, C, H, W), (N, ., .) -> (C,), ()``, the second the
        number of valid positions.
    """
    student, teacher, valid = prepare(student, teacher, mask)
    gap = mask_invalid(student - teacher, valid.unsqueeze(1))
    total = square_sums(gap).sum(0, dtype=torch.double)
    return (total / number_of(valid)).to(gap.dtype), valid.sum()


def square_sums(x: Tensor) -> Tensor:
    """``x.square().sum((2, 3))``, without a map of squares.

    Not over everything at once: float32 would lose four digits.
    """
    return torch.linalg.vector_norm(x, dim=(2, 3)).square()
