"""Relations between instances without their N x N matrix.

What decomposes comes from C x C products (``gram``), the rest from tiles of
the matrix (``blocks``), of which only one exists at a time.
"""
from typing import Iterator, Optional, Tuple

import torch
from torch import Tensor

from ._functional import inverse, tiles
from .sharing import once

CLOSE = .05  # relative difference of relations below which float32 cancels
Grams = Tuple[Tensor, Tensor, Tensor]


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

    Not on CUDA, nor where torch may round the factors (TF32, bfloat16).
    """
    if student.device.type != 'cpu' or student.dtype is not torch.float32:
        return torch.double
    return torch.float32 if exact_products() else torch.double


def gram(a: Tensor, b: Tensor) -> Tensor:
    """``a b'``: float64 sum of the products of tiles.

    Shape:
        ``(Ca, P), (Cb, P) -> (Ca, Cb)``.
    """
    total = a.new_zeros((len(a), len(b)), dtype=torch.double)
    for tile in tiles(len(a), a.shape[1], a.device):
        total += a[:, tile] @ b[:, tile].T
    return total


def nearly_equal(grams: Grams) -> bool:
    """Whether ``|S S' - T T'|_F < CLOSE * |T T'|_F``, roughly.

    Args:
        grams: ``S'S, S'T, T'T``.
    """
    ss, st, tt = (x.square().sum() for x in grams)
    return bool(ss + tt - 2 * st < CLOSE**2 * (ss + tt) / 2)


class Rows:
    """Rows of a matrix as ``row * scale``, and no copy of it.

    Args:
        matrix: ``(M, C)``.
        scale: ``(M, 1)``, in float64.

    Attributes:
        dtype: In which the rows are read and multiplied.
    """

    def __init__(self, matrix: Tensor, scale: Optional[Tensor] = None) -> None:
        self.matrix, self.scale = matrix, scale
        self.dtype = matrix.dtype if exact_products() else torch.double

    def __len__(self) -> int:
        return len(self.matrix)

    def __getitem__(self, tile: slice) -> Tensor:
        x = self.matrix[tile].to(self.dtype)
        if self.scale is not None:
            x = x * self.scale[tile].to(self.dtype)
        return x

    @property
    def width(self) -> int:
        return self.matrix.shape[1]

    def steps(self) -> Iterator[slice]:
        """Slices that cover the rows, for work that is linear in them."""
        return tiles(self.width, len(self), self.matrix.device)

    def zeros(self, *shape: int) -> Tensor:
        return self.matrix.new_zeros(shape, dtype=self.dtype)

    def sum(self, weight: Optional[Tensor] = None) -> Tensor:
        """Of all rows, times their weights ``(M, 1)``: ``(1, C)``."""
        total = self.zeros(1, self.width).double()
        for tile in self.steps():
            x = self[tile] if weight is None else self[tile] * weight[tile]
            total += x.sum(0, keepdim=True, dtype=torch.double)
        return total.to(self.dtype)

    def lengths(self) -> Tensor:
        """Of all rows, ``(M, 1)``."""
        total = self.matrix.new_empty((len(self), 1), dtype=torch.double)
        for tile in self.steps():
            x = self[tile]
            total[tile] = dot(x, x).sqrt()
        return total


def dot(a: Tensor, b: Tensor) -> Tensor:
    """Of the rows of both, in float64: ``(M, 1)``."""
    return (a * b).sum(1, keepdim=True, dtype=torch.double)


def unit_rows(matrix: Tensor) -> Rows:
    """Rows of length 1; a row of zeros stays one."""
    return Rows(matrix, scale=inverse_lengths(matrix))


@once
def inverse_lengths(matrix: Tensor) -> Tensor:
    """Of the rows, in float64; 0 for a row of zeros: ``(M, C) -> (M, 1)``."""
    return inverse(Rows(matrix).lengths())


def grams_of(s: Rows, t: Rows) -> Grams:
    """``S'S, S'T, T'T``: float64 sums of the products of tiles."""
    totals = [
        s.matrix.new_zeros(size, dtype=torch.double)
        for size in ((s.width, s.width), (s.width, t.width), (t.width,
                                                              t.width))
    ]
    for tile in s.steps():
        x, y = s[tile], t[tile]
        for total, (a, b) in zip(totals, ((x, x), (x, y), (y, y))):
            total += a.T @ b
    return tuple(totals)


def through_length(gradient: Tensor, unit: Rows) -> Tensor:
    """The derivative by the rows, from that by the rows of length 1."""
    for tile in unit.steps():
        x, slope = unit[tile], gradient[tile]
        slope -= x * (slope * x).sum(1, keepdim=True)
        slope *= unit.scale[tile].to(slope.dtype)
    return gradient


# -- tiles of M x M --------------------------------------------------------


def blocks(x: Rows) -> Iterator[Tuple[slice, slice, int]]:
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
    """``total += W x``, for one tile of a symmetric matrix ``W``."""
    total[rows] += weight @ x[columns]
    if rows != columns:
        total[columns] += weight.T @ x[rows]


def add_sums(total: Tensor, tile: Tensor, rows: slice, columns: slice) -> None:
    """``total += W 1``, for one tile of a symmetric matrix ``W``."""
    total[rows] += tile.sum(1, keepdim=True)
    if rows != columns:
        total[columns] += tile.sum(0).unsqueeze(1)
