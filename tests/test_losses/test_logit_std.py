"""LogitStdLoss: the authors' numbers, what it does not see, flat logits."""
import pytest
import torch

from seg_kd.losses import KDLoss, LogitStdLoss

from .reference import golden, numbers


@pytest.mark.parametrize('temperature', [2, 4])
def test_golden(temperature):
    expected = golden('logit_std')[str(temperature)]
    student = (3 * numbers(0, 2, 7, 3, 5)).requires_grad_()
    value = LogitStdLoss(temperature)(student, 3 * numbers(1, 2, 7, 3, 5))
    value.backward()
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    torch.testing.assert_close(student.grad[0],
                               torch.tensor(expected['gradient'],
                                            dtype=torch.double),
                               rtol=1e-10,
                               atol=1e-15)


def test_is_kd_of_z_scores():
    student, teacher = numbers(0, 2, 5, 3, 4), numbers(1, 2, 5, 3, 4)
    mask = numbers(2, 2, 3, 4) < .5
    z = [(x - x.mean(1, keepdim=True)) / x.std(1, keepdim=True)
         for x in (student, teacher)]
    torch.testing.assert_close(LogitStdLoss(3.)(student, teacher, mask),
                               KDLoss(3.)(*z, mask),
                               rtol=1e-6,
                               atol=0)


def test_does_not_see_shift_and_scale():
    student, teacher = numbers(0, 2, 5, 3, 4), numbers(1, 2, 5, 3, 4)
    other = 7 * student + numbers(2, 2, 1, 3, 4)
    torch.testing.assert_close(LogitStdLoss()(other, teacher),
                               LogitStdLoss()(student, teacher),
                               rtol=1e-6,
                               atol=0)


def test_flat_logits():
    student = torch.ones(1, 4, 2, 3, requires_grad=True)
    LogitStdLoss()(student, torch.randn(1, 4, 2, 3)).backward()
    assert student.grad.isfinite().all() and student.grad.any()
