"""What an iteration draws is that of its seed, number and rank."""
import random
from itertools import product
from types import SimpleNamespace

import numpy as np
import torch

from seg_kd.engine.hooks import SeedHook


def drawn(seed: int, iteration: int, rank: int) -> list[float]:
    SeedHook().before_train_iter(
        SimpleNamespace(seed=seed, iter=iteration, rank=rank))
    return [torch.rand(()).item(), np.random.rand(), random.random()]


def test_every_iteration_of_every_rank_draws_its_own():
    found = {key: drawn(*key) for key in product((0, 1), repeat=3)}
    for generator in zip(*found.values()):
        assert len(set(generator)) == len(found)
    assert drawn(1, 0, 1) == found[1, 0, 1]
