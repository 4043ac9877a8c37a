"""Seeded draws: one stream for all workers, ranks and resumed runs."""
import itertools
import pickle
import random

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from seg_kd.datasets import SeededDataset, SeededSampler, seeded


class Noise(torch.utils.data.Dataset):
    """Each sample draws from all three generators."""
    metainfo = dict(classes=('a', ))

    def __len__(self):
        return 7

    def __getitems__(self, draws):  # torch would prefer it
        raise AssertionError('the seeds are lost')

    def __getitem__(self, index):
        return index, random.random(), np.random.rand(), torch.rand(()).item()


def take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def sampler(seed=0, rank=0, world_size=1):
    made = SeededSampler(Noise(), seed=seed)
    made.rank, made.world_size = rank, world_size
    made.indices = made._indices_of_rank()
    return made


def test_every_draw_has_its_own_seed():
    draws = take(sampler(), 21)
    assert len({seed for _, seed in draws}) == 21
    assert sorted(i for i, _ in draws[:7]) == list(range(7))
    assert draws == take(sampler(), 21) != take(sampler(seed=1), 21)


@pytest.mark.parametrize('rank', [0, 1, 2])
def test_ranks_share_one_stream(rank):
    part = take(sampler(rank=rank, world_size=3), 5)
    assert part == take(sampler(), 15)[rank::3]


def test_skip_gives_the_stream_of_an_unbroken_run():
    for world_size in (1, 2):
        resumed = sampler(rank=world_size - 1, world_size=world_size)
        resumed.skip(9)
        whole = take(sampler(rank=world_size - 1, world_size=world_size), 14)
        assert take(resumed, 5) == whole[9:]


def loaded(workers):
    loader = DataLoader(SeededDataset(Noise()),
                        batch_size=2,
                        sampler=sampler(),
                        num_workers=workers,
                        collate_fn=list)
    return list(itertools.chain(*itertools.islice(loader, 5)))


def test_samples_do_not_depend_on_workers():
    torch.manual_seed(1)
    alone = loaded(0)
    torch.manual_seed(2)
    assert loaded(2) == alone
    assert len({noise
                for _, *noise in map(tuple, alone)
                for noise in noise}) == 30


def test_generators_of_the_process_are_left_alone():

    def draw():
        return random.random(), np.random.rand(), torch.rand(()).item()

    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    expected = draw()
    random.setstate(states[0])
    np.random.set_state(states[1])
    torch.set_rng_state(states[2])
    SeededDataset(Noise())[0, 5]
    assert draw() == expected


def test_generators_are_restored_after_an_error():
    before = random.getstate()
    with pytest.raises(KeyError), seeded.seeded(3):
        raise KeyError
    assert random.getstate() == before


def test_wrapper_looks_like_the_dataset():
    wrapper = pickle.loads(pickle.dumps(SeededDataset(Noise())))
    assert len(wrapper) == 7 and wrapper.metainfo == Noise.metainfo
    assert wrapper[3][0] == wrapper[3, 11][0] == 3
    with pytest.raises(AttributeError, match='nothing'):
        wrapper.nothing
    with pytest.raises(AttributeError):  # and no endless recursion
        SeededDataset.__new__(SeededDataset).metainfo
