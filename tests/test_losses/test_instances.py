"""Instances: what each kind is, the same in both maps, masks, bounds."""
import pytest
import torch

from seg_kd.losses import RelationLoss, SPLoss
from seg_kd.losses.instances import (KINDS, Classes, Images, Instances, Maps,
                                     Pixels, Regions, as_instances, subset)


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def places(n=2, h=5, w=7):
    """Maps whose channels say where a position is: image, row, column."""
    grids = torch.meshgrid(torch.arange(n),
                           torch.arange(h),
                           torch.arange(w),
                           indexing='ij')
    return torch.stack(grids, 1).float()


def pair(n=2, h=5, w=7):
    """The teacher has the same and one channel more."""
    student = places(n, h, w)
    return student, torch.cat([student, torch.rand(n, 1, h, w)], 1)


def labels(n=2, h=5, w=7):
    found = torch.zeros(n, h, w, dtype=torch.long)
    found[:, :, 3:] = 18
    found[0, 2:, 3:] = 7
    return found


def kind_of(name, most=None):
    return as_instances(name, most, (2, 3))


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('kind, count, width', [
    ('image', 1, 3),
    ('map', 1, 3 * 35),
    ('pixel', 35, 3),
    ('region', 6, 3),
    ('class', 2, 3),
])
def test_counts(kind, count, width, n):
    student, teacher = pair(n)
    s, t = kind_of(kind)(student, teacher, None, labels(n))
    extra = 1 if kind == 'class' else 0  # the first image has one more
    assert s.shape == (n * count + extra, width)
    assert t.shape == (n * count + extra, width // 3 * 4)


@pytest.mark.parametrize('kind', [k for k in KINDS if k != 'map'])
@pytest.mark.parametrize('most', [None, 2])
def test_the_same_in_both(kind, most):
    student, teacher = pair()
    mask = torch.rand(2, 5, 7) < .7
    s, t = kind_of(kind, most)(student, teacher, mask, labels())
    assert torch.equal(s, t[:, :3])
    assert len(s) == 2 or most is None


def test_pixels_are_the_valid_positions_in_order():
    student, teacher = pair()
    mask = torch.rand(2, 5, 7) < .5
    s, _ = Pixels()(student, teacher, mask)
    assert torch.equal(s, mask.nonzero().float())


def test_images_and_maps():
    student, teacher = torch.randn(2, 3, 5, 7), torch.randn(2, 4, 5, 7)
    mask = torch.rand(2, 5, 7) < .5
    _, t = Images()(student, teacher, mask)
    for n in range(2):
        torch.testing.assert_close(t[n], teacher[n][:, mask[n]].mean(1))
    _, t = Maps()(student, teacher, mask)
    assert torch.equal(t.view_as(teacher), teacher * mask[:, None])


@pytest.mark.parametrize('size', [(5, 7), (4, 6), (2, 1), (1, 9)])
def test_regions_by_loops(size):
    h, w = size
    teacher = torch.randn(2, 3, h, w)
    mask = torch.rand(2, h, w) < .6
    want = []
    for n in range(2):
        cells = {}
        for y, x in mask[n].nonzero().tolist():
            cell = y * 2 // h, x * 3 // w
            cells.setdefault(cell, []).append(teacher[n, :, y, x])
        want += [torch.stack(cells[c]).mean(0) for c in sorted(cells)]
    _, t = Regions((2, 3))(teacher, teacher, mask)
    torch.testing.assert_close(t, torch.stack(want))


def test_classes_of_each_image():
    student, teacher = torch.randn(2, 3, 5, 7), torch.randn(2, 4, 5, 7)
    mask = torch.rand(2, 5, 7) < .6
    s, t = Classes()(student, teacher, mask, labels())
    owners = [(0, 0), (0, 7), (0, 18), (1, 0), (1, 18)]
    for (n, k), a, b in zip(owners, s, t, strict=True):
        member = mask[n] & (labels()[n] == k)
        torch.testing.assert_close(a, student[n][:, member].mean(1))
        torch.testing.assert_close(b, teacher[n][:, member].mean(1))


def test_no_class_of_what_is_ignored():
    """Half of a position may be valid, and its centre yet ignored."""
    given = torch.full((1, 4, 4), 3)
    given[:, 1:3, 1:3] = 255
    feature = torch.randn(1, 2, 1, 1)
    assert given[0, 2, 2] == 255  # where the position has its label from
    _, t = Classes()(feature, feature, given != 255, given)
    assert len(t) == 0


def test_labels_of_any_resolution():
    student, teacher = pair()
    coarse = torch.tensor([[[0, 1]], [[0, 0]]])
    s, _ = Classes()(student, teacher, None, coarse)
    assert s[:, 0].tolist() == [0, 0, 1]
    assert s[2].tolist() == [1, 2, 3]
    fine = coarse.repeat_interleave(50, 1).repeat_interleave(70, 2)
    other, _ = Classes()(student, teacher, None, fine)
    assert other[2].tolist() == [1, 2, 3] and len(other) == 3


@pytest.mark.parametrize('kind', KINDS)
def test_ignored_positions_are_out(kind):
    student, teacher = pair()
    mask = torch.ones(2, 5, 7, dtype=torch.bool)
    mask[0, 1:3] = False
    bad = student.clone().masked_fill(~mask[:, None], float('nan'))
    bad.requires_grad_()
    s, _ = kind_of(kind)(student, teacher, mask, labels())
    other, _ = kind_of(kind)(bad, teacher, mask, labels())
    assert torch.equal(s, other)
    other.sum().backward()
    assert not bad.grad[0, :, 1:3].any() and bad.grad[1].all()


@pytest.mark.parametrize('kind', KINDS)
def test_nothing_valid(kind):
    student, teacher = pair()
    student.requires_grad_()
    mask = torch.zeros(2, 20, 28, dtype=torch.bool)
    s, t = kind_of(kind)(student, teacher, mask, labels())
    assert len(s) == len(t) == 0
    s.sum().backward()
    assert not student.grad.any()


def test_an_image_without_valid_positions_is_no_instance():
    student, teacher = pair()
    mask = torch.tensor([False, True])[:, None, None].expand(2, 5, 7)
    for kind in ('image', 'map'):
        s, _ = kind_of(kind)(student, teacher, mask)
        assert len(s) == 1 and s[0, 0] == 1


@pytest.mark.parametrize('kind', KINDS)
def test_at_most(kind):
    student, teacher = pair()
    every, _ = kind_of(kind)(student, teacher, None, labels())
    chosen, _ = kind_of(kind, 1)(student, teacher, None, labels())
    assert len(chosen) == 1
    assert (every == chosen).all(1).sum() == 1


def test_thinned_out_by_the_seed():
    draws = []
    for start in (1, 1, 2):
        torch.manual_seed(start)
        draws.append(Pixels(9)(*pair())[0])
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])


def test_no_random_numbers_where_none_are_needed():
    maps, before = pair(), torch.get_rng_state()
    Pixels(70)(*maps)
    assert torch.equal(before, torch.get_rng_state())


def test_subsets_are_fair():
    drawn = torch.stack([subset(6, 2) for _ in range(600)])
    assert (drawn[:, 0] < drawn[:, 1]).all()
    assert drawn.flatten().bincount(minlength=6).min() > 150  # 200 expected


@pytest.mark.parametrize('kind', KINDS)
def test_gradients_reach_the_student(kind):
    student = torch.randn(2, 3, 3, 4, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(2, 4, 5, 7, dtype=torch.double)
    mask = torch.rand(2, 10, 14) < .8

    def value(x):
        s, t = kind_of(kind)(x, teacher, mask, labels())
        return s.square().sum(), t

    assert torch.autograd.gradcheck(lambda x: value(x)[0], student)
    assert not value(student)[1].requires_grad


def test_the_teachers_grid():
    student = torch.randn(2, 3, 3, 4)
    s, t = Pixels()(student, torch.randn(2, 4, 5, 7))
    assert s.shape == (70, 3) and t.shape == (70, 4)


def test_any_memory_layout():
    student, teacher = pair()
    s, _ = Pixels()(student, teacher)
    last = student.to(memory_format=torch.channels_last)
    assert torch.equal(Pixels()(last, teacher)[0], s)


def test_half_precision_becomes_float32():
    student, teacher = pair()
    s, t = Images()(student.half(), teacher.bfloat16())
    assert s.dtype is t.dtype is torch.float32


@pytest.mark.parametrize('arguments, message', [
    (('row', None, (4, 8)), "not 'row'"),
    (('pixel', 0, (4, 8)), 'at least 1'),
    (('region', None, (0, 3)), 'at least 1'),
])
def test_wrong_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        as_instances(*arguments)


@pytest.mark.parametrize('given, message', [
    (None, 'need labels'),
    (torch.zeros(1, 5, 7), r'labels must be \(2, H, W\)'),
    (torch.zeros(2, 1, 5, 7), r'labels must be \(2, H, W\)'),
])
def test_wrong_labels(given, message):
    with pytest.raises(ValueError, match=message):
        Classes()(*pair(), None, given)


def test_a_relation_loss_gets_its_instances():

    class Count(RelationLoss):

        def relate(self, student, teacher):
            assert not torch.is_autocast_enabled('cpu')
            return student.shape, teacher.shape

    with torch.autocast('cpu', torch.bfloat16):
        found = Count('pixel', 8, (1, 1))(*pair())
    assert found == ((8, 3), (8, 4))


class Boundaries(Pixels):
    """A kind of a user's own: pixels next to another class."""
    by_label = True

    def gather(self, maps, valid, labels):
        apart = labels[:, :, 1:] != labels[:, :, :-1]
        edge = torch.zeros_like(valid)
        edge[:, :, 1:] |= apart
        edge[:, :, :-1] |= apart
        return super().gather(maps, valid & edge, labels)


def test_a_kind_of_ones_own():
    student, teacher = pair()
    s, t = Boundaries()(student, teacher, None, labels())
    assert set(s[:, 2].tolist()) == {2, 3} and len(s) == 20
    assert torch.equal(s, t[:, :3])
    value = SPLoss(instances=Boundaries(10))(student, teacher, None, labels())
    assert value.isfinite()
    with pytest.raises(NotImplementedError):
        Instances()(student, teacher)


@pytest.mark.parametrize('name, kind', [('pixel', Pixels(7)),
                                        ('region', Regions((2, 3), 7)),
                                        ('class', Classes(7)),
                                        ('image', Images(7)),
                                        ('map', Maps(7))])
def test_short_forms(name, kind):
    found = []
    for given in (name, kind):
        torch.manual_seed(1)
        loss = SPLoss(instances=given, max_instances=7, grid=(2, 3))
        found.append(loss(*pair(), None, labels()))
    assert torch.equal(*found)
