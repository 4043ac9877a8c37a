"""PKTLoss: the authors' numbers, loops, precision, memory."""
import math

import pytest
import torch

from seg_kd.losses import PKTLoss

from .reference import golden, numbers, unit
from .relations import as_map, error, gradient, largest, on_maps


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def probabilities(vectors):
    for x in (unit(v) for v in vectors):
        row = torch.stack([(1 + x @ unit(other)) / 2 for other in vectors])
        yield row / row.sum()


@on_maps
def loops(student, teacher):
    rows, eps = zip(probabilities(student),
                    probabilities(teacher)), 1e-7 / len(student)
    return sum((t * ((t + eps) / (s + eps)).log()).sum()
               for s, t in rows) / len(student)


def test_the_authors_numbers():
    found = golden('pkt')
    student, teacher = as_map(numbers(0, 7, 16)), as_map(numbers(1, 7, 24))
    value, grad = gradient(PKTLoss('paper', 'image'), student, teacher)
    # they add 1e-7 to lengths
    assert value == pytest.approx(found['value'], rel=5e-7)
    want = torch.tensor(found['gradient']).double()
    torch.testing.assert_close(grad[1, :, 0, 0], want, rtol=5e-6, atol=1e-10)


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('channels', [(3, 7), (7, 3)])
def test_loops(n, channels):
    student, teacher = (torch.randn(n, c, 3, 5).double() for c in channels)
    mask = torch.rand(n, 3, 5) < .8
    want = gradient(loops, student, teacher, mask)
    assert error(gradient(PKTLoss(), student, teacher, mask), want) < 1e-9


def test_value_by_hand():
    """Two positions: equal in the teacher, opposite in the student."""
    student = torch.tensor([[[[2., -1.]]]])
    teacher = torch.tensor([[[[3., 5.]]]])
    eps = 1e-7 / 2
    rows = .5 * math.log((.5 + eps) / (1 + eps)) + .5 * math.log(
        (.5 + eps) / eps)
    assert PKTLoss()(student, teacher).item() == pytest.approx(rows, rel=1e-4)


def test_opposite_teacher_is_finite():
    student = torch.tensor([[[[3., 5., -1., -1.]]]])
    teacher = torch.tensor([[[[2., -1., 4., -3.]]]])
    value, grad = gradient(PKTLoss(), student, teacher)
    # each row: .5 log(.5 / .5) + .5 log(.5 / 0)
    want = .5 * math.log((.5 + 1e-7 / 4) / (1e-7 / 4))
    assert value == pytest.approx(want, rel=1e-4)
    assert grad.isfinite().all()


def test_paper_is_dense_over_count():
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)
    dense, paper = (PKTLoss(f)(student, teacher) for f in ('dense', 'paper'))
    torch.testing.assert_close(paper * 30, dense, rtol=2e-5, atol=0.)


@pytest.mark.parametrize('size', [1., .1, .01, .001])
@pytest.mark.parametrize('relu', [False, True])
def test_tiles_and_precision(relu, size):
    teacher = torch.randn(1, 32, 25, 31)  # 2 x 2 tiles
    student = teacher + size * torch.randn_like(teacher)
    if relu:
        student, teacher = student.relu(), teacher.relu()
    want = gradient(matrices, student.double(), teacher.double())
    assert error(gradient(PKTLoss(), student, teacher), want) < 1e-3


def matrices(student, teacher):
    s, t = (torch.nn.functional.normalize(x.flatten(2)[0].T)
            for x in (student, teacher))
    s, t = ((1 + x @ x.T) / 2 for x in (s, t))
    s, t = (x / x.sum(1, keepdim=True) for x in (s, t))
    return (t * (t / s).log()).sum(1).mean()


def test_memory_is_linear():
    student, teacher = torch.randn(2, 1, 128, 65, 64)
    loss = PKTLoss(max_instances=None)
    assert largest(loss, student, teacher) == student.numel()


def test_bounded_by_default():
    loss = PKTLoss()
    assert loss.instances.max_instances == 2048


def test_one_instance_has_no_relations():
    value, grad = gradient(PKTLoss(), torch.randn(1, 3, 1, 1),
                           torch.randn(1, 5, 1, 1))
    assert value < 1e-12 and grad.abs().max() < 1e-12


def test_unknown_form():
    with pytest.raises(ValueError, match="not 'sum'"):
        PKTLoss('sum')
