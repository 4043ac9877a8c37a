"""VIDLoss: value, gradients, scale. Maps are never square."""
import math

import pytest
import torch
from torch import nn

from seg_kd.losses import VIDLoss

from .reference import golden, numbers

GRIDS = dict(equal=((4, 7), (4, 7)),
             finer=((6, 6), (3, 3)),
             coarser=((2, 2), (6, 6)))


def with_golden_weights(**kwargs) -> VIDLoss:
    loss = VIDLoss(3, 5, **kwargs).double()
    layers = [loss.raw_variance, *(loss.mean[i].weight for i in (0, 2, 4))]
    with torch.no_grad():
        for seed, parameter in enumerate(layers):
            parameter.copy_(numbers(10 + seed, *parameter.shape))
    return loss


@pytest.mark.parametrize('grid, form', [('equal', 'dense'), ('equal', 'paper'),
                                        ('finer', 'paper'),
                                        ('coarser', 'paper')])
def test_golden(grid, form):
    expected = golden('vid')[grid]
    loss = with_golden_weights(form=form)
    small, large = GRIDS[grid]
    student = numbers(0, 2, 3, *small).requires_grad_()
    value = loss(student, numbers(1, 2, 5, *large))
    gradients = torch.autograd.grad(value, [student, loss.raw_variance])
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    for found, key in zip((gradients[0][0, :, 1], gradients[1]),
                          ('student', 'scale')):
        assert torch.allclose(found,
                              found.new_tensor(expected[key]),
                              rtol=1e-12)


def test_first_variance_is_the_authors():
    raw = VIDLoss(3, 5).raw_variance
    assert raw[0].item() == pytest.approx(golden('vid')['first_scale'])
    torch.testing.assert_close(
        nn.functional.softplus(raw) + 1e-5, torch.full((5, ), 5.))


def test_value_by_hand():
    loss = VIDLoss(3, 4)
    for p in loss.mean.parameters():
        nn.init.zeros_(p)  # mu(S) = 0, so only sigma^2 = 5 and T = 2 are left
    mask = torch.ones(2, 4, 6, dtype=torch.bool)
    mask[:, 2:] = False
    teacher = torch.full((2, 4, 4, 6), 2.)
    teacher[:, :, 2:] = 7.
    value = loss(torch.randn(2, 3, 4, 6), teacher, mask)
    assert value.item() == pytest.approx((math.log(5) + 4 / 5) / 2)


def test_a_large_scale_does_not_overflow():
    """As ``log(1 + exp(a))``, written out, does."""
    loss = VIDLoss(3, 4, init_variance=600.)
    with torch.no_grad():
        loss.raw_variance += 600
    assert loss(torch.randn(1, 3, 2, 5), torch.randn(1, 4, 2, 5)).isfinite()


def test_hidden_channels():
    loss = VIDLoss(3, 5, hidden_channels=2)
    shapes = [tuple(p.shape[:2]) for p in loss.mean.parameters()]
    assert shapes == [(2, 3), (2, 2), (5, 2)]


def test_mistakes():
    with pytest.raises(ValueError, match="form must be .*, not 'code'"):
        VIDLoss(3, 5, form='code')
    with pytest.raises(ValueError, match='init_variance must be above eps'):
        VIDLoss(3, 5, init_variance=0.)
    with pytest.raises(ValueError, match='student has 5 channels, not 3'):
        VIDLoss(3, 5)(torch.randn(2, 5, 4, 7), torch.randn(2, 5, 4, 7))
