"""BalancedLoss: value by loops, running statistics, masks."""
import pytest
import torch

from seg_kd.losses import BalancedLoss

from .reference import numbers


def make(**kwargs) -> BalancedLoss:
    torch.manual_seed(0)
    return BalancedLoss(3, 5, width=8, **kwargs).double()


def by_loops(loss, student, teacher, mask):
    """For statistics of just these maps."""
    cells = mask.nonzero().tolist()
    rows = torch.stack([teacher[n, :, y, x] for n, y, x in cells])
    rows = (rows - rows.mean(0)) / rows.std(0, unbiased=False)
    terms = []
    for (n, y, x), t in zip(cells, rows):
        s = loss.projector(student[n, :, y, x])
        cosine = s @ t / (s.norm() * t.norm())
        gap = (s - t).abs()
        smooth = torch.where(gap < 2, gap**2 / 4, gap - 1).mean()
        terms.append((1 - loss.size_weight) * (1 - cosine) +
                     loss.size_weight * smooth)
    return sum(terms) / len(terms)


@pytest.mark.parametrize('options', [{}, dict(depth=2, size_weight=.4)])
def test_masked_value_by_loops(options):
    loss = make(**options)
    student, teacher = numbers(0, 2, 3, 4, 7), 3 * numbers(1, 2, 5, 4, 7) + 2
    mask = numbers(5, 2, 4, 7) > 0
    torch.testing.assert_close(loss(student, teacher, mask),
                               by_loops(loss, student, teacher, mask))


def test_statistics_run_over_all_that_was_seen():
    loss, whole = make(), make()
    student, teacher = numbers(0, 4, 3, 4, 7), numbers(1, 4, 5, 4, 7)
    for part in (slice(0, 1), slice(1, 4)):
        loss(student[part], teacher[part])
    whole(student, teacher)
    torch.testing.assert_close(loss.sums, whole.sums)
    assert loss.count == whole.count == 4 * 4 * 7
    before = loss.sums.clone()
    loss.eval()(student, teacher)
    assert torch.equal(loss.sums, before)


def test_the_teachers_scale_and_offset_do_not_matter():
    student, teacher = numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7)
    scale = numbers(2, 1, 5, 1, 1).abs() + .1
    torch.testing.assert_close(make()(student, teacher),
                               make()(student, scale * teacher + 7))


def test_a_channel_that_never_moves_does_no_harm():
    teacher = numbers(1, 2, 5, 4, 7)
    teacher[:, 2] = 3.
    value = make()(numbers(0, 2, 3, 4, 7), teacher)
    assert value.isfinite() and value < 2


def test_what_is_not_labelled_may_be_anything():
    student, teacher = numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7)
    mask = torch.ones(2, 4, 7, dtype=torch.bool)
    mask[0, 1] = False
    expected = make()(student, teacher, mask)
    student[0, :, 1] = torch.nan
    teacher[0, :, 1] = torch.inf
    student.requires_grad_()
    loss = make()
    value = loss(student, teacher, mask)
    value.backward()
    torch.testing.assert_close(value, expected)
    assert student.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in loss.parameters())


def test_nothing_valid_is_zero():
    loss = make()
    value = loss(numbers(0, 2, 3, 4, 7), numbers(1, 2, 5, 4, 7),
                 torch.zeros(2, 4, 7, dtype=torch.bool))
    assert value == 0 and loss.count == 0


@pytest.mark.parametrize('options', [
    dict(size_weight=1.5),
    dict(size_weight=-.1),
    dict(width=0),
    dict(depth=-1)
])
def test_refused(options):
    with pytest.raises(ValueError):
        BalancedLoss(3, 5, **options)
