"""SPLoss: the authors' numbers, loops, precision, memory."""
import pytest
import torch
from torch.nn.functional import normalize

from seg_kd.losses import SPLoss

from .reference import golden, numbers, unit
from .relations import error, gradient, largest, on_maps


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@on_maps
def loops(student, teacher):
    total = 0.
    for i in range(len(student)):
        rows = [
            unit(torch.stack([x[i] @ other for other in x]))
            for x in (student, teacher)
        ]
        total = total + (rows[0] - rows[1]).square().sum()
    return total / len(student)


def matrices(student, teacher):
    s, t = (normalize(x @ x.T) for x in (m.transpose(0, 1).flatten(1).T
                                         for m in (student, teacher)))
    return (s - t).square().sum() / len(s)


def test_the_verified_code():
    found = golden('sp')
    student, teacher = numbers(0, 6, 3, 2, 5), numbers(1, 6, 7, 2, 5)
    value, grad = gradient(SPLoss('paper', 'map'), student, teacher)
    assert value == pytest.approx(found['value'], rel=1e-12)
    want = torch.tensor(found['gradient']).double()
    torch.testing.assert_close(grad[1, 2], want, rtol=1e-6, atol=1e-12)


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('channels', [(2, 3), (3, 2), (40, 3)])
def test_loops(n, channels):
    student, teacher = (torch.randn(n, c, 3, 5).double() for c in channels)
    mask = torch.rand(n, 3, 5) < .8
    want = gradient(loops, student, teacher, mask)
    assert error(gradient(SPLoss(), student, teacher, mask), want) < 1e-9


def test_paper_is_dense_over_count():
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)
    dense, paper = (SPLoss(f)(student, teacher) for f in ('dense', 'paper'))
    torch.testing.assert_close(paper * 30, dense)


def test_zero_vectors():
    student, teacher = torch.randn(1, 4, 3, 5), torch.randn(1, 4, 3, 5)
    student[..., 0] = 0
    teacher[..., 0, 2] = 0
    for c in (4, 40):  # by products of channels, and of instances
        s, t = student.repeat(1, c // 4, 1, 1), teacher
        want = gradient(loops, s.double(), t.double())
        got = gradient(SPLoss(), s, t)
        assert got[0] == pytest.approx(want[0], rel=1e-6)
        assert got[1].isfinite().all()
        torch.testing.assert_close(got[1][..., 1:].double(),
                                   want[1][..., 1:],
                                   atol=1e-6,
                                   rtol=1e-5)


@pytest.mark.parametrize('scale', [1e-12, 1e12])
def test_scale_does_not_matter(scale):
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)
    want = gradient(SPLoss(), student, teacher)
    value, grad = gradient(SPLoss(), scale * student, teacher / scale)
    assert value == pytest.approx(want[0], rel=1e-5)
    torch.testing.assert_close(scale * grad, want[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize('size', [.3, .1, .03, .01, .001])
@pytest.mark.parametrize('relu', [False, True])
def test_float32_precision(relu, size):
    teacher = torch.randn(1, 32, 15, 33)
    student = teacher + size * torch.randn_like(teacher)
    if relu:
        student, teacher = student.relu(), teacher.relu()
    want = gradient(matrices, student.double(), teacher.double())
    assert error(gradient(SPLoss(), student, teacher), want) < 2e-4


@pytest.mark.parametrize('size', [.01, .001])
@pytest.mark.parametrize('scale', [1., 1.2, 1.5, 3.])
def test_precision_does_not_depend_on_the_scale(scale, size):
    teacher = torch.randn(2, 64, 24, 40).relu()
    student = scale * (teacher + size * torch.randn_like(teacher))
    want = gradient(matrices, student.double(), teacher.double())
    got = gradient(SPLoss(), student, teacher)
    assert got[0] == pytest.approx(want[0], rel=1e-6)
    assert error(got, want) < 2e-4


@pytest.mark.parametrize('size', [1., 1e-3])
def test_memory_is_linear(size):
    teacher = torch.randn(1, 8, 128, 256)  # 32768 positions
    student = teacher + size * torch.randn_like(teacher)
    assert largest(SPLoss(), student, teacher) == student.numel()


def test_one_instance_has_no_relations():
    for c in (1, 3):
        value, grad = gradient(SPLoss(), torch.randn(1, c, 1, 1),
                               torch.randn(1, c, 1, 1).abs())
        assert abs(value) < 1e-12 and grad.abs().max() < 1e-12


def test_unknown_form():
    with pytest.raises(ValueError, match="not 'sum'"):
        SPLoss('sum')
