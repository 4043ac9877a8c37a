"""Augmentation that depends on the run's seed and on nothing else.

PyTorch seeds each worker process, and MMEngine seeds it by rank and worker
number. So which random numbers an image gets depends on the number of
workers and ranks, and a resumed run draws other ones. Here every draw of the
sampler carries a seed of its own.
"""
import itertools
import random
from contextlib import contextmanager
from typing import Any, Iterator, Tuple, Union

import numpy as np
import torch
from mmengine.dataset import InfiniteSampler
from mmengine.registry import DATA_SAMPLERS
from mmseg.datasets.transforms import PackSegInputs

RECORDED = 'sample_idx', 'geometry'
Draw = Tuple[int, int]


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

    def _infinite_indices(self) -> Iterator[Draw]:
        yield from zip(super()._infinite_indices(), itertools.count())

    def __iter__(self) -> Iterator[Draw]:
        for index, draw in self.indices:
            yield index, draw_seed(self.seed, draw)


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


class SeededDataset(torch.utils.data.Dataset):
    """Gives the sample ``(index, seed)`` that ``SeededSampler`` asks for.

    A plain index is passed on as it is. All public attributes are those of
    the wrapped dataset. Its samples say which image they show and how it was
    moved (``sample_idx`` and ``geometry`` of ``metainfo``).

    Args:
        dataset: Any dataset; its transforms draw from python's, numpy's or
            torch's global generator.
    """

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset
        pipeline = getattr(dataset, 'pipeline', None)
        for transform in getattr(pipeline, 'transforms', ()):
            if isinstance(transform, PackSegInputs):
                transform.meta_keys = (*transform.meta_keys, *RECORDED)

    def __getitem__(self, item: Union[int, Draw]) -> Any:
        if not isinstance(item, tuple):
            return self.dataset[item]
        index, seed = item
        with seeded(seed):
            return self.dataset[index]

    def __len__(self) -> int:
        return len(self.dataset)

    def __getattr__(self, name: str) -> Any:
        # While an instance is unpickled it has no ``dataset`` yet; private
        # names are probes of pickle, copy and torch and are not passed on.
        if name.startswith('_') or name == 'dataset':
            raise AttributeError(name)
        return getattr(self.dataset, name)
