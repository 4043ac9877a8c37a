"""Masks and sizes: a position is valid if half of its pixels are."""
import pytest
import torch

from seg_kd.losses._functional import (mask_invalid, match_size,
                                       norm_and_slope, prepare, resize_mask)


def test_mask_by_majority():
    mask = torch.tensor([[[1, 1, 0, 0, 1, 0], [1, 1, 0, 1, 0, 1]]]).bool()
    want = torch.tensor([[[True, False, True]]])
    assert torch.equal(resize_mask(mask, (1, 3)), want)


def test_mask_coarser_than_the_grid():
    mask = torch.tensor([[[True, False]]])
    want = torch.tensor([[[True, True, False, False]] * 2])
    assert torch.equal(resize_mask(mask, (2, 4)), want)


def test_mask_of_the_same_size_is_kept():
    mask = torch.rand(2, 3, 5) < .5
    assert resize_mask(mask, (3, 5)) is mask


@pytest.mark.parametrize('mask', [
    torch.ones(1, 2, 3),
    torch.ones(2, 3, dtype=torch.bool),
])
def test_wrong_masks(mask):
    with pytest.raises(ValueError, match='mask must be bool'):
        resize_mask(mask, (2, 3))


def test_match_size_keeps_a_ramp():
    ramp = torch.arange(4.).expand(1, 1, 3, 4)
    got = match_size(ramp, torch.zeros(1, 2, 6, 8))
    assert got.shape == (1, 1, 6, 8)
    torch.testing.assert_close(got[0, 0, 0, 1:-1], .5 * torch.arange(6) + .25)


@pytest.mark.parametrize('order', [1, 1.5, 2, 3, float('inf')])
def test_slope_is_the_derivative(order):
    torch.manual_seed(0)
    x = torch.randn(5, 7, dtype=torch.double, requires_grad=True)
    norm, slope = norm_and_slope(x.detach(), order)
    want = torch.linalg.vector_norm(x, order, dim=0, keepdim=True)
    want.sum().backward()
    torch.testing.assert_close(norm, want.detach())
    torch.testing.assert_close(slope, x.grad)


@pytest.mark.parametrize('order', [1, 1.5, 2, float('inf')])
def test_slope_of_zero_is_zero(order):
    assert not norm_and_slope(torch.zeros(3, 2), order)[1].any()


def test_batches_must_agree():
    with pytest.raises(ValueError, match='2 images and teacher 3'):
        prepare(torch.rand(2, 1, 2, 2), torch.rand(3, 1, 2, 2), None)
    with pytest.raises(ValueError, match='mask has 1 images, the map 2'):
        prepare(torch.rand(2, 1, 2, 2), torch.rand(2, 1, 2, 2),
                torch.ones(1, 2, 2, dtype=torch.bool))


def test_prepare():
    student = torch.rand(2, 3, 2, 3).half().requires_grad_()
    teacher = torch.rand(2, 4, 4, 6, requires_grad=True)
    s, t, valid = prepare(student, teacher, None)
    assert s.shape == (2, 3, 4, 6) and s.dtype is torch.float32
    assert s.requires_grad and not t.requires_grad
    assert valid.shape == (2, 4, 6) and valid.all()


def test_cleared_is_zero_even_for_a_nan():
    x = torch.randn(2, 3, 4, 5)
    valid = torch.ones(2, 1, 4, 5, dtype=torch.bool)
    assert mask_invalid(x, valid) is x
    valid[1, 0, 2] = False
    x[1, :, 2] = float('nan')
    assert torch.equal(mask_invalid(x, valid), x.nan_to_num())
