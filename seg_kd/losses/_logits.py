"""What losses on logits share: one grid, and a few of its rows at a time."""
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from seg_kd.losses._functional import (check_choice, constant, float_dtype,
                                       mask_nonfinite, resize, tiles,
                                       valid_positions, with_gradient)
from seg_kd.losses._maps import MapLoss


class LogitLoss(MapLoss):
    """Base of the losses on logits; none of them has trainable parts.

    Value and gradient are found together, strip by strip, and on a CPU no map
    is ever resized as a whole. A subclass fills in ``_value_and_grad``.

    Args:
        grid: Where the two are compared: on the ``'teacher'``'s grid, or on
            the ``'mask'``'s. See :class:`~seg_kd.losses.KDLoss`.
    """

    least_classes = 2

    def __init__(self, grid: str = 'teacher') -> None:
        super().__init__()
        check_choice('grid', grid, 'teacher', 'mask')
        self.grid = grid

    def compare(self, student: Tensor, teacher: Tensor,
                mask: Tensor | None) -> Tensor:
        check_classes(student.shape[1], teacher.shape[1], self.least_classes)
        dtype = float_dtype(student)
        student, teacher = student.to(dtype), teacher.detach().to(dtype)
        valid = self._valid(teacher, mask)
        strips = Strips(
            *(x if x.shape[2:] == valid.shape[1:] else mask_nonfinite(x, mask)
              for x in (student, teacher)), valid)
        with torch.no_grad():
            value = self._value_and_grad(strips)
        return with_gradient(student, value, strips.gradient)

    def _valid(self, teacher: Tensor, mask: Tensor | None) -> Tensor:
        """``(N, H, W)``, valid positions of the grid of the comparison."""
        if self.grid == 'mask':
            if mask is None:
                raise ValueError("grid='mask' needs a mask")
            size = len(teacher), 0, *mask.shape[-2:]
            return valid_positions(teacher.new_empty(size), mask)
        return valid_positions(teacher, mask)

    def _value_and_grad(self, strips: 'Strips') -> Tensor:
        """The value, in float64; hands the gradient to each strip."""
        raise NotImplementedError


def check_classes(classes: int, others: int, least: int = 2) -> None:
    """Raise ValueError unless student and teacher tell the same apart."""
    if classes != others:
        raise ValueError(f'student has {classes} classes and teacher '
                         f'{others}: logits of the same classes are needed')
    if classes < least:
        raise ValueError('a softmax over one class is always 1: logits of two '
                         'or more classes are needed, or '
                         "KDLoss(activation='sigmoid')")


def check_temperature(temperature: float) -> None:
    if not temperature > 0:
        raise ValueError(f'temperature must be above 0, not {temperature}')


class Strip(NamedTuple):
    """Some rows of both maps on their common grid."""
    student: Tensor  # (N, C, R, W)
    teacher: Tensor
    valid: Tensor  # (N, 1, R, W)
    add: Callable[[Tensor], None]  # takes the gradient of ``student``


class Strips:
    """Two maps of logits on the grid of ``valid``, some rows at a time.

    May be iterated more than once; one that is alone is made once.

    Attributes:
        gradient: With respect to the student's own map; all that was added.
        count: Number of valid positions, in float64.
    """

    def __init__(self, student: Tensor, teacher: Tensor,
                 valid: Tensor) -> None:
        self._student = student.detach().requires_grad_()  # for its rows
        self._teacher, self._valid = teacher, valid
        self.count = valid.sum(dtype=torch.double)
        self._last: tuple[slice, Strip] | None = None
        self.gradient = torch.zeros_like(self._student, requires_grad=False)

    def __iter__(self) -> Iterator[Strip]:
        n, *size = self._valid.shape
        row = n * self._student.shape[1] * size[1]
        for rows in tiles(row, size[0], self._valid.device):
            if self._last is None or self._last[0] != rows:
                self._last = None  # not two at a time
                self._last = rows, self._strip(rows, size)
            yield self._last[1]

    def _strip(self, rows: slice, size: Sequence[int]) -> Strip:
        student, own, span = resized_rows(self._student, rows, size)
        return Strip(student.detach(),
                     resized_rows(self._teacher, rows, size)[0],
                     self._valid[:, None, rows],
                     partial(add, self.gradient[:, :, span], student, own))


def add(total: Tensor, resized: Tensor, own: Tensor, slope: Tensor) -> None:
    if resized is not own:  # back through the interpolation
        slope, = torch.autograd.grad(resized, own, slope)
    total += slope


def scaled(logits: Tensor, temperature: float) -> Tensor:
    return logits if temperature == 1 else logits / temperature


def resized_rows(x: Tensor, rows: slice,
                 size: Sequence[int]) -> tuple[Tensor, Tensor, slice]:
    """Rows of ``match_size``'s result, but without the others.

    Also the rows of ``x`` that they are made of, and which these are.
    """
    if list(x.shape[2:]) == list(size):
        own = x[:, :, rows]
        return own, own, rows
    last, ratio = x.shape[2] - 1, x.shape[2] / size[0]
    start, end = rows.start, min(rows.stop, size[0])
    first, final = (min(max((row + .5) * ratio - .5, 0), last)
                    for row in (start, end - 1))
    span = slice(int(first), min(int(final) + 1, last) + 1)
    upper, lower, share = neighbours(start, end, ratio, last, span.start,
                                     x.device)
    with torch.set_grad_enabled(x.requires_grad):
        own = x[:, :, span]
        whole = span == slice(0, last + 1) and end - start == size[0]
        if whole and is_one_kernel(x):
            return resize(own, (size[0], size[1])), own, span  # one kernel
        wide = resize(own, (own.shape[2], size[1]))
        top, bottom = (wide.index_select(2, i) for i in (upper, lower))
        return torch.lerp(top, bottom, share.to(x.dtype)), own, span


def is_one_kernel(x: Tensor) -> bool:
    """Does interpolation in both directions cost no more than in one?"""
    return x.device.type != 'cpu'


@constant
def neighbours(start: int, end: int, ratio: float, last: int, first: int,
               device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Which rows from ``first`` on a resized row lies between, and where."""
    y = torch.arange(start, end, dtype=torch.double, device=device)
    y = ((y + .5) * ratio - .5).clamp(0, last)
    top = y.long()
    bottom = (top + 1).clamp(max=last)
    return top - first, bottom - first, y.frac()[:, None]
