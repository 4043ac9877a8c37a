"""FSPLoss: two references' numbers, loops, connectors, masks."""
import pytest
import torch
import torch.nn.functional as F

from seg_kd.losses import FSPLoss
from seg_kd.losses.fsp import flow

from .reference import golden, numbers

SQUARE = [(2, 3, 8, 8), (2, 5, 4, 4), (2, 4, 4, 4)]  # of the golden numbers
FLAT = [(2, 3, 6, 10), (2, 5, 3, 5)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def inputs(shapes):
    student = [numbers(i, *s).requires_grad_() for i, s in enumerate(shapes)]
    return student, [numbers(9 + i, *s) for i, s in enumerate(shapes)]


def assert_gradients(value, student, want):
    for found, expected in zip(torch.autograd.grad(value, student), want):
        torch.testing.assert_close(found[1, :, 1],
                                   torch.tensor(expected).double())


def test_average_pool_is_repdistiller():
    student, teacher = inputs(SQUARE)
    value, want = FSPLoss([3, 5, 4], [3, 5, 4])(student,
                                                teacher), golden('fsp')
    assert value.item() == pytest.approx(sum(want['avg']), rel=1e-12)
    assert_gradients(value, student, want['avg_gradients'])
    one = FSPLoss([3, 5, 4], [3, 5, 4], pairs=[(1, 2)])(student, teacher)
    assert one.item() == pytest.approx(want['avg'][1], rel=1e-12)


def test_max_pool_is_torchdistill():
    student, teacher = inputs(FLAT)
    gap = flow(*student, None, 'max') - flow(*teacher, None, 'max')
    want = golden('fsp')
    torch.testing.assert_close(gap.detach(),
                               torch.tensor(want['max_matrix_gap']).double())
    value = FSPLoss([3, 5], [3, 5], pool='max')(student, teacher)
    assert_gradients(value, student, want['max_gradients'])


@pytest.mark.parametrize('pool', ['avg', 'max'])
def test_matrix_by_loops(pool):
    """Of valid positions, and of what is valid in a cell."""
    fine, coarse = torch.randn(2, 3, 6, 4), torch.randn(2, 5, 3, 2)
    mask = torch.rand(2, 6, 4) < .6
    found = flow(fine, coarse, mask, pool)
    for n in range(2):
        total, count = torch.zeros(3, 5), 0
        for y in range(3):
            for x in range(2):
                cell = (n, slice(2 * y, 2 * y + 2), slice(2 * x, 2 * x + 2))
                keep = mask[cell]
                if keep.sum() < 2:
                    continue
                kept = fine[cell[0], :, cell[1], cell[2]][:, keep]
                one = kept.mean(1) if pool == 'avg' else kept.amax(1)
                total += torch.outer(one, coarse[n, :, y, x])
                count += 1
        torch.testing.assert_close(found[n], total / count)


@pytest.mark.parametrize('pool', ['avg', 'max'])
def test_pooling_with_all_valid_is_pooling(pool):
    """Grids that do not divide, and either layer the finer one."""
    fine, coarse = torch.randn(1, 3, 7, 9), torch.randn(1, 5, 3, 4)
    mask = torch.ones(1, 20, 30, dtype=torch.bool)
    for maps in ((fine, coarse), (coarse, fine)):
        torch.testing.assert_close(flow(*maps, mask, pool),
                                   flow(*maps, None, pool))
    want = getattr(F, f'adaptive_{pool}_pool2d')(fine, (3, 4)).flatten(2)
    want = want @ coarse.flatten(2).mT / 12
    torch.testing.assert_close(flow(fine, coarse, None, pool), want)


def test_connectors_act_as_1x1_convs_on_the_maps():
    loss = FSPLoss([3, 4, 5], [6, 4, 7]).double()
    assert set(loss.connectors) == {'0', '2'}
    student = [
        torch.randn(2, c, s, s + 1).double()
        for c, s in ((3, 8), (4, 4), (5, 4))
    ]
    teacher = [
        torch.randn(2, c, s, s + 1).double()
        for c, s in ((6, 8), (4, 4), (7, 4))
    ]
    mapped = list(student)
    for i in (0, 2):
        weight = loss.connectors[str(i)][:, :, None, None]
        mapped[i] = F.conv2d(student[i], weight)
    want = FSPLoss([6, 4, 7], [6, 4, 7])(mapped, teacher)
    torch.testing.assert_close(loss(student, teacher), want)


def test_paper_form_sums_the_entries():
    maps = inputs(FLAT)
    torch.testing.assert_close(
        FSPLoss([3, 5], [3, 5], form='paper')(*maps),
        15 * FSPLoss([3, 5], [3, 5])(*maps))


def test_networks_need_not_share_a_grid():
    loss = FSPLoss([3, 3], [3, 3])
    student = [torch.randn(2, 3, 4, 6) for _ in range(2)]
    teacher = [
        x.repeat_interleave(2, 2).repeat_interleave(2, 3) for x in student
    ]
    assert loss(student, teacher) < 1e-12


def test_an_image_without_labels_does_not_count():
    loss = FSPLoss([3, 3], [3, 3])
    student = [torch.randn(2, 3, 4, 6) for _ in range(2)]
    teacher = [torch.randn(2, 3, 4, 6) for _ in range(2)]
    mask = torch.ones(2, 8, 12, dtype=torch.bool)
    mask[1] = False
    want = loss([m[:1] for m in student], [m[:1] for m in teacher])
    torch.testing.assert_close(loss(student, teacher, mask), want)


@pytest.mark.parametrize('arguments, message', [
    (dict(pool='mean'), "'avg' or 'max'"),
    (dict(form='mean'), "'dense' or 'paper'"),
    (dict(pairs=[(0, 2)]), 'of 2 layers'),
])
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        FSPLoss([3, 3], [3, 3], **arguments)


def test_wrong_maps():
    with pytest.raises(ValueError, match='two or more layers'):
        FSPLoss(3, 3)
    loss, m = FSPLoss([3, 3], [3, 3]), torch.randn(2, 3, 2, 2)
    with pytest.raises(ValueError, match='3 maps of the student'):
        loss([m, m, m], [m, m])
    with pytest.raises(ValueError, match='2 images and teacher 1'):
        loss([m, m], [m[:1], m[:1]])


def test_half_precision_of_large_activations():
    """Units to the fourth: it is the weight that keeps float16 finite."""
    maps = [3000 * torch.randn(2, 2, 6, 8, 8) for _ in range(2)]
    student, teacher = ([x.half() for x in pair] for pair in maps)
    student = [x.requires_grad_() for x in student]
    value = FSPLoss([6, 6], [6, 6])(student, teacher)
    (1e-9 * value).backward()
    assert value.isfinite() and value.dtype is torch.float32
    assert all(x.grad.isfinite().all() and x.grad.any() for x in student)
