"""Predictions against labels: which moves or swaps would make them fit?

A network that learnt little fits badly however its labels are moved, and by
chance one move fits a little better. So everything here is paired over
images, and only what nearly every image says counts.
"""
from collections.abc import Iterator, Sequence
from math import inf, sqrt
from statistics import mean, stdev

import torch
from scipy.optimize import linear_sum_assignment
from scipy.stats import t as student_t
from torch import Tensor

FEWEST = 4  # images, to say anything
CHANCE = 1e-3  # of an error, in one comparison
LESS_WRONG = .1  # part of the wrong pixels that a change must put right
SWAPPED = .2  # part of a class that must go by another name


def clearly(differences: Sequence[float]) -> bool:
    """Whether these, one an image, are above 0 by more than chance.

    By the t-test, one-sided; never with fewer than four.
    """
    count = len(differences)
    if count < FEWEST:
        return False
    center, spread = mean(differences), stdev(differences)
    score = center / (spread / sqrt(count)) if spread else inf * center
    return bool(center > 0 and student_t.sf(score, count - 1) < CHANCE)


def better(new: Sequence[float], old: Sequence[float]) -> bool:
    """Whether shares of right pixels are clearly, and much, larger."""
    gain, wrong = mean(new) - mean(old), 1 - mean(old)
    return (gain > LESS_WRONG * wrong
            and clearly([a - b for a, b in zip(new, old)]))


def accuracy(predicted: Tensor, label: Tensor, ignore: int) -> float:
    """Share of the scored pixels that are right; NaN where none is scored."""
    scored = label != ignore
    return (predicted == label)[scored].double().mean().item()


def confusion(predicted: Tensor, label: Tensor, classes: int,
              ignore: int) -> Tensor:
    """Pixels by (label, prediction), ``(classes, classes)``."""
    scored = (label != ignore) & (label < classes)
    pairs = label[scored] * classes + predicted[scored]
    return torch.bincount(pairs, minlength=classes**2).view(classes,
                                                            classes).double()


def ious(confusion: Tensor) -> Tensor:
    """IoU of each class, ``(classes, )``; NaN where it is nowhere."""
    right = confusion.diagonal()
    return right / (confusion.sum(0) + confusion.sum(1) - right)


def shift_scan(predicted: Tensor, label: Tensor, classes: int, ignore: int,
               reach: int) -> Tensor:
    """Share of right pixels for each move of the label.

    At ``[reach + dy, reach + dx]`` a pixel is compared with the label that
    lies ``dy`` below and ``dx`` to the right of it.

    Shape:
        ``(H, W), (H, W) -> (2 * reach + 1, 2 * reach + 1)``.
    """
    height, width = label.shape
    size = height + reach, width + reach  # nothing wraps around

    def spectrum(mask: Tensor) -> Tensor:
        return torch.fft.rfft2(mask.double(), s=size)

    def moved(a: Tensor, b: Tensor) -> Tensor:
        found = torch.fft.irfft2(a.conj() * b, s=size)
        rows, columns = (torch.arange(-reach, reach + 1) % n for n in size)
        return found[rows][:, columns]

    scored = label != ignore
    hits = sum(
        spectrum(predicted == k).conj() * spectrum(label == k)
        for k in label[scored].unique().tolist())
    if not isinstance(hits, Tensor):  # nothing is scored
        return torch.full((2 * reach + 1, ) * 2, float('nan'))
    one = torch.zeros(size, dtype=torch.double)
    one[0, 0] = 1
    right = moved(torch.fft.rfft2(one), hits)
    counts = moved(spectrum(torch.ones_like(label)), spectrum(scored))
    return right / counts.clamp(min=1)


def best_shift(scans: Sequence[Tensor]) -> tuple[int, int]:
    """``(dy, dx)`` at which the mean over images is largest."""
    center = torch.stack(list(scans)).mean(0)
    reach = len(center) // 2
    place = int(center.argmax())
    return place // len(center) - reach, place % len(center) - reach


def swapped(confusions: Sequence[Tensor]) -> list[tuple[int, int]]:
    """Classes that go by another's name: (label, what is predicted there).

    Of the one-to-one renaming that fits best, the cycles of which nearly every
    image says that they fit better. Weak networks take one class for another,
    but hardly the other for the one.
    """
    total = torch.stack(list(confusions)).sum(0)
    counts = total.sum(1)
    recall = total / counts.clamp(min=1)[:, None]
    _, names = linear_sum_assignment(-recall.numpy())
    found = []
    for cycle in cycles(names.tolist()):
        there = [k for k in cycle if counts[k] > 0]
        if len(there) > 1 and all(
                _renamed(confusions, k, names[k]) for k in there):
            found += [(k, int(names[k])) for k in there]
    return found


def cycles(names: list[int]) -> Iterator[list[int]]:
    """The cycles of a permutation, but for what stays in its place."""
    seen: set[int] = set()
    for start in range(len(names)):
        cycle, k = [], start
        while k not in seen:
            seen.add(k)
            cycle.append(k)
            k = names[k]
        if len(cycle) > 1:
            yield cycle


def _renamed(confusions: Sequence[Tensor], k: int, name: int) -> bool:
    shares = []
    for one in confusions:
        pixels = one[k].sum()
        if pixels > 1e-3 * one.sum():
            shares.append(((one[k, name] - one[k, k]) / pixels).item())
    return clearly(shares) and mean(shares) > SWAPPED
