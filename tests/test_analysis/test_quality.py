"""Edges, calibration and agreement against loops over pixels."""
import math

import numpy as np
import pytest
import torch

from seg_kd.analysis.quality import (BINS, Agreement, Quality, class_scores,
                                     edge_band, image_miou)

CLASSES = 3


@pytest.fixture
def drawn():
    """Two images of unequal size: scores, truth."""
    rng = np.random.default_rng(0)
    found = []
    for shape in ((7, 11), (5, 9)):
        truth = rng.integers(0, CLASSES, shape).astype(np.uint8)
        truth[rng.random(shape) < .2] = 255
        scores = torch.from_numpy(rng.normal(0, 2, (CLASSES, *shape)))
        found.append((scores, truth))
    return found


@pytest.fixture
def quality(drawn):
    made = Quality(CLASSES)
    for scores, truth in drawn:
        guess = made.add(scores, truth, edge_band(truth))
        assert (guess == scores.argmax(0).numpy()).all()
    return made


def pixels(drawn):
    """Scored pixels: probabilities, class, and whether an edge is near."""
    for scores, truth in drawn:
        height, width = truth.shape
        for y in range(height):
            for x in range(width):
                if truth[y, x] == 255:
                    continue
                p = np.exp(scores[:, y, x].numpy())
                near = truth[max(0, y - 1):y + 2, max(0, x - 1):x + 2]
                others = set(near.ravel().tolist()) - {255, truth[y, x]}
                yield p / p.sum(), int(truth[y, x]), bool(others)


def naive_miou(pairs):
    found = []
    for k in range(CLASSES):
        both = sum(t == g == k for t, g in pairs)
        either = sum(k in (t, g) for t, g in pairs)
        if either:
            found.append(100 * both / either)
    return sum(found) / len(found)


def test_iou_at_edges_and_in_the_interior(quality, drawn):
    every = [(t, int(p.argmax()), edge) for p, t, edge in pixels(drawn)]
    assert {edge for *_, edge in every} == {True, False}
    for part, kept in dict(all=(True, False),
                           edges=(True, ),
                           interior=(False, )).items():
        pairs = [(t, g) for t, g, edge in every if edge in kept]
        assert quality.miou(part) == pytest.approx(naive_miou(pairs))
    right = sum(t == g for t, g, _ in every)
    assert quality.accuracy == pytest.approx(100 * right / len(every))


def test_calibration_by_a_loop(quality, drawn):
    nll, bins = 0., [[] for _ in range(BINS)]
    for p, truth, _ in pixels(drawn):
        nll -= math.log(p[truth])
        index = next(b for b in range(BINS) if p.max() <= (b + 1) / BINS)
        bins[index].append((p.max(), p.argmax() == truth))
    count = sum(map(len, bins))
    gaps = [
        len(b) / count *
        abs(np.mean([c for c, _ in b]) - np.mean([r for _, r in b]))
        for b in bins if b
    ]
    assert len(gaps) > 5
    assert quality.ece == pytest.approx(100 * sum(gaps), rel=1e-5)
    assert quality.nll == pytest.approx(nll / count, rel=1e-5)


def test_a_sure_and_right_network_is_calibrated():
    truth = np.array([[0, 1, 2]], np.uint8)
    scores = torch.full((3, 1, 3), -100.)
    for k in range(3):
        scores[k, 0, k] = 100.
    made = Quality(CLASSES)
    made.add(scores, truth, edge_band(truth))
    assert (made.ece, made.nll, made.miou()) == pytest.approx((0, 0, 100))
    assert made.miou('interior') != made.miou('interior')  # NaN: all edges


def test_one_output_is_the_probability_of_the_second_class():
    logs = class_scores(torch.tensor([[[.25, 1.]]]))
    assert logs.exp()[:, 0].tolist() == [[.75, pytest.approx(0)], [.25, 1.]]


def test_a_threshold_chooses_the_class_that_is_less_likely():
    made = Quality(2)
    scores = class_scores(torch.tensor([[[.4, .1]]]))
    guess = made.add(scores, np.array([[1, 1]], np.uint8),
                     np.zeros((1, 2), bool), torch.tensor([[1, 0]]))
    assert guess.tolist() == [[1, 0]] and made.accuracy == 50
    assert made.bins[:, 1].sum() == pytest.approx(.4 + .9)


def test_the_band_has_its_radius_and_ignored_pixels_make_no_edge():
    truth = np.zeros((9, 20), np.uint8)
    truth[:, 10:] = 1
    truth[:, 2] = 255
    band = edge_band(truth, 3)
    assert np.flatnonzero(band[0]).tolist() == [7, 8, 9, 10, 11, 12]
    assert (band == band[:1]).all()
    assert edge_band(np.zeros((300, 400), np.uint8)).sum() == 0
    wide = np.zeros((300, 400), np.uint8)
    wide[:, 200:] = 1
    assert edge_band(wide)[0].sum() == 2 * 5  # 1 % of the diagonal of 500


def test_mistakes_are_those_with_most_pixels(quality):
    whole = quality.confusion.sum(0)
    (truth, guess, share), *rest = quality.mistakes(3)
    others = [
        whole[a, b] for a in range(CLASSES) for b in range(CLASSES) if a != b
    ]
    assert whole[truth, guess] == max(others) and len(rest) == 2
    assert share == pytest.approx(100 * max(others) / whole[truth].sum())


def test_agreement_split_by_the_teacher(drawn):
    rng = np.random.default_rng(1)
    made, cells, only = Agreement(), [], []
    for _, truth in drawn:
        student, teacher = (rng.integers(0, CLASSES,
                                         truth.shape).astype(np.uint8)
                            for _ in range(2))
        own = [
            (int(s), int(t), int(y))
            for s, t, y in zip(student.ravel(), teacher.ravel(), truth.ravel())
            if y != 255
        ]
        only.append((sum(t == y != s for s, t, y in own),
                     sum(s == y != t for s, t, y in own)))
        assert made.add(student, teacher, truth) == only[-1]
        cells += own
    right = [(s, t, y) for s, t, y in cells if t == y]
    wrong = [(s, t, y) for s, t, y in cells if t != y]
    assert made.shares() == pytest.approx({
        'teacher right':
        100 * len(right) / len(cells),
        'follows right':
        100 * sum(s == t for s, t, _ in right) / len(right),
        'follows wrong':
        100 * sum(s == t for s, t, _ in wrong) / len(wrong),
        'corrects':
        100 * sum(s == y for s, _, y in wrong) / len(wrong),
        'agrees':
        100 * sum(s == t for s, t, _ in cells) / len(cells)
    })
    assert all(math.isnan(v) for v in Agreement().shares().values())


def test_the_miou_of_an_image_counts_the_classes_in_its_truth():
    truth = np.array([[0, 0, 0, 1, 255]], np.uint8)
    guess = np.array([[0, 0, 2, 1, 2]], np.uint8)
    assert image_miou(guess, truth, CLASSES) == pytest.approx(
        (100 * 2 / 3 + 100) / 2)


def test_errors_of_calibration_do_not_cancel():
    """One pixel is wrong and sure, another right and unsure."""
    quality = Quality(2)
    scores = torch.tensor([[[.9, .6]], [[.1, .4]]]).log()
    quality.add(scores, np.array([[1, 0]], np.uint8), np.zeros((1, 2), bool))
    assert quality.ece == pytest.approx(100 * (.9 + .4) / 2, rel=1e-4)
