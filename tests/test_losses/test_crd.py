"""CRD: the authors' numbers, what banks and queue hold, the dense form."""
import math

import pytest
import torch
from torch import nn

from seg_kd.losses import CRDLoss
from seg_kd.losses._contrast import Banks, Queue, contrast, noise_contrast

from .reference import golden, numbers

INDEX = [[3, 0, 8, 5], [1, 3, 9, 10], [5, 4, 5, 2]]  # as in the recipe


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def images(**kwargs) -> CRDLoss:
    return CRDLoss(5, 7, 'image', n_data=11, k=40, dim=6, **kwargs)


def fill(loss: CRDLoss) -> None:
    """The recipe's parameters and banks."""
    parts = [
        loss.student_head.weight, loss.student_head.bias,
        loss.teacher_head.weight, loss.teacher_head.bias,
        loss.contrast.student, loss.contrast.teacher
    ]
    with torch.no_grad():
        for i, part in enumerate(parts):
            part.copy_(.4 * numbers(i, *part.shape))


def given(draws):
    """``Banks.draw`` that gives these rows."""
    return lambda rows: nn.functional.one_hot(draws, 11).sum(1).double()


def test_paper_form_by_the_authors(monkeypatch):
    """Value, gradients, Z and banks over three iterations."""
    want = golden('crd')
    loss = images().double()
    fill(loss)
    for step, index in enumerate(INDEX):
        student = numbers(10 + step, 4, 5, 1, 1).requires_grad_()
        teacher = numbers(20 + step, 4, 7, 1, 1)
        draws = (numbers(30 + step, 4, 40).abs() * 1e4).long() % 11
        monkeypatch.setattr(loss.contrast, 'draw', given(draws))
        value = loss(student, teacher, index=torch.tensor(index))
        gradients = torch.autograd.grad(value,
                                        [student, loss.teacher_head.weight])
        assert value.item() == pytest.approx(want['value'][step], rel=1e-6)
        for found, expected in zip(gradients, want['gradient'][step]):
            torch.testing.assert_close(found.squeeze(),
                                       torch.tensor(expected).double(),
                                       rtol=1e-5,
                                       atol=1e-6)
    z = torch.tensor(want['z']).double()
    torch.testing.assert_close(loss.contrast.log_z.exp(), z, rtol=1e-6, atol=0)
    for name in ('student', 'teacher'):
        bank = torch.tensor(want[name]).double()
        torch.testing.assert_close(getattr(loss.contrast, name), bank)


def test_first_batch_sets_z():
    """n times the mean of e^score, the image itself among the K + 1."""
    banks = Banks(4, 3, k=2, temperature=.5)
    v = nn.functional.normalize(torch.randn(2, 3), dim=1)
    w = nn.functional.normalize(torch.randn(2, 3), dim=1)
    counts = torch.tensor([[1., 0, 1, 0], [0, 2, 0, 0]])
    banks.draw = lambda rows: counts
    drawn = [(0, 0, 2), (1, 1, 1)]
    want = [
        torch.stack([(x[i] @ bank[j] / .5).exp() for i in range(2)
                     for j in drawn[i]]).mean() * 4
        for x, bank in ((v, banks.teacher), (w, banks.student))
    ]
    index = torch.tensor([0, 1])
    banks.eval()(v, w, index)
    assert banks.log_z.isnan().all()  # nothing is written
    before = banks.student.clone()
    banks.train()(v, w, index)
    torch.testing.assert_close(banks.log_z.exp(), torch.stack(want))
    assert torch.equal(banks.student[2:], before[2:])
    kept = banks.log_z.clone()
    banks(w, v, index)
    assert torch.equal(banks.log_z, kept)


def test_z_waits_for_an_image():
    loss, index = images(), torch.tensor([0, 1])
    student, teacher = torch.randn(2, 5, 2, 3), torch.randn(2, 7, 4, 6)
    nothing = torch.zeros(2, 4, 6, dtype=torch.bool)
    student.requires_grad_()
    before = loss.contrast.student.clone()
    value = loss(student, teacher, nothing, index=index)
    value.backward()
    assert value == 0 and not student.grad.any()
    assert not loss.student_head.weight.grad.any()
    assert loss.contrast.log_z.isnan().all()
    assert torch.equal(loss.contrast.student, before)
    nothing[1] = True  # the second image alone
    assert loss(student, teacher, nothing, index=index) > 0
    changed = (loss.contrast.student != before).any(1)
    assert changed.nonzero().tolist() == [[1]]
    assert loss.contrast.log_z.isfinite().all()


def test_z_waits_for_a_row_that_counts():
    """As on a GPU, where the rows that do not count stay in the batch."""
    banks = Banks(4, 3, k=5)
    v, w = (nn.functional.normalize(torch.randn(2, 3)) for _ in range(2))
    v.requires_grad_()
    index, none = torch.tensor([0, 1]), torch.tensor([False, False])
    value = banks(v, w, index, none)
    value.backward()
    assert value == 0 and not v.grad.any() and banks.log_z.isnan().all()
    assert banks(v, w, index, ~none) > 0 and banks.log_z.isfinite().all()


def test_draws_are_uniform_with_replacement():
    counts = Banks(5, 3, k=20000).draw(3)
    assert counts.shape == (3, 5)
    assert (counts.sum(1) == 20000).all()
    assert (counts / 4000 - 1).abs().max() < .1


def test_first_value_is_that_of_chance():
    loss = CRDLoss(5, 7, 'image', n_data=500)
    value = loss(torch.randn(2, 5, 3, 4),
                 torch.randn(2, 7, 3, 4),
                 index=torch.tensor([3, 400]))
    assert value.item() == pytest.approx(2 + 2 * math.log(16384), rel=.1)


def test_a_bank_row_follows_its_image():
    banks = Banks(3, 2, k=4, momentum=.25)
    banks.student.copy_(torch.tensor([[1., 0], [0, 1], [1, 0]]))
    new = torch.tensor([[0., 1], [0, -1], [0, 1]])
    banks.update(new, new, torch.tensor([2, 0, 0]))  # the last one counts
    want = torch.tensor([[.25, .75], [0, 1], [.25, .75]])
    want /= want.norm(dim=1, keepdim=True)
    torch.testing.assert_close(banks.student, want)


@pytest.mark.parametrize('n', [1, 2])
def test_paper_form_on_masked_maps(n):
    """One vector an image, the mean over what is valid; odd grids."""
    loss = images().eval()
    student = torch.randn(n, 5, 3, 2, requires_grad=True)
    teacher, index = torch.randn(n, 7, 5, 3), torch.arange(n)
    mask = torch.rand(n, 5, 3) < .7
    torch.manual_seed(1)
    value = loss(student, teacher, mask, index=index)
    value.backward()
    assert value > 0 and student.grad.isfinite().all()
    resized = nn.functional.interpolate(student.detach(), (5, 3),
                                        mode='bilinear',
                                        align_corners=False)
    pooled = [
        torch.stack([x[i, :, mask[i]].mean(1) for i in range(n)])
        for x in (resized, teacher)
    ]
    torch.manual_seed(1)
    again = loss(*(x[:, :, None, None] for x in pooled), index=index)
    torch.testing.assert_close(value, again)


def test_gradient_of_the_paper_form():
    logits = torch.randn(3, 6, dtype=torch.double, requires_grad=True)
    counts = torch.randint(0, 4, (3, 6)).double()
    own = nn.functional.one_hot(torch.tensor([2, 0, 5]), 6)
    value, slope = noise_contrast(logits, counts, own)
    want, = torch.autograd.grad(value, logits)
    torch.testing.assert_close(slope, want)


# -- the dense form --------------------------------------------------------


def by_loops(v, w, classes, queued, queued_classes, temperature):
    """Both directions, instance by instance; ``queued`` is (of v, of w)."""
    total = 0.
    for a, b, rows in ((v, w, queued[1]), (w, v, queued[0])):
        for i in range(len(a)):
            keys = [b[i]]
            keys += [
                b[j] for j in range(len(a))
                if j != i and (classes is None or classes[j] != classes[i])
            ]
            keys += [
                rows[j] for j in range(len(rows))
                if classes is None or queued_classes[j] != classes[i]
            ]
            scores = torch.stack(keys) @ a[i] / temperature
            total = total - scores.log_softmax(0)[0] / len(a)
    return total


def vectors(count, dim=4):
    x = torch.randn(count, dim, dtype=torch.double)
    return nn.functional.normalize(x, dim=1)


@pytest.mark.parametrize('with_classes', [True, False])
@pytest.mark.parametrize('tile', [1 << 18, 20])
def test_dense_form_by_loops(with_classes, tile, monkeypatch):
    """Value and gradients, with a queue half full, in one tile and in many."""
    monkeypatch.setattr(
        'seg_kd.losses._contrast.tiles', lambda channels, count, device:
        (slice(i, i + tile // channels)
         for i in range(0, count, max(1, tile // channels))))
    queue = Queue(12, 4, temperature=.3).double()
    v, w, old = vectors(7), vectors(7), (vectors(6), vectors(6))
    classes = torch.tensor([0, 1, 1, 2, 0, 0, 3]) if with_classes else None
    before = torch.tensor([2, 1, 0, 0, 4, 1] if with_classes else [-1] * 6)
    queue.update(*old, before)
    order = [
        int((queue.student[i] == old[0]).all(1).nonzero()) for i in range(6)
    ]
    assert sorted(order) == list(range(6))
    pairs = [(x.clone().requires_grad_(), y.clone().requires_grad_())
             for x, y in ((v, w), (v, w))]
    value = queue.eval()(*pairs[0], classes)
    want = by_loops(*pairs[1], classes, old, before, .3)
    torch.testing.assert_close(value, want)
    for found, expected in zip(torch.autograd.grad(value, pairs[0]),
                               torch.autograd.grad(want, pairs[1])):
        torch.testing.assert_close(found, expected)


def test_queue_keeps_the_latest():
    queue = Queue(size=5, dim=1, enqueue=3)
    seen = []
    for step in range(30):
        rows = torch.full((4, 1), float(step))
        queue.update(rows, -rows, torch.full((4, ), step))
        seen += [step] * 3
        kept = sorted(queue.student.flatten().tolist())
        assert kept == sorted([0.] * (5 - len(seen)) + seen[-5:])
        assert torch.equal(queue.student, -queue.teacher)
        assert torch.equal(queue.student.flatten().long(), queue.classes)
        assert min(queue.written, 5) == min(len(seen), 5)
        assert queue.written < 10
    queue.update(torch.ones(0, 1), torch.ones(0, 1), torch.ones(0).long())
    assert sorted(queue.classes.tolist()) == sorted(seen[-5:])


def test_a_queue_is_filled_from_its_begin():
    """Rows from ``written`` on are not used."""
    queue = Queue(size=8, dim=1, enqueue=2)
    for step in (1, 2, 3):
        rows = torch.full((2, 1), float(step))
        queue.update(rows, rows, torch.full((2, ), step))
    assert queue.classes.tolist() == [1, 1, 2, 2, 3, 3, 0, 0]


def test_queue_shorter_than_what_comes():
    queue = Queue(size=2, dim=1, enqueue=8)
    rows = torch.arange(6.)[:, None]
    queue.update(rows, rows, torch.zeros(6).long())
    assert len(set(queue.student.flatten().tolist())) == 2


def dense(kind='pixel', **kwargs) -> CRDLoss:
    return CRDLoss(4, 5, kind, **kwargs)


@pytest.mark.parametrize('negatives', ['class', 'instance'])
def test_queue_gives_negatives_in_training_alone(negatives):
    loss = dense(negatives=negatives)
    student, teacher = torch.randn(2, 4, 3, 5), torch.randn(2, 5, 6, 10)
    labels = torch.randint(0, 3, (2, 12, 20))
    first = loss.eval()(student, teacher, labels=labels)
    assert loss.contrast.written == 0
    torch.testing.assert_close(loss.train()(student, teacher, labels=labels),
                               first)
    assert loss.contrast.written == 120
    kept = set(loss.contrast.classes[:120].tolist())
    assert kept == ({0, 1, 2} if negatives == 'class' else {-1})
    assert loss.eval()(student, teacher, labels=labels) > first + .1


@pytest.mark.parametrize('kind', ['pixel', 'class'])
def test_no_negatives_no_loss(kind):
    loss = dense(kind)
    student = torch.randn(1, 4, 3, 5, requires_grad=True)
    labels = torch.full((1, 6, 10), 7)
    for _ in range(2):  # with an empty queue, and one of the same class
        value = loss(student, torch.randn(1, 5, 6, 10), labels=labels)
        value.backward()
        assert value == 0
        assert not student.grad.any()
        assert not any(p.grad.any() for p in loss.parameters())


@pytest.mark.parametrize('negatives', ['class', 'instance'])
def test_instances_of_the_dense_form(negatives, monkeypatch):
    """The heads' vectors and classes, position by position and in means."""
    labels = torch.tensor([[[4, 4, 9], [9, 255, 4]], [[1, 1, 1], [4, 4, 4]]])
    mask = labels != 255
    student, teacher = torch.randn(2, 4, 2, 3), torch.randn(2, 5, 2, 3)
    given = {}
    for kind in ('pixel', 'class'):
        loss = dense(kind, negatives=negatives)
        monkeypatch.setattr(
            loss.contrast,
            'forward',
            lambda *args, kind=kind: given.update({kind: args}))
        loss(student, teacher, mask, labels)
        where = [mask] if kind == 'pixel' else [
            mask & (labels == c) & (torch.arange(2) == n)[:, None, None]
            for n, c in ((0, 4), (0, 9), (1, 1), (1, 4))
        ]
        for x, head, found in zip((student, teacher),
                                  (loss.student_head, loss.teacher_head),
                                  given[kind]):
            rows = [x.movedim(1, 3)[m] for m in where]
            rows = rows[0] if kind == 'pixel' else torch.stack(
                [r.mean(0) for r in rows])
            torch.testing.assert_close(
                found, nn.functional.normalize(head(rows), dim=1))
    if negatives == 'instance':
        assert given['pixel'][2] is None and given['class'][2] is None
    else:
        assert given['pixel'][2].tolist() == [4, 4, 9, 9, 4, 1, 1, 1, 4, 4, 4]
        assert given['class'][2].tolist() == [4, 9, 1, 4]


def test_positions_of_unknown_class_take_no_part(monkeypatch):
    """Valid by majority, but the label at the centre is the ignored one."""
    labels = torch.zeros(1, 6, 10).long()
    labels[0, 1, 1] = 255
    counts = []
    for negatives in ('class', 'instance'):
        loss = dense(negatives=negatives)
        monkeypatch.setattr(loss.contrast, 'forward',
                            lambda s, t, c, there: counts.append(len(s)))
        loss(torch.randn(1, 4, 3, 5), torch.randn(1, 5, 3, 5), labels != 255,
             labels)
    assert counts == [14, 15]


def test_number_of_pixels_is_bounded(monkeypatch):
    loss = dense(max_instances=8)
    counts = []
    monkeypatch.setattr(loss.contrast, 'forward',
                        lambda s, t, c, there: counts.append((len(s), len(c))))
    mask = torch.rand(2, 6, 10) < .5
    loss(torch.randn(2, 4, 3, 5), torch.randn(2, 5, 6, 10), mask,
         torch.randint(0, 3, (2, 6, 10)))
    assert counts == [(8, 8)]


def test_gradient_ignores_the_crop():
    """As it should, for one weight to serve all crops; the value grows."""
    loss = dense(negatives='instance', queue=0)
    small = torch.randn(1, 4, 2, 3)
    teacher, found = torch.randn(1, 5, 2, 3), []
    for times in (1, 4):
        student = small.tile(1, 1, times, 1).requires_grad_()
        loss.zero_grad()
        loss(student, teacher.tile(1, 1, times, 1)).backward()
        found.append(student.grad.view(1, 4, times, 2, 3).sum(2))
    torch.testing.assert_close(*found)


def test_contrast_of_nothing():
    none = torch.ones(0, 3)
    nobody = torch.ones(0)
    value, *slopes = contrast(none, none, none, nobody.long(), nobody.bool(),
                              .1)
    assert value == 0 and all(s.shape == (0, 3) for s in slopes)


@pytest.mark.parametrize('settings, message', [
    (dict(instances='region'), "'pixel', 'class' or 'image'"),
    (dict(negatives='all'), "'class' or 'instance'"),
    (dict(instances='image'), 'needs n_data'),
    (dict(queue=-1), 'queue at least 0'),
    (dict(max_instances=0), 'at least 1'),
    (dict(temperature=0.), 'above 0'),
])
def test_wrong_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        CRDLoss(4, 5, **settings)


def test_what_forward_needs():
    maps = torch.randn(2, 4, 3, 5), torch.randn(2, 5, 6, 10)
    with pytest.raises(ValueError, match='need labels'):
        dense()(*maps)
    for index in (None, torch.tensor([1])):
        with pytest.raises(ValueError, match='needs index'):
            dense('image', n_data=3)(*maps, index=index)


def test_state_is_in_the_state_dict():
    assert {k
            for k in images().state_dict() if 'contrast' in k
            } == {f'contrast.{k}'
                  for k in ('student', 'teacher', 'log_z')}
    assert {k
            for k in dense().state_dict() if 'contrast' in k} == {
                f'contrast.{k}'
                for k in ('student', 'teacher', 'classes', 'written')
            }
