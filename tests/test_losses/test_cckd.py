"""CCKDLoss: known numbers, loops, precision, memory."""
import math

import pytest
import torch
from torch.nn.functional import normalize

from seg_kd.losses import CCKDLoss

from .reference import golden, numbers, unit
from .relations import as_map, error, gradient, largest, on_maps


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


KERNELS = dict(bilinear=lambda c: c,
               gaussian=lambda c: math.exp(-.8) *
               (1 + .8 * c + .8**2 / 2 * c * c))


def loops(kernel):

    @on_maps
    def loss(student, teacher):
        pairs = [(KERNELS[kernel](unit(a) @ unit(b)) -
                  KERNELS[kernel](unit(x) @ unit(y))).square()
                 for a, x in zip(student, teacher)
                 for b, y in zip(student, teacher)]
        return sum(pairs) / len(pairs)

    return loss


def matrices(kernel):

    def loss(student, teacher):
        s, t = (normalize(x.flatten(2)[0].T) for x in (student, teacher))
        return (KERNELS[kernel](s @ s.T) -
                KERNELS[kernel](t @ t.T)).square().mean()

    return loss


@pytest.mark.parametrize('name, settings', [
    ('bilinear', dict(kernel='bilinear')),
    ('gaussian', dict()),
    ('gaussian_3', dict(gamma=.3, order=3)),
])
def test_known_numbers(name, settings):
    """Theirs is the root of the sum over the pairs."""
    found = golden('cckd')[name]
    student, teacher = as_map(numbers(0, 7, 3)), as_map(numbers(1, 7, 5))
    loss = CCKDLoss(instances='image', normalize=False, **settings)
    value, grad = gradient(loss, student, teacher)
    assert 7 * math.sqrt(value) == pytest.approx(found['value'], rel=1e-12)
    want = torch.tensor(found['gradient']).double() * 2 * found['value'] / 49
    torch.testing.assert_close(grad[1, :, 0, 0], want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('channels', [(2, 3), (3, 2), (40, 3)])
@pytest.mark.parametrize('kernel', KERNELS)
def test_loops(kernel, n, channels):
    student, teacher = (torch.randn(n, c, 3, 5).double() for c in channels)
    mask = torch.rand(n, 3, 5) < .8
    want = gradient(loops(kernel), student, teacher, mask)
    got = gradient(CCKDLoss(kernel), student, teacher, mask)
    assert error(got, want) < 1e-9


def test_zero_vectors():
    student, teacher = torch.randn(1, 4, 3, 5), torch.randn(1, 4, 3, 5)
    student[..., 0] = 0
    for kernel in KERNELS:
        value, grad = gradient(CCKDLoss(kernel), student, teacher)
        want = loops(kernel)(student, teacher).item()
        assert value == pytest.approx(want, rel=1e-6)
        assert not grad[..., 0].any() and grad[..., 1:].all()


def test_a_high_order_is_the_gaussian():
    student, teacher = torch.randn(1, 4, 3, 5), torch.randn(1, 6, 3, 5)
    s, t = (normalize(x.flatten(2)[0].T) for x in (student, teacher))
    gap = [(-.4 * torch.cdist(x, x).square()).exp() for x in (s, t)]
    want = (gap[0] - gap[1]).square().mean()
    torch.testing.assert_close(CCKDLoss(order=12)(student, teacher), want)


def test_not_normalised():
    student, teacher = torch.randn(1, 3, 5, 7), torch.randn(1, 4, 5, 7)
    s, t = (x.flatten(2)[0].T for x in (student, teacher))
    want = (s @ s.T - t @ t.T).square().mean()
    loss = CCKDLoss('bilinear', normalize=False)
    torch.testing.assert_close(loss(student, teacher), want)


@pytest.mark.parametrize('size', [1., .1, .03, .01, .001])
@pytest.mark.parametrize('relu', [False, True])
@pytest.mark.parametrize('kernel', KERNELS)
def test_tiles_and_precision(kernel, relu, size):
    teacher = torch.randn(1, 32, 25, 31)  # 2 x 2 tiles
    student = teacher + size * torch.randn_like(teacher)
    if relu:
        student, teacher = student.relu(), teacher.relu()
    want = gradient(matrices(kernel), student.double(), teacher.double())
    assert error(gradient(CCKDLoss(kernel), student, teacher), want) < 5e-4


@pytest.mark.parametrize('kernel', KERNELS)
def test_memory_is_linear(kernel):
    student, teacher = torch.randn(2, 1, 128, 65, 64)
    loss = CCKDLoss(kernel, max_instances=None)
    assert largest(loss, student, teacher) == student.numel()


def test_only_the_gaussian_is_bounded_by_default():
    assert CCKDLoss().instances.max_instances == 2048
    assert CCKDLoss('bilinear').instances.max_instances is None
    assert CCKDLoss(max_instances=None).instances.max_instances is None


def test_one_instance_has_no_relations():
    for kernel in KERNELS:
        value, grad = gradient(CCKDLoss(kernel), torch.randn(1, 3, 1, 1),
                               torch.randn(1, 5, 1, 1))
        assert value < 1e-12 and grad.abs().max() < 1e-12


@pytest.mark.parametrize('kwargs', [
    dict(kernel='cosine'),
    dict(gamma=0),
    dict(order=0),
])
def test_wrong_arguments(kwargs):
    with pytest.raises(ValueError, match='must be'):
        CCKDLoss(**kwargs)
