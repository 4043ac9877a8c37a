"""Predictions against labels: naive loops, and no verdict by chance."""
from types import SimpleNamespace

import pytest
import torch

from seg_kd.doctor import agreement
from seg_kd.doctor.agreement import (accuracy, best_shift, better, clearly,
                                     confusion, ious, shift_scan, swapped)
from seg_kd.doctor.checks.teacher import Scored, moved, scanned, share_left

IGNORE = 255


def scene(seed: int, height: int = 24, width: int = 36, classes: int = 3):
    generator = torch.Generator().manual_seed(seed)
    blocks = torch.randint(classes, (height // 6, width // 6),
                           generator=generator)
    return blocks.repeat_interleave(6, 0).repeat_interleave(6, 1)


def noise(seed: int, classes: int = 3) -> torch.Tensor:
    return torch.randint(classes, (24, 36),
                         generator=torch.Generator().manual_seed(seed))


def test_a_scan_is_the_naive_loop():
    predicted, label = scene(0), scene(1)
    label[3:9, 5:8] = IGNORE
    found = shift_scan(predicted, label, 3, IGNORE, 4)
    for dy in (-4, -1, 0, 3):
        for dx in (-3, 0, 4):
            right = count = 0
            for y in range(24):
                for x in range(36):
                    y2, x2 = y + dy, x + dx
                    inside = 0 <= y2 < 24 and 0 <= x2 < 36
                    if inside and label[y2, x2] != IGNORE:
                        count += 1
                        right += int(predicted[y, x] == label[y2, x2])
            assert found[4 + dy, 4 + dx].item() == pytest.approx(right / count)


def test_the_best_move_is_where_the_label_lies():
    label = scene(2)
    moved = torch.full_like(label, IGNORE)
    moved[5:, :-3] = label[:-5, 3:]  # 5 px below, 3 px left
    scans = [shift_scan(label, moved, 3, IGNORE, 6)]
    assert best_shift(scans) == (5, -3)


def test_nothing_scored():
    label = torch.full((24, 36), IGNORE)
    assert shift_scan(scene(0), label, 3, IGNORE, 2).isnan().all()


def test_confusion_and_iou_by_hand():
    label = torch.tensor([[0, 0, 1, IGNORE]])
    predicted = torch.tensor([[0, 1, 1, 0]])
    found = confusion(predicted, label, 3, IGNORE)
    assert found.tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]
    assert ious(found)[:2].tolist() == [.5, .5] and ious(found)[2].isnan()
    assert accuracy(predicted, label, IGNORE) == pytest.approx(2 / 3)


def test_clearly_needs_images_that_agree():
    assert not clearly([1., 1., 1.])  # too few
    assert clearly([.1, .1, .1, .1])
    assert not clearly([.3, -.2, .3, -.2, .3])
    assert not clearly([0., 0., 0., 0.])
    assert not better([.502] * 6, [.5] * 6)  # clear, and small
    assert better([.7] * 6, [.5] * 6)


def test_swapped_classes_are_named():
    labels = [scene(k) for k in range(6)]
    names = torch.tensor([0, 2, 1])
    found = [confusion(names[y], y, 3, IGNORE) for y in labels]
    assert swapped(found) == [(1, 2), (2, 1)]
    assert swapped([confusion(y, y, 3, IGNORE) for y in labels]) == []


def test_one_class_taken_for_another_is_no_swap():
    labels = [scene(k) for k in range(6)]
    names = torch.tensor([0, 0, 2])
    assert swapped([confusion(names[y], y, 3, IGNORE) for y in labels]) == []


def test_cycles():
    assert list(agreement.cycles([1, 0, 2, 4, 5, 3])) == [[0, 1], [3, 4, 5]]


def test_chance_is_no_swap_and_no_shift():
    """Random and nearly random predictions, many times."""
    for trial in range(40):
        seeds = range(8 * trial, 8 * trial + 8)
        labels = [scene(k) for k in seeds]
        weak = [
            torch.where(noise(k, 10) < 2, y, noise(k + 1))
            for k, y in zip(seeds, labels)
        ]
        found = [confusion(p, y, 3, IGNORE) for p, y in zip(weak, labels)]
        assert swapped(found) == []
        scans = [shift_scan(p, y, 3, IGNORE, 6) for p, y in zip(weak, labels)]
        dy, dx = best_shift(scans)
        assert not better([s[6 + dy, 6 + dx].item()
                           for s in scans], [s[6, 6].item() for s in scans])


def scored(predicted, labels):
    images = torch.zeros(len(labels), 3, *labels[0].shape)
    return Scored(
        SimpleNamespace(ignore_index=IGNORE,
                        classes='abc',
                        labels=[torch.stack(labels)],
                        images=[images],
                        mirrored=[[False] * len(labels)]),
        [torch.stack(predicted)])


def test_one_class_everywhere_is_nowhere_else():
    """Sky is above in each image: labels that are moved up have less of it."""
    labels = [torch.ones(96, 128, dtype=torch.long) for _ in range(8)]
    for k, label in enumerate(labels):
        label[:20 + k] = 0
    blind = [torch.ones_like(label) for label in labels]
    assert list(scanned('it', scored(blind, labels), 8)) == []
    # one that sees the sky, in another place, is still found
    found, = scanned('it', scored([y.roll(8, 0) for y in labels], labels), 8)
    assert found.level == 'red'
    assert 'labels lie 8 px above' in found.what
    assert moved(3, -2) == '3 px below and 2 px left of'


def test_the_share_of_a_class_is_that_of_predicting_it_everywhere():
    label = scene(0, classes=4)
    label[label == 3] = IGNORE
    corner = torch.full_like(label, IGNORE)
    corner[0, 0] = 1  # which some moves cut off
    for each in (label, corner):
        scan = shift_scan(torch.full_like(each, 1), each, 3, IGNORE, 5)
        for dy, dx in ((0, 0), (5, -3), (-4, 2), (1, 5)):
            assert share_left(each, 1, IGNORE, dy,
                              dx) == pytest.approx(scan[5 + dy, 5 + dx].item(),
                                                   abs=1e-6)
