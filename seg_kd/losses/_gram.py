"""Relations between instances without their N x N matrix.

What decomposes comes from C x C products (``gram``), the rest from tiles of
the matrix (``pair_tiles``), of which only one exists at a time.
"""
import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial, reduce
from operator import add

import torch
from torch import Tensor

from seg_kd.losses._functional import inverse, tiles

CLOSE = .05  # relative difference of relations below which float32 cancels
DOUBLE = (8, 0), (9, 0), (10, 0)  # compute capabilities of fast float64
Grams = tuple[Tensor, Tensor, Tensor]


def fast_doubles(device: torch.device) -> bool:
    """Whether float64 costs a few times float32, and not thirty or sixty."""
    if device.type == 'cuda':
        return torch.cuda.get_device_capability(device) in DOUBLE
    return device.type == 'cpu'


@contextmanager
def exact_floats(device: torch.device) -> Iterator[None]:
    """No TF32 in products on a GPU that has to do with float32."""
    if device.type != 'cuda' or fast_doubles(device) or exact_products():
        yield
        return
    try:
        before = torch.get_float32_matmul_precision()
        change = torch.set_float32_matmul_precision
        change('highest')
    except RuntimeError:  # it was set through torch's new API
        settings = torch.backends.cuda.matmul
        before = settings.fp32_precision
        change = partial(setattr, settings, 'fp32_precision')
        change('ieee')
    try:
        yield
    finally:
        change(before)


def exact_products() -> bool:
    """Whether torch multiplies float32 with all its digits.

    It rounds the factors where it is allowed TF32 or bfloat16.
    """
    try:
        return torch.get_float32_matmul_precision() == 'highest'
    except RuntimeError:  # set through torch's old and new API at once
        return False


def product_dtype(student: Tensor) -> torch.dtype:
    """float32 where its products are exact enough, else float64.

    On a CPU unless torch may round the factors (bfloat16). On a GPU where
    float64 is slow, see :func:`exact_floats`.
    """
    if student.device.type != 'cpu':
        return finest_dtype(student)
    return row_dtype(student)


def finest_dtype(x: Tensor) -> torch.dtype:
    """float64, or its own where that is too slow."""
    return torch.double if fast_doubles(x.device) else x.dtype


def row_dtype(matrix: Tensor) -> torch.dtype:
    """Its own where products of that are exact, else float64."""
    return matrix.dtype if exact_products() else finest_dtype(matrix)


def can_be_finer(rows: 'Rows') -> bool:
    """Whether float64 is left, and a number may be asked for."""
    return rows.dtype is torch.float32 and fast_doubles(rows.matrix.device)


class Rows:
    """Rows of a matrix, in another precision or of length 1, and no copy.

    Or of several matrices at once: all shapes then have their number, or
    whatever stands before the rows, in front.

    Args:
        matrix: ``(..., M, C)``.
        unit: Give each row the length 1; a row of zeros stays one.

    Attributes:
        dtype: In which the rows are read and multiplied.
        scale: ``(..., M, 1)``, 1 over the lengths, in float64, where
            ``unit``.
    """

    def __init__(self, matrix: Tensor, unit: bool = False) -> None:
        self.matrix, self.unit = matrix, unit
        self.read_as(row_dtype(matrix))

    def read_as(self, dtype: torch.dtype) -> None:
        """Lengths are found anew: their rounding matters as the rows' does."""
        self.dtype, self._scale, self._last = dtype, None, None

    @property
    def scale(self) -> Tensor:
        if self._scale is None:  # not before the precision is decided on
            rows = Rows(self.matrix)
            rows.read_as(self.dtype)
            self._scale = inverse(rows.lengths())
        return self._scale

    def __len__(self) -> int:
        return self.matrix.shape[-2]

    def __getitem__(self, tile: slice) -> Tensor:
        """Some rows; do not write into them, as the last ones are kept."""
        place = tile.indices(len(self))
        if self._last is None or self._last[0] != place:
            x = self.matrix[..., tile, :].to(self.dtype)
            if self.unit:
                x = x * self.scale[..., tile, :].to(self.dtype)
            self._last = place, x
        return self._last[1]

    @property
    def width(self) -> int:
        return self.matrix.shape[-1]

    def tiles(self) -> Iterator[slice]:
        """Slices that cover the rows, for work that is linear in them."""
        return tiles(self.width * math.prod(self.matrix.shape[:-2]), len(self),
                     self.matrix.device)

    def zeros(self, *shape: int) -> Tensor:
        return self.matrix.new_zeros(shape, dtype=self.dtype)

    def sum(self,
            weight: Tensor | None = None,
            dtype: torch.dtype | None = None) -> Tensor:
        """Sum of all rows, times their weights ``(M, 1)``: ``(1, C)``.

        In the rows' precision, or as asked for.
        """
        sums = []
        for tile in self.tiles():
            x = self[tile] if weight is None else self[tile] * weight[tile]
            sums.append(x.sum(0, keepdim=True, dtype=torch.double))
        if not sums:
            return self.zeros(1, self.width).to(dtype or self.dtype)
        return reduce(add, sums).to(dtype or self.dtype)

    def lengths(self) -> Tensor:
        """Lengths of all rows: ``(..., M, 1)``."""
        shape = *self.matrix.shape[:-1], 1
        total = self.matrix.new_empty(shape, dtype=torch.double)
        for tile in self.tiles():
            x = self[tile]
            torch.sqrt(dot(x, x), out=total[..., tile, :])
        return total


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Products row by row, summed in their precision: ``(..., M, 1)``.

    As float64.
    """
    return (a * b).sum(-1, keepdim=True).double()


def accurate_grams(s: Rows, t: Rows) -> Grams:
    """``S'S, S'T, T'T``, in float64 where student and teacher nearly agree.

    Both are read in that precision from then on. Where float64 is slow all is
    in float32.
    """
    grams = grams_of(s, t, product_dtype(s.matrix))
    if can_be_finer(s) and nearly_equal(grams):
        grams = grams_of(s, t, torch.double)
    return grams


def nearly_equal(grams: Grams) -> bool:
    """Whether ``|S S' - T T'|_F < CLOSE * |T T'|_F``, roughly."""
    ss, st, tt = (x.square().sum() for x in grams)
    return bool(ss + tt - 2 * st < CLOSE**2 * (ss + tt) / 2)


def grams_of(s: Rows, t: Rows, dtype: torch.dtype) -> Grams:
    """``S'S, S'T, T'T``: float64 sums of the products of tiles."""
    s.read_as(dtype)
    t.read_as(dtype)
    ss, st, tt = (s.matrix.new_zeros(s.matrix.shape[:-2] + size,
                                     dtype=torch.double)
                  for size in ((s.width, s.width), (s.width, t.width),
                               (t.width, t.width)))
    for tile in s.tiles():
        x, y = s[tile], t[tile]
        add_symmetric(ss, x, x)
        st += x.mT @ y
        add_symmetric(tt, y, y)
    return mirrored(ss), st, mirrored(tt)


def product(x: Tensor, matrix: Tensor) -> Tensor:
    """``x matrix``, in memory by rows or by columns as ``x`` is.

    Arithmetic between the two orders is several times slower.
    """
    return (matrix.mT @ x.mT).mT if x.stride(-2) == 1 else x @ matrix


def strips(matrix: Tensor) -> Iterator[tuple[slice, slice]]:
    """Columns of a symmetric matrix, and the rows from its diagonal on.

    They hold it all, in five eighths of the products. A GPU gets it in one:
    four small products take it longer than a large one.
    """
    width = matrix.shape[-1]
    count = 4 if matrix.device.type == 'cpu' else 1
    step = max(1, -(-width // count))
    for start in range(0, width, step):
        yield slice(start, start + step), slice(start, width)


def add_symmetric(total: Tensor, x: Tensor, y: Tensor) -> None:
    """``total += x' y``, symmetric: its strips, see :func:`mirrored`."""
    for columns, rows in strips(total):
        total[..., rows, columns] += x[..., rows].mT @ y[..., columns]


def mirrored(total: Tensor) -> Tensor:
    """The whole matrix, from its strips."""
    if total.device.type != 'cpu':  # its one strip
        return total
    return total.tril() + total.tril(-1).mT


class Quadratic:
    """``x_i A x_i'`` of rows, for a symmetric ``A``, in float64."""

    def __init__(self, matrix: Tensor) -> None:
        self.strips = []
        for columns, rows in strips(matrix):
            strip = matrix[..., rows, columns]
            if strip.shape[-1] < strip.shape[-2]:
                strip = strip.clone()  # and what is above the diagonal
                strip[..., strip.shape[-1]:, :] *= 2
            self.strips.append((columns, rows, strip))

    def __call__(self, x: Tensor) -> Tensor:
        return reduce(add, (dot(product(x[..., rows], strip), x[..., columns])
                            for columns, rows, strip in self.strips))


def through_length(gradient: Tensor, unit: Rows) -> Tensor:
    """Gradient with respect to the rows, from that of the unit rows."""
    for tile in unit.tiles():
        slope = tangential(gradient[tile], unit[tile])
        slope *= unit.scale[tile].to(slope.dtype)
    return gradient


def tangential(slope: Tensor, unit: Tensor) -> Tensor:
    """``slope`` without its part along the unit rows; written in place."""
    return slope.sub_(unit * (slope * unit).sum(-1, keepdim=True))


# -- tiles of M x M --------------------------------------------------------


def pair_tiles(x: Rows) -> Iterator[tuple[slice, slice, int]]:
    """Tiles of the upper triangle of a symmetric matrix.

    Yields rows, columns, and how many tiles of the whole matrix it stands
    for: 1 on the diagonal, else 2.
    """
    count = len(x)
    step = 512 if x.matrix.device.type == 'cpu' else 4096
    for i in range(0, count, step):
        for j in range(i, count, step):
            yield (slice(i, min(i + step, count)),
                   slice(j, min(j + step, count)), 1 if i == j else 2)


def add_product(total: Tensor, weight: Tensor, x: Rows, rows: slice,
                columns: slice) -> None:
    """``total += W x``, for one tile of symmetric matrices ``W (..., M, M)``.
    """
    total[..., rows, :] += weight @ x[columns]
    if rows != columns:
        total[..., columns, :] += weight.mT @ x[rows]


def add_sums(total: Tensor, tile: Tensor, rows: slice, columns: slice) -> None:
    """``total += W 1``, for one tile of symmetric matrices ``W``."""
    total[..., rows, :] += tile.sum(-1, keepdim=True)
    if rows != columns:
        total[..., columns, :] += tile.sum(-2).unsqueeze(-1)
