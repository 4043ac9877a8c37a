"""What all losses share: sizes, masks, precision, ready gradients."""
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import zip_longest
from typing import Any, TypeVar

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

EPS = 1e-12  # a vector that is shorter has no direction: it counts as zero
Maps = Tensor | Sequence[Tensor]  # of one layer, or of several
Pairs = list[tuple[Tensor, Tensor]]
Made = TypeVar('Made')


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
    The mask keeps what was found: do not write into it.

    Shape:
        ``(N, H, W) -> (N, *size)``, both bool, True where valid.

    Raises:
        ValueError: If ``mask`` is not boolean, or not ``(N, H, W)``.
    """
    if mask.dtype is not torch.bool or mask.dim() != 3:
        raise ValueError('mask must be bool and (N, H, W), not '
                         f'{mask.dtype} and {tuple(mask.shape)}')
    size = tuple(size)
    if mask.shape[1:] == size:
        return mask
    if mask.is_inference():  # does not say when it is written
        return shrink(mask, size)
    version, known = getattr(mask, 'on_grids', (None, {}))
    if version != mask._version:
        known = {}
        mask.on_grids = mask._version, known  # type: ignore[attr-defined]
    if size not in known:
        known[size] = shrink(mask, size)
    return known[size]


def shrink(mask: Tensor, size: tuple[int, int]) -> Tensor:
    share = F.adaptive_avg_pool2d(mask.float().unsqueeze(1), size)
    return share.squeeze(1) >= .5


def prepare(student: Tensor,
            teacher: Tensor,
            mask: Tensor | None,
            is_finite: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Two comparable maps: one precision, one grid, no teacher gradient.

    Half precision becomes float32 (sums over a map overflow float16, and
    bfloat16 has no digits to lose); float64 stays. What is not finite in an
    ignored position stays there: resizing does not spread it. Nobody has to
    look for it where ``is_finite``, as what layers make of ``input_of``.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .)`` to
        ``(N, Cs, H, W), (N, Ct, H, W), (N, H, W)``.

    Raises:
        ValueError: If a map is not ``(N, C, H, W)``, or batches differ.
    """
    check_pair(student, teacher)
    dtype = float_dtype(student)
    teacher = teacher.detach().to(dtype)
    if student.shape[2:] != teacher.shape[2:] and not is_finite:
        student = mask_nonfinite(student, mask)
    student = match_size(student.to(dtype), teacher)
    return student, teacher, valid_positions(teacher, mask)


def check_map(tensor: Tensor, name: str) -> None:
    """Raise ValueError unless ``tensor`` is a map ``(N, C, H, W)``."""
    if tensor.dim() != 4:
        hint = ': x[..., None, None] makes a map of one position of it' \
            if tensor.dim() == 2 else ''
        raise ValueError(f'{name} must be a map (N, C, H, W), not '
                         f'{tuple(tensor.shape)}{hint}')


def as_list(value: Any) -> list:
    """What a method takes of one layer or of several, as of several."""
    return list(value) if isinstance(value, (list, tuple)) else [value]


def check_choice(name: str, value: str, *known: str) -> None:
    """Raise ValueError unless the argument is one of the known ones."""
    if value not in known:
        raise ValueError(f'{name} must be {" or ".join(map(repr, known))}, '
                         f'not {value!r}')


def check_form(form: str) -> None:
    """Raise ValueError unless ``form`` is one of the two."""
    check_choice('form', form, 'dense', 'paper')


def check_least(name: str, value: Any) -> None:
    """Raise ValueError unless all numbers are at least 1; None is none."""
    if not all(number is None or number >= 1 for number in as_list(value)):
        raise ValueError(f'{name} must be at least 1, not {value}')


def check_channels(tensor: Tensor, name: str, channels: int | None) -> None:
    """Raise ValueError unless it is a map of so many channels; None: any."""
    check_map(tensor, name)
    if channels not in (None, tensor.shape[1]):
        raise ValueError(f'{name} has {tensor.shape[1]} channels, not '
                         f'{channels}')


def check_pair(
    student: Tensor,
    teacher: Tensor,
    channels: tuple[int | None, int | None] = (None, None)
) -> None:
    """Raise ValueError unless two maps have as many images.

    And so many channels: of the student, of the teacher.
    """
    check_channels(student, 'student', channels[0])
    check_channels(teacher, 'teacher', channels[1])
    if len(student) != len(teacher):
        raise ValueError(f'student has {len(student)} images and teacher '
                         f'{len(teacher)}')


def check_equal(student: Tensor, teacher: Tensor, hint: str) -> None:
    """Raise ValueError unless the maps have as many channels."""
    if student.shape[1] != teacher.shape[1]:
        raise ValueError(f'student has {student.shape[1]} channels and '
                         f'teacher {teacher.shape[1]}: {hint}')


def layer_pairs(student: Maps, teacher: Maps,
                channels: Sequence[Any] = ()) -> Pairs:
    """Maps of student and teacher, layer by layer.

    Raises:
        ValueError: Unless there are as many of both and, where ``channels``
            say so, of each layer so many channels; or batches differ.
    """
    students, teachers = as_list(student), as_list(teacher)
    wanted = channels or [(None, None)] * len(students)
    if not len(students) == len(teachers) == len(wanted):
        each = f', not {len(channels)} each' if channels else ''
        raise ValueError(f'{len(students)} maps of the student and '
                         f'{len(teachers)} of the teacher{each}')
    pairs = list(zip(students, teachers))
    for pair, widths in zip(pairs, wanted):
        check_pair(*pair, widths)
    return pairs


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
    return valid.sum(dtype=torch.double).clamp(min=1)


def mask_invalid(x: Tensor, valid: Tensor) -> Tensor:
    """``x``, but 0 where not valid, even in place of a NaN.

    ``x`` itself where everything is valid: do not write into it. A GPU would
    have to be waited for to know that, so only a CPU is asked.

    Shape:
        ``(N, C, H, W), (N, 1, H, W) -> (N, C, H, W)``, or any that broadcast.
    """
    if valid.device.type == 'cpu' and valid.all():
        return x
    return keep(x, valid)


def keep(x: Tensor, valid: Tensor, otherwise: float = 0.) -> Tensor:
    """A copy of ``x``, but 0 where not valid, even in place of a NaN."""
    return torch.where(valid, x, number(otherwise, x.dtype, x.device))


def constant(make: Callable[..., Made]) -> Callable[..., Made]:
    """Decorates what makes tensors of sizes and devices alone: they are kept.

    A GPU is not asked for them in each step. Nobody may write into them.
    """
    return lru_cache(maxsize=1024)(torch.inference_mode(False)(make))


@constant
def number(value: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.full((), value, dtype=dtype, device=device)


@constant
def numbers(count: int, device: torch.device) -> Tensor:
    """``0, 1, ..., count - 1``."""
    return torch.arange(count, device=device)


def float_dtype(x: Tensor) -> torch.dtype:
    """float32, or float64 if that is what it has."""
    return torch.promote_types(x.dtype, torch.float32)


def input_of(layers: nn.Module, x: Tensor, mask: Tensor | None) -> Tensor:
    """``x`` in the precision of the layers that are to see all of it.

    See :func:`mask_nonfinite`; where no layer has weights, in float32 or
    better.
    """
    weight = next(layers.parameters(), None)
    dtype = float_dtype(x) if weight is None else weight.dtype
    return mask_nonfinite(x.to(dtype), mask)


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
    valid = valid_positions(x, mask).unsqueeze(1)
    harmful = (x.detach() * 0 != 0) > valid  # and not
    return x.masked_fill(harmful, 0.)


def full_precision(tensor: Tensor) -> torch.autocast:
    """Context without autocast, which would undo ``prepare``'s float32."""
    return torch.autocast(tensor.device.type, enabled=False)


def tiles(channels: int, positions: int,
          device: torch.device) -> Iterator[slice]:
    """Slices over positions: cache-sized on CPU, launch-sized elsewhere."""
    budget = 1 << (18 if device.type == 'cpu' else 25)
    step = max(1, budget // channels)
    for start in range(0, positions, step):
        yield slice(start, start + step)


def parts(*maps: Tensor) -> Iterable[tuple[Tensor, ...]]:
    """Maps ``(N, ...)`` image by image on a CPU, which has them in its cache.

    Elsewhere all images at once: a kernel is to be worth its launch, and
    their number must not grow with the batch.
    """
    return zip(*maps) if maps[0].device.type == 'cpu' else [maps]


def sum_positions(positions: Callable[[Tensor, Tensor], tuple[Tensor, Tensor]],
                  student: Tensor, teacher: Tensor, valid: Tensor,
                  scale: Tensor | float) -> Tensor:
    """Sum over the valid positions, times ``scale``, tile by tile.

    The gradient is found together with the value.

    Args:
        positions: Of columns ``(..., C, P)`` of both the terms,
            ``(..., ., P)``, and their slopes ``(..., C, P)`` with respect to
            the student, which are written into.
        student: ``(N, C, H, W)``, prepared, as the two that follow.
        teacher: ``(N, C, H, W)``.
        valid: ``(N, H, W)``.
        scale: What the sum is multiplied by.
    """
    value = student.new_zeros((), dtype=torch.double)
    gradient = torch.empty_like(student, memory_format=torch.contiguous_format)
    with torch.no_grad():
        maps = student.detach(), teacher, valid.unsqueeze(1), gradient
        for images in parts(*maps):
            s, t, there, out = (x.flatten(-2) for x in images)
            for tile in tiles(s[..., 0].numel(), s.shape[-1], s.device):
                term, slope = positions(s[..., tile], t[..., tile])
                term = keep(term, there[..., tile])
                value += term.sum(dtype=torch.double)
                out[..., tile] = keep(slope.mul_(scale), there[..., tile])
    return with_gradient(student, value * scale, gradient)


def norm_and_slope(x: Tensor, order: float) -> tuple[Tensor, Tensor]:
    r"""Length of each column, and its gradient with respect to it.

    .. math:: \|x\|_p, \quad \partial\|x\|_p / \partial x_c
              = \operatorname{sign}(x_c)\, |x_c / \|x\|_p|^{p - 1}

    The slope of a zero column is 0; for ``order=inf`` the entries that share
    the maximum share the slope, as in torch.

    Shape:
        ``(..., C, P) -> (..., 1, P), (..., C, P)``.
    """
    if order == 1:
        return x.abs().sum(-2, keepdim=True), x.sign()
    if order == 2:
        norm = x.square().sum(-2, keepdim=True).sqrt()
        return norm, x * inverse(norm)
    if math.isinf(order):
        norm = x.abs().amax(-2, keepdim=True)
        peak = (x.abs() == norm) * x.sign()
        return norm, peak / peak.abs().sum(-2, keepdim=True).clamp(min=1)
    norm = torch.linalg.vector_norm(x, order, dim=-2, keepdim=True)
    unit = x * inverse(norm)
    return norm, unit.sign() * unit.abs().pow(order - 1)


def inverse(norm: Tensor) -> Tensor:
    """``1 / norm``, and 0 where a vector is too short to have a direction."""
    return F.threshold(norm, EPS, math.inf).reciprocal()


def unit(vectors: Tensor) -> Tensor:
    """Rows of length 1; a row of zeros stays one."""
    length = torch.linalg.vector_norm(vectors, dim=-1, keepdim=True)
    return vectors * inverse(length)


def inverse_root(square: Tensor) -> Tensor:
    """``inverse`` of a length, from its square; no gradient where it is 0."""
    return F.threshold(square, EPS**2, math.inf).rsqrt()


class _PrecomputedGrad(torch.autograd.Function):

    @staticmethod
    def forward(ctx, value, student, gradient, divisor):
        ctx.save_for_backward(gradient, divisor)
        ctx.mark_dirty(value)  # it is the result itself, and no view
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, grad_output):
        gradient, divisor = ctx.saved_tensors
        slope = grad_output if divisor is None else grad_output / divisor
        return grad_output, gradient * slope, None, None


def with_gradient(student: Maps,
                  value: Tensor,
                  gradient: Maps,
                  divisors: Iterable[Tensor] = ()) -> Tensor:
    """``value``, whose gradient with respect to ``student`` is known.

    Both in the student's precision. For several maps there are as many
    gradients. Where there are ``divisors``, as many numbers, the gradients
    are still to be divided by them.

    A loss that computes both in one pass over tiles keeps one map for the
    backward pass, where autograd keeps one for every operation. Such a loss
    can be differentiated once: a second time raises RuntimeError.
    """
    students = as_list(student)
    value = value.to(students[0].dtype, copy=True)
    for one, found, divisor in zip_longest(students, as_list(gradient),
                                           divisors):
        value = _PrecomputedGrad.apply(value, one, found.to(one.dtype),
                                       divisor)
    return value


def channel_errors(student: Tensor, teacher: Tensor,
                   mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Mean squared difference in each channel, over all valid positions.

    Shape:
        ``(N, C, h, w), (N, C, H, W), (N, ., .) -> (C,), ()``, the second the
        number of valid positions.
    """
    student, teacher, valid = prepare(student, teacher, mask)
    gap = mask_invalid(student - teacher, valid.unsqueeze(1))
    total = power_sums(gap).sum(0, dtype=torch.double)
    return (total / number_of(valid)).to(gap.dtype), valid.sum()


def power_sums(x: Tensor, power: float = 2) -> Tensor:
    """``|x| ** power``, added up over positions, and no map of powers.

    Not over everything at once: float32 would lose four digits.
    """
    axes = tuple(range(2, x.dim()))
    return torch.linalg.vector_norm(x, power, dim=axes).pow(power)


def moments(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Number of valid positions; sum and sum of squares of each channel.

    In float64, over all processes.

    Shape:
        ``(N, C, H, W), (N, 1, H, W) -> (), (C,), (C,)``.
    """
    kept = keep(x, valid).double()
    found = torch.cat([
        valid.sum(dtype=torch.double).view(1),
        kept.sum((0, 2, 3)),
        kept.square().sum((0, 2, 3))
    ])
    if dist.is_available() and dist.is_initialized():
        dist.all_reduce(found)
    return found[0], *found[1:].chunk(2)


def read(module: nn.Module, name: str, of: Callable = Tensor.item) -> Any:
    """What ``of`` makes of a buffer, asked again only after it was written.

    A GPU has to be waited for then.
    """
    buffer = getattr(module, name)
    seen = module.__dict__.setdefault('numbers_read', {})
    if seen.get(name, (None, ))[0] != buffer._version:
        seen[name] = buffer._version, of(buffer)
    return seen[name][1]


def gather_processes(rows: Tensor) -> Tensor:
    """The rows of all processes, in their order; of each as many."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    found = [torch.empty_like(rows) for _ in range(dist.get_world_size())]
    dist.all_gather(found, rows.contiguous())
    return torch.cat(found)
