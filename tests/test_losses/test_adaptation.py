"""AdaptationLoss: value against loops, per position and not per map."""
import math

import pytest
import torch

from seg_kd.losses import AdaptationLoss

from . import reference

INF = math.inf


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.mark.parametrize('p, q', [(1, 2), (2, 2), (1, 1), (1.5, 3), (INF, 2),
                                  (1, INF)])
def test_value_and_gradient_by_loops(p, q):
    student = torch.randn(2, 4, 3, 5, requires_grad=True)
    teacher, mask = torch.randn(2, 4, 3, 5), torch.rand(2, 3, 5) < .7
    value = AdaptationLoss(p, q)(student, teacher, mask)
    want = reference.adaptation(student, teacher, mask, p, q)
    assert value.item() == pytest.approx(want.item(), rel=1e-6)
    got, = torch.autograd.grad(value, student)
    truth, = torch.autograd.grad(want, student)
    torch.testing.assert_close(got, truth)


def test_value_by_hand():
    student = torch.tensor([3., 4.]).view(1, 2, 1, 1)
    teacher = torch.tensor([0., 9.]).view(1, 2, 1, 1)
    # |(0.6, 0.8) - (0, 1)|_1
    assert AdaptationLoss()(student, teacher) == pytest.approx(.8)


def test_each_position_has_its_own_length():
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    lengths = torch.rand(2, 1, 3, 5) + .1
    loss = AdaptationLoss()
    torch.testing.assert_close(loss(student * lengths, teacher),
                               loss(student, teacher))


def test_zero_vectors_get_no_gradient():
    student = torch.randn(1, 4, 2, 3)
    student[..., 0] = 0
    student.requires_grad_()
    value = AdaptationLoss()(student, torch.randn(1, 4, 2, 3))
    value.backward()
    assert value.isfinite()
    assert not student.grad[..., 0].any() and student.grad[..., 1:].all()


def test_resized_to_the_teacher():
    student, teacher = torch.randn(1, 4, 3, 4), torch.randn(1, 4, 5, 9)
    resized = torch.nn.functional.interpolate(student, (5, 9), mode='bilinear')
    want = AdaptationLoss()(resized, teacher)
    torch.testing.assert_close(AdaptationLoss()(student, teacher), want)


def test_tiles_agree():
    student, teacher = torch.randn(2, 300, 29, 37), torch.randn(2, 300, 29, 37)
    value = AdaptationLoss()(student, teacher)
    unit = torch.nn.functional.normalize
    want = (unit(student) - unit(teacher)).abs().sum(1).mean()
    torch.testing.assert_close(value, want)


@pytest.mark.parametrize('orders', [(0, 2), (1, .5), (math.nan, 2)])
def test_orders_below_one(orders):
    with pytest.raises(ValueError, match='at least 1'):
        AdaptationLoss(*orders)


def test_unequal_channels():
    with pytest.raises(ValueError, match='3 channels and teacher 4'):
        AdaptationLoss()(torch.randn(1, 3, 2, 2), torch.randn(1, 4, 2, 2))
