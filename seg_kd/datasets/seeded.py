"""Augmentation that depends on the run's seed and on nothing else.

PyTorch seeds each worker process, and MMEngine seeds it by rank and worker
number. So which random numbers an image gets depends on the number of
workers and ranks, and a resumed run draws other ones. Here every draw of the
sampler carries a seed of its own.

A run that goes on then draws what it would have drawn if its sampler depends
on the seed and the epoch alone, as all of MMEngine's do. It ends with a
sampler that keeps a state of its own, with one that is built already
(``sampler=`` is no dict), and within an epoch of ``EpochBasedTrainLoop``,
which starts that epoch again.
"""
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.dist import get_dist_info, sync_random_seed
from mmseg.datasets.transforms import PackSegInputs

from seg_kd.registry import DATA_SAMPLERS, class_of

Draw = tuple[int, int]


def draw_seed(seed: int, *draw: int) -> int:
    """32 well-mixed bits for one draw of the global stream."""
    return int(np.random.SeedSequence([seed, *draw]).generate_state(1)[0])


@DATA_SAMPLERS.register_module()
class SeededSampler(InfiniteSampler):
    """``InfiniteSampler`` that yields ``(index, seed)``.

    ``seed`` is a function of the run's seed and the number of the draw in
    the stream that all ranks share. ``skip`` and the slicing by rank are
    those of ``InfiniteSampler``.
    """

    def _infinite_indices(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        for number, index in enumerate(super()._infinite_indices()):
            yield index, (number, )

    def __iter__(self) -> Iterator[Draw]:
        for index, draw in self.indices:
            yield index, draw_seed(self.seed, *draw)


@DATA_SAMPLERS.register_module()
class SeededDraws(torch.utils.data.Sampler):
    """Any other sampler, with a seed for each of its draws.

    The seed is a function of the run's, the epoch, and the number of the draw
    among those of all ranks.

    Args:
        dataset: What is drawn from.
        sampler: Config of the sampler.
        seed: Of the run.
    """

    def __init__(self, dataset: Any, sampler: dict, seed: int | None) -> None:
        given = dict(dataset=dataset, seed=seed)
        self.sampler = DATA_SAMPLERS.build(sampler, default_args=given)
        self.seed = sync_random_seed() if seed is None else seed
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch
        if hasattr(self.sampler, 'set_epoch'):
            self.sampler.set_epoch(epoch)

    def __iter__(self) -> Iterator[Draw]:
        rank, ranks = get_dist_info()
        seed = draw_seed(self.seed, self.epoch)
        for number, index in enumerate(self.sampler):
            yield index, draw_seed(seed, number * ranks + rank)

    def __len__(self) -> int:
        return len(self.sampler)


def seed_draws(dataloader: dict) -> dict:
    """The config of a loader whose draws have seeds; ``dataset`` is built.

    As it is where nothing is drawn: with ``shuffle=False``, without a
    pipeline; and where sampler or seeded data set are there already.
    """
    sampler, dataset = dataloader.get('sampler'), dataloader['dataset']
    if not isinstance(sampler, dict) or isinstance(dataset, SeededDataset):
        return dataloader
    if class_of(sampler, DATA_SAMPLERS) is InfiniteSampler:
        sampler = {**sampler, 'type': 'SeededSampler'}
    elif sampler.get('shuffle') is not False and hasattr(dataset, 'pipeline'):
        sampler = dict(type='SeededDraws', sampler=dict(sampler))
    else:
        return dataloader
    return {
        **dataloader, 'dataset': SeededDataset(dataset),
        'sampler': sampler
    }


@contextmanager
def seeded(seed: int):
    """Seed python, numpy and torch's CPU generator; restore them at exit."""
    # torch.manual_seed would also reseed the accelerator's generators.
    generator = torch.default_generator
    states = random.getstate(), np.random.get_state(), generator.get_state()
    try:
        random.seed(seed)
        np.random.seed(seed)
        generator.manual_seed(seed)
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        generator.set_state(states[2])


class Wrapper(torch.utils.data.Dataset):
    """Has all public attributes of the data set that it holds.

    Args:
        dataset: Any dataset.
        recorded: What its samples say in ``metainfo``, besides what they do.
    """

    def __init__(self, dataset: Any, *recorded: str) -> None:
        self.dataset = dataset
        pipeline = getattr(dataset, 'pipeline', None)
        for transform in getattr(pipeline, 'transforms', ()):
            if isinstance(transform, PackSegInputs):
                transform.meta_keys = (*transform.meta_keys, *recorded)

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        # While an instance is unpickled it has no ``dataset`` yet; private
        # names are probes of pickle, copy and torch and are not passed on.
        if name.startswith('_') or name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)


class SeededDataset(Wrapper):
    """Gives the sample ``(index, seed)`` that ``SeededSampler`` asks for.

    A plain index is passed on as it is. All public attributes are those of
    the wrapped dataset. Its samples say which image they show and how it was
    moved (``sample_idx`` and ``geometry`` of ``metainfo``).

    Args:
        dataset: Any dataset; its transforms draw from python's, numpy's or
            torch's global generator.
    """

    def __init__(self, dataset: Any) -> None:
        super().__init__(dataset, 'sample_idx', 'geometry')

    def __getitem__(self, item: int | Draw) -> Any:
        if not isinstance(item, tuple):
            return self.dataset[item]
        index, seed = item
        with seeded(seed):
            return self.dataset[index]
