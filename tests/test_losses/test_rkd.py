"""RKDLoss: the authors' numbers, loops, subsets, precision, memory."""
import pytest
import torch
import torch.nn.functional as F

from seg_kd.losses import RKDLoss

from .reference import golden, numbers, unit
from .relations import as_map, error, gradient, largest, on_maps


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def term(name, **kwargs):
    """One of the two terms, with weight 1."""
    weights = dict(distance_weight=0., angle_weight=0.)
    loss = RKDLoss(**{**weights, f'{name}_weight': 1., **kwargs})
    return lambda *maps: loss(*maps)[name]


def distances(vectors):
    found = torch.stack([(a - b).norm() if i != j else a.new_zeros(())
                         for i, a in enumerate(vectors)
                         for j, b in enumerate(vectors)])
    return found / found[found > 0].mean()


def cosines(vectors):
    return torch.stack([
        unit(b - a) @ unit(c - a) for a in vectors for b in vectors
        for c in vectors
    ])


LOOPS = dict(
    distance=on_maps(
        lambda s, t: F.smooth_l1_loss(distances(s), distances(t))),
    angle=on_maps(lambda s, t: F.smooth_l1_loss(cosines(s), cosines(t))))


@pytest.mark.parametrize('name', LOOPS)
def test_the_authors_numbers(name):
    found = golden('rkd')[name]
    student, teacher = as_map(numbers(0, 7, 3)), as_map(numbers(1, 7, 5))
    loss = term(name, instances='image')
    value, grad = gradient(loss, student, teacher)
    assert value == pytest.approx(found['value'], rel=1e-12)
    want = torch.tensor(found['gradient']).double()
    torch.testing.assert_close(grad[1, :, 0, 0], want, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('channels', [(2, 3), (3, 2), (9, 4)])
@pytest.mark.parametrize('name', LOOPS)
def test_loops(name, n, channels):
    student, teacher = (torch.randn(n, c, 3, 3).double() for c in channels)
    student[0, :, 0] *= 9  # beyond the bend of smooth L1, too
    mask = torch.rand(n, 3, 3) < .8
    want = gradient(LOOPS[name], student, teacher, mask)
    got = gradient(term(name), student, teacher, mask)
    assert error(got, want) < 1e-9


def test_equal_instances():
    """They are 0 apart, and make no angle."""
    student, teacher = torch.randn(1, 3, 2, 3), torch.randn(1, 4, 2, 3)
    student[..., 1] = student[..., 0]
    teacher[..., 2] = teacher[..., 1]
    for name, loops in LOOPS.items():
        want = loops(student.double(), teacher.double()).item()
        value, grad = gradient(term(name), student, teacher)
        assert value == pytest.approx(want, rel=1e-6)
        assert grad.isfinite().all()


@pytest.mark.parametrize('dtype', [torch.float, torch.double])
@pytest.mark.parametrize('seed', range(4))
def test_long_vectors(dtype, seed):
    """Rounding makes neither a self-distance nor one of equal images."""
    torch.manual_seed(seed)
    student, teacher = (torch.randn(2, 64, 16, 128) for _ in range(2))
    loss = RKDLoss(instances='map')
    for pair in ((student, teacher), (student.tile(2, 1, 1, 1),
                                      teacher.tile(2, 1, 1, 1))):
        found = loss(*(x.to(dtype) for x in pair))
        assert found['distance'] < 1e-12
    student, teacher = (torch.randn(4, 64, 16, 128) for _ in range(2))
    want = loss(student.double(), teacher.double())
    for name, value in loss(student.to(dtype), teacher.to(dtype)).items():
        torch.testing.assert_close(value.double(), want[name])


def test_weights():
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 6, 3, 5)
    one, other = RKDLoss(1, 1), RKDLoss(25, 50)
    one, other = (loss(student, teacher) for loss in (one, other))
    assert list(one) == ['distance', 'angle']
    torch.testing.assert_close(25 * one['distance'], other['distance'])
    torch.testing.assert_close(50 * one['angle'], other['angle'])


def test_a_term_of_weight_0_is_left_out():
    maps = torch.randn(2, 1, 4, 3, 5)
    assert list(RKDLoss(angle_weight=0)(*maps)) == ['distance']
    assert list(RKDLoss(distance_weight=0)(*maps)) == ['angle']


def test_angles_of_a_subset():
    student, teacher = torch.randn(1, 4, 9, 7), torch.randn(1, 6, 9, 7)
    torch.manual_seed(3)
    value, grad = gradient(term('angle', angle_instances=5), student, teacher)
    touched = grad[0].any(0)
    assert touched.sum() == 5
    want = term('angle')(student, teacher, touched[None])
    assert value == pytest.approx(want.item())


def test_angles_in_several_chunks(monkeypatch):
    student, teacher = torch.randn(1, 4, 3, 5), torch.randn(1, 6, 3, 5)
    want = gradient(term('angle'), student, teacher)
    monkeypatch.setattr('seg_kd.losses.rkd.CHUNK', 4 * 15**2)
    assert error(gradient(term('angle'), student, teacher), want) < 1e-6


@pytest.mark.parametrize('size', [1., .1, .01])
@pytest.mark.parametrize('relu', [False, True])
def test_tiles_and_precision(relu, size):
    teacher = torch.randn(1, 32, 25, 31)  # 2 x 2 tiles
    student = teacher + size * torch.randn_like(teacher)
    if relu:
        student, teacher = student.relu() + 3, teacher.relu()
    want = gradient(matrices, student.double(), teacher.double())
    got = gradient(term('distance'), student, teacher)
    assert error(got, want) < 1e-4


def matrices(student, teacher):

    def scaled(x):
        x = x.flatten(2)[0].T
        d = torch.cdist(x, x, compute_mode='donot_use_mm_for_euclid_dist')
        return d / d[d > 0].mean()

    return F.smooth_l1_loss(scaled(student), scaled(teacher))


def test_memory_is_linear():
    student, teacher = torch.randn(2, 1, 128, 65, 64)
    loss = term('distance', max_instances=None)
    assert largest(loss, student, teacher) == 2 * student.numel()


@pytest.mark.parametrize('name', LOOPS)
def test_few_instances(name):
    for size in (1, 2):
        value, grad = gradient(term(name), torch.randn(1, 3, 1, size),
                               torch.randn(1, 5, 1, size))
        # two are one distance apart; the angles of two are no angles
        assert value < 1e-12 and grad.abs().max() < 1e-6


@pytest.mark.parametrize('kwargs', [
    dict(distance_weight=-1),
    dict(distance_weight=0, angle_weight=0),
    dict(angle_instances=0),
])
def test_wrong_arguments(kwargs):
    with pytest.raises(ValueError, match='must'):
        RKDLoss(**kwargs)
