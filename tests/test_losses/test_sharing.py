"""What two losses compute alike is computed once, and is the same."""
import pytest
import torch

from seg_kd.losses import (AffinityLoss, ATLoss, CCKDLoss, DISTLoss, PKTLoss,
                           RKDLoss, SPLoss, _functional, sharing)
from seg_kd.losses._functional import match_size, resize_mask
from seg_kd.losses.instances import pixels

N, SIZE, GRID = 2, (5, 7), (9, 11)


def maps():
    torch.manual_seed(0)
    student = torch.randn(N, 6, *SIZE, requires_grad=True)
    teacher = torch.randn(N, 8, *GRID)
    return student, teacher, torch.rand(N, 40, 50) > .2


@pytest.fixture
def resized(monkeypatch) -> list:
    """Every map that is resized."""
    seen, resize = [], _functional.resize

    def counting(student, size):
        seen.append((student, size))
        return resize(student, size)

    monkeypatch.setattr(_functional, 'resize', counting)
    return seen


def test_the_same_question_has_the_same_answer():
    student, teacher, mask = maps()
    memo = {}
    with sharing.sharing(memo):
        once = match_size(student, teacher)
        # other objects of the same numbers, and another map of the same grid
        assert match_size(student, teacher.detach()) is once
        assert match_size(student, torch.zeros(N, 3, *GRID)) is once
        assert resize_mask(mask, GRID) is resize_mask(mask.detach(), GRID)
        assert match_size(student, torch.zeros(N, 3, 4, 4)) is not once
        with torch.no_grad():
            assert not match_size(student, teacher).requires_grad
        assert match_size(student.detach(), teacher) is not once
    with sharing.sharing({}):
        assert match_size(student, teacher) is not once
    assert match_size(student, teacher) is not match_size(student, teacher)


def test_a_map_that_changed_is_another_one():
    x, teacher = torch.randn(N, 6, *SIZE), torch.zeros(N, 3, *GRID)
    with sharing.sharing({}):
        before = match_size(x, teacher)
        x.add_(1)
        after = match_size(x, teacher)
    assert torch.allclose(after, before + 1, atol=1e-6)


def test_a_result_that_a_loss_writes_into_is_not_shared_any_further():
    x, teacher = torch.randn(N, 6, *SIZE), torch.zeros(N, 3, *GRID)
    with sharing.sharing({}):
        want = match_size(x, teacher).clone()
        match_size(x, teacher).zero_()
        assert match_size(x, teacher).equal(want)


def test_a_new_map_at_an_old_address_is_not_taken_for_it():
    """The memo keeps its arguments, so no address is used again."""
    teacher = torch.zeros(N, 3, *GRID)
    with sharing.sharing({}):
        for value in range(20):
            x = torch.full((N, 6, *SIZE), float(value))
            assert match_size(x, teacher)[0, 0, 0, 0] == value
            del x


def test_losses_of_a_step_share_positions():
    student, teacher, mask = maps()
    student = match_size(student, teacher)
    valid = resize_mask(mask, GRID)
    with sharing.sharing({}):
        a, b = (pixels(20, valid, student, teacher) for _ in range(2))
        other = pixels(21, valid, student, teacher)
    assert a[0] is b[0] and a[1] is b[1] and len(other[0]) == 21
    c = pixels(20, valid, student, teacher)
    assert not c[0].equal(a[0])  # drawn anew


LOSSES = [
    AffinityLoss(),
    ATLoss(),
    CCKDLoss(),
    CCKDLoss(kernel='bilinear'),
    PKTLoss(),
    RKDLoss(),
    SPLoss()
]


def values(*given) -> list:
    found = []
    for loss in LOSSES:
        torch.manual_seed(1)  # of the angles of RKD
        found.append(loss(*given))
    return [
        term for value in found
        for term in (value.values() if isinstance(value, dict) else [value])
    ]


def test_value_and_gradient_are_those_of_each_loss_by_itself(resized):
    student, teacher, mask = maps()
    apart = values(student, teacher, mask)
    want, = torch.autograd.grad(sum(apart), student)
    assert sum(x is student for x, _ in resized) == len(LOSSES) - 1
    resized.clear()
    with sharing.sharing({}):
        together = values(student, teacher, mask)
    got, = torch.autograd.grad(sum(together), student)
    # attention transfer resizes its attention, one channel, instead
    assert sum(x is student for x, _ in resized) == 1
    for a, b in zip(apart, together):
        assert torch.allclose(a, b, rtol=1e-6, atol=0)
    assert torch.allclose(got, want, rtol=1e-5, atol=1e-8)


def test_strips_of_logits_are_not_kept():
    """At the labels' size all of them together would be a full-size map."""
    student, teacher = torch.randn(2, 2, 5, *SIZE)
    mask = torch.ones(2, 64, 64, dtype=torch.bool)
    memo = {}
    with sharing.sharing(memo):
        DISTLoss(grid='mask')(student.requires_grad_(), teacher, mask)
    kept = [
        x for _, result, _ in memo.values()
        for x in (result if isinstance(result, tuple) else (result, ))
    ]
    assert sum(x.numel() for x in kept if x.is_floating_point()) == 0
