"""KDLoss: the codes of others, a value by hand, scale."""
import math

import pytest
import torch
import torch.nn.functional as F

from seg_kd.losses import KDLoss

from .reference import golden, numbers


@pytest.mark.parametrize('case, loss, size', [
    ('paper_vectors', KDLoss(form='paper'), (1, 1)),
    ('paper_vectors', KDLoss(), (1, 1)),
    ('paper_maps', KDLoss(form='paper'), (3, 5)),
    ('dense_maps', KDLoss(), (3, 5)),
    ('dense_maps_1', KDLoss(temperature=1.), (3, 5)),
])
def test_golden(case, loss, size):
    expected = golden('kd')[case]
    student = (3 * numbers(0, 2, 7, *size)).requires_grad_()
    value = loss(student, 3 * numbers(1, 2, 7, *size))
    value.backward()
    assert value.item() == pytest.approx(expected['value'], rel=1e-12)
    torch.testing.assert_close(student.grad[0],
                               torch.tensor(expected['gradient'],
                                            dtype=torch.double),
                               rtol=1e-10,
                               atol=1e-15)


def test_value_by_hand():
    """1/2 and 1/2 in the student, 3/4 and 1/4 in the teacher, at tau 2."""
    student = torch.zeros(1, 2, 2, 3)
    teacher = torch.tensor([2 * math.log(3), 0.]).view(1, 2, 1, 1)
    want = 4 * (.75 * math.log(1.5) + .25 * math.log(.5))
    value = KDLoss(temperature=2.)(student, teacher.expand_as(student))
    assert value.item() == pytest.approx(want)


def test_mean_over_valid_positions():
    student, teacher = torch.randn(2, 5, 3, 4), torch.randn(2, 5, 3, 4)
    mask = torch.rand(2, 3, 4) < .6
    rows = [x.movedim(1, 3)[mask] / 4 for x in (student, teacher)]
    want = 16 * F.kl_div(
        rows[0].log_softmax(1), rows[1].softmax(1), reduction='batchmean')
    torch.testing.assert_close(KDLoss()(student, teacher, mask), want)
    paper = KDLoss(form='paper')(student, teacher, mask)
    torch.testing.assert_close(paper, want * mask.sum() / 2)


def test_hot_kd_matches_centred_logits():
    """With a high temperature, half the squared error over the classes."""
    student, teacher = numbers(0, 2, 5, 3, 4), numbers(1, 2, 5, 3, 4)
    gap = student - teacher
    gap -= gap.mean(1, keepdim=True)
    value = KDLoss(temperature=1e3)(student, teacher)
    want = gap.square().sum(1).mean() / (2 * 5)
    torch.testing.assert_close(value, want, rtol=1e-2, atol=0)


def test_never_below_zero():
    """However the roundings of a student that nearly agrees fall."""
    torch.manual_seed(0)
    for _ in range(50):
        teacher = torch.randn(1, 3, 1, 1)
        student = teacher + 1e-7 * torch.randn(1, 3, 1, 1)
        assert KDLoss()(student, teacher) >= 0


def test_extra_repr_and_form():
    assert 'temperature=4.0' in repr(KDLoss())
    with pytest.raises(ValueError, match="not 'pixel'"):
        KDLoss(form='pixel')


def test_vectors_are_told_how_to_become_maps():
    with pytest.raises(ValueError, match=r'x\[\.\.\., None, None\]'):
        KDLoss()(torch.randn(2, 3), torch.randn(2, 3))


@pytest.mark.parametrize('classes', [1, 3])
def test_sigmoids(classes):
    """Each class is a question of its own."""
    torch.manual_seed(0)
    student = torch.randn(2, classes, 3, 4).double().requires_grad_()
    teacher = 3 * torch.randn(2, classes, 3, 4).double()
    mask = torch.rand(2, 3, 4) < .6
    s, t = (x.movedim(1, 3)[mask] / 2 for x in (student, teacher))
    cross, own = (F.binary_cross_entropy_with_logits(x,
                                                     t.sigmoid(),
                                                     reduction='sum')
                  for x in (s, t))
    want = 4 * (cross - own) / mask.sum()
    loss = KDLoss(temperature=2., activation='sigmoid')
    got = loss(student, teacher, mask)
    torch.testing.assert_close(got, want)
    torch.testing.assert_close(*(torch.autograd.grad(x, student)
                                 for x in (got, want)))


def test_one_logit_of_a_softmax():
    maps = torch.randn(2, 1, 1, 3, 4)
    with pytest.raises(ValueError, match="activation='sigmoid'"):
        KDLoss()(*maps)


def test_sure_sigmoids():
    """Far from 0 a probability is 0 or 1 in float32: no NaN, no inf."""
    student = torch.tensor([-200., 200, 90, -90]).view(1, 1, 2, 2)
    student.requires_grad_()
    value = KDLoss(activation='sigmoid', temperature=1.)(student, -student)
    value.backward()
    assert value.item() == pytest.approx((200 + 200 + 90 + 90) / 4)
    torch.testing.assert_close(student.grad, student.detach().sign() / 4)
