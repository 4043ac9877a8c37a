"""Products in strips, and rows in another precision."""
import pytest
import torch

from seg_kd.losses import _gram

WIDTHS = [1, 2, 3, 4, 5, 8, 13]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('width', WIDTHS)
def test_symmetric_product_in_strips(width):
    x, weight = torch.randn(6, width).double(), torch.rand(6, 1).double()
    total = torch.zeros(width, width).double()
    for rows in (slice(4), slice(4, 6)):
        _gram.add_symmetric(total, x[rows] * weight[rows], x[rows])
    torch.testing.assert_close(_gram.mirrored(total), (x * weight).T @ x)


def test_strips_are_five_eighths():
    total = torch.zeros(64, 64)
    _gram.add_symmetric(total, torch.ones(1, 64), torch.ones(1, 64))
    assert total.mean() == 5 / 8


@pytest.mark.parametrize('by_columns', [False, True])
@pytest.mark.parametrize('width', WIDTHS)
def test_quadratic(width, by_columns):
    matrix = torch.randn(width, width).double()
    matrix = matrix + matrix.T
    x = torch.randn(6, width).double()
    want = torch.einsum('ic,cd,id->i', x, matrix, x).unsqueeze(1)
    if by_columns:
        x = x.T.contiguous().T
    torch.testing.assert_close(_gram.Quadratic(matrix)(x), want)


def test_product_keeps_the_order_in_memory():
    x, matrix = torch.randn(5, 3), torch.randn(3, 4)
    by_rows = _gram.product(x, matrix)
    by_columns = _gram.product(x.T.contiguous().T, matrix)
    assert by_rows.stride() == (4, 1) and by_columns.stride() == (1, 5)
    torch.testing.assert_close(by_rows, by_columns)
    torch.testing.assert_close(by_rows, x @ matrix)


def test_lengths_follow_the_precision():
    x = torch.rand(7, 300)
    rows = _gram.Rows(x, unit=True)
    assert rows[:].dtype is torch.float32
    rows.read_as(torch.double)
    error = rows[:].square().sum(1) - 1
    assert rows[:].dtype is torch.double and error.abs().max() < 1e-14
