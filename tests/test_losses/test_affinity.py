"""AffinityLoss: value against loops, precision, memory, crops."""
import math
import warnings

import pytest
import torch

from seg_kd.losses import AffinityLoss, _gram

from . import reference


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def gradient(loss, student, teacher):
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    value.backward()
    return value.item(), student.grad


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('channels', [(3, 3), (3, 7), (7, 3)])
def test_value_and_gradient_by_loops(n, channels):
    student, teacher = (torch.randn(n, c, 3, 4) for c in channels)
    mask = torch.rand(n, 3, 4) < .7

    def loss(s, t):
        return AffinityLoss()(s, t, mask)

    def loops(s, t):
        return reference.affinity(s, t, mask)

    value, grad = gradient(loss, student, teacher)
    want, truth = gradient(loops, student.double(), teacher.double())
    assert value == pytest.approx(want, rel=1e-6)
    torch.testing.assert_close(grad, truth.float())


def test_value_by_hand():
    """Two positions: equal in the student, at right angles in the teacher."""
    student = torch.tensor([[1., 1.], [0., 0.]]).view(1, 2, 1, 2)
    teacher = torch.tensor([[3., 0.], [0., 5.]]).view(1, 2, 1, 2)
    # each row: 1/2 * |(0, 1)|
    assert AffinityLoss()(student, teacher) == pytest.approx(1)


def test_position_is_map_over_root_of_count():
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)
    by_map = AffinityLoss('map')(student, teacher)
    by_position = AffinityLoss('position')(student, teacher)
    torch.testing.assert_close(by_map, by_position * math.sqrt(15))


def test_map_grows_with_the_root_of_the_crop():
    student, teacher = torch.randn(1, 4, 3, 5), torch.randn(1, 6, 3, 5)
    large = AffinityLoss()(student.tile(1, 1, 3, 3), teacher.tile(1, 1, 3, 3))
    torch.testing.assert_close(large, 3 * AffinityLoss()(student, teacher))


def test_images_without_valid_positions_do_not_count():
    student, teacher = torch.randn(3, 4, 3, 5), torch.randn(3, 6, 3, 5)
    mask = torch.tensor([True, False, True])[:, None, None].expand(-1, 3, 5)
    want = AffinityLoss()(student[::2], teacher[::2])
    torch.testing.assert_close(AffinityLoss()(student, teacher, mask), want)


def test_zero_vectors_have_cosine_zero_and_no_gradient():
    student, teacher = torch.randn(1, 4, 2, 3), torch.randn(1, 4, 2, 3)
    student[..., 0] = 0
    teacher[..., 0, 2] = 0
    value, grad = gradient(AffinityLoss(), student, teacher)
    want = reference.affinity(student, teacher).item()
    assert value == pytest.approx(want, rel=1e-6)
    assert not grad[..., 0].any() and grad[..., 1:].all()


MAPS = {
    'centred':
    lambda c, p: torch.randn(c, p),
    'relu':
    lambda c, p: torch.randn(c, p).relu(),
    'mean':
    lambda c, p: (.3 * torch.randn(c, p) + 1).relu(),
    'classes':
    lambda c, p:
    (torch.randn(c, 5)[:, torch.arange(p) % 5] + .1 * torch.randn(c, p)),
    'few channels':
    lambda c, p: (torch.randn(c, p) * torch.randn(c, 1).mul(2).exp()).relu(),
    'sparse':
    lambda c, p: (torch.randn(c, p) - 1.5).relu(),
}


def pair(kind, gap, channels, student_channels, size):
    """A student whose affinities differ by ``gap`` (Frobenius, relative)."""
    base = MAPS[kind](channels, size[0] * size[1]).double()
    noise = torch.randn_like(base)
    target = torch.nn.functional.normalize(base, dim=0)
    target = target.T @ target

    def difference(amount):
        s = torch.nn.functional.normalize(base + amount * noise, dim=0)
        return (s.T @ s - target).norm() / target.norm()

    low, high = 1e-7, 10.
    for _ in range(20):
        middle = math.sqrt(low * high)
        low, high = ((middle, high) if difference(middle) < gap else
                     (low, middle))
    mix = torch.randn(max(student_channels, channels),
                      channels).double()  # orthogonal: same affinities
    mix = torch.linalg.qr(mix)[0][:student_channels]
    student = mix @ (base + high * noise)
    return tuple(x.unflatten(1, size)[None].float() for x in (student, base))


@pytest.mark.parametrize('channels', [(64, 64), (96, 64)])
@pytest.mark.parametrize('gap', [.1, .06, .03, .01, .001])
@pytest.mark.parametrize('kind', MAPS)
def test_float32_precision(kind, gap, channels):
    student, teacher = pair(kind, gap, channels[1], channels[0], (15, 33))
    value, grad = gradient(AffinityLoss(), student, teacher)
    want, truth = gradient(reference.fast_affinity, student.double(),
                           teacher.double())
    near = gap < .05  # float64, from the lengths on
    assert value == pytest.approx(want, rel=1e-6 if near else 2e-5)
    assert (grad - truth).norm() < (1e-5 if near else 2e-4) * truth.norm()


@pytest.mark.parametrize('gap', [1e-4, 1e-6, 0.])
@pytest.mark.parametrize('kind', MAPS)
def test_quiet_where_nothing_differs(kind, gap):
    base = MAPS[kind](16, 5 * 9).unflatten(1, (5, 9))[None]
    student = base * (1 + gap * torch.randn_like(base))
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        value, grad = gradient(AffinityLoss('position'), student, 3 * base)
    assert 0 <= value < 1e-6 + 2 * gap
    assert grad.isfinite().all()


def test_rounded_products_are_not_used():
    student, teacher = torch.randn(1, 32, 9, 11), torch.randn(1, 32, 9, 11)
    want = gradient(AffinityLoss(), student, teacher)
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision('medium')
    try:
        assert _gram.product_dtype(student) is torch.double
        got = gradient(AffinityLoss(), student, teacher)
    finally:
        torch.set_float32_matmul_precision(before)
    assert _gram.product_dtype(student) is torch.float32
    torch.testing.assert_close(got, want)


@pytest.mark.parametrize('near', [False, True])
def test_memory_is_linear(near):
    teacher = torch.randn(1, 8, 128, 256)  # 32768 positions
    student = teacher + (1e-3 if near else 1.) * torch.randn_like(teacher)
    student.requires_grad_()
    with reference.Largest() as largest:
        AffinityLoss()(student, teacher).backward()
    assert largest.elements == student.numel()


def test_channels_last_and_tiles_agree():
    student, teacher = torch.randn(2, 300, 29, 37), torch.randn(2, 7, 29, 37)
    value, grad = gradient(AffinityLoss(), student, teacher)
    last = student.to(memory_format=torch.channels_last)
    other, other_grad = gradient(AffinityLoss(), last, teacher)
    assert other == pytest.approx(value, rel=1e-6)
    torch.testing.assert_close(grad, other_grad)
    want, truth = gradient(reference.fast_affinity, student.double(),
                           teacher.double())
    assert value == pytest.approx(want, rel=1e-6)
    assert (grad - truth).norm() < 1e-5 * truth.norm()


def test_unknown_form():
    with pytest.raises(ValueError, match="not 'pixel'"):
        AffinityLoss('pixel')
