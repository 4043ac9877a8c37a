"""The losses as the papers print them: float64, loops, no cleverness."""
import json
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode


def unit(vector, order=2):
    length = vector.norm(order)
    return vector / length if length > 0 else vector


def columns(features, mask):
    """The vectors of one image at its valid positions."""
    c, h, w = features.shape
    return [
        features[:, y, x].double() for y in range(h) for x in range(w)
        if mask is None or mask[y, x]
    ]


def adaptation(student, teacher, mask=None, p=1, q=2):
    terms = []
    for n in range(len(student)):
        keep = None if mask is None else mask[n]
        terms += [(unit(s, q) - unit(t, q)).norm(p) for s, t in zip(
            columns(student[n], keep), columns(teacher[n], keep))]
    return sum(terms) / len(terms)


def affinity(student, teacher, mask=None):
    images = []
    for n in range(len(student)):
        keep = None if mask is None else mask[n]
        s = [unit(v) for v in columns(student[n], keep)]
        t = [unit(v) for v in columns(teacher[n], keep)]
        m = len(s)
        total = 0.
        for i in range(m):
            row = [(s[i] @ s[j] - t[i] @ t[j]) / m for j in range(m)]
            total = total + torch.stack(row).square().sum().sqrt()
        if m:
            images.append(total)
    return sum(images) / len(images)


def fast_affinity(student, teacher):
    """The same with an m x m matrix, for maps that loops are too slow for."""
    s, t = (torch.nn.functional.normalize(x.flatten(2), dim=1)
            for x in (student, teacher))
    gap = s.mT @ s - t.mT @ t
    return gap.norm(dim=2).sum(1).mean() / s.shape[2]


def numbers(seed: int, *shape: int) -> Tensor:
    """Normal numbers that a recipe and a test agree on, in float64."""
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def golden(method: str) -> dict:
    """What the authors' code gave, by ``golden/recipes/<method>.py``."""
    with open(Path(__file__).parent / f'golden/{method}.json') as f:
        return json.load(f)


def instances(features, mask=None):
    """The vectors of all valid positions of a batch, image by image."""
    found = [
        columns(x, None if mask is None else mask[n])
        for n, x in enumerate(features)
    ]
    return [v for vectors in found for v in vectors]


class Largest(TorchDispatchMode):
    """Number of elements of the largest tensor that any operation makes."""
    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for x in out if isinstance(out, (tuple, list)) else [out]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        return out
