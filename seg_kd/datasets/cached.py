"""Decoded images in memory: a small data set is read from disk once."""
import random
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform, Compose
from mmengine.logging import print_log
from mmseg.registry import TRANSFORMS

from seg_kd.errors import UserError


@TRANSFORMS.register_module()
class Cached(BaseTransform):
    """Keeps what ``transforms`` make of an image; they run once for each.

    Put it around the first part of a training pipeline, which does the same
    to an image in every epoch: loading, labels, a fixed ``Resize``. What comes
    out is the same as without it. Each loader worker has a cache of its own.

    Args:
        transforms: Configs of transforms that draw nothing at random.
        max_gib: Most that one worker keeps. Images for which there is no room
            left are read again in each epoch.

    Raises:
        UserError: ``transforms`` draw from python's, numpy's or torch's
            generator.
    """

    def __init__(self,
                 transforms: list[dict[str, Any]],
                 max_gib: float = 1.) -> None:
        self.transforms = Compose(transforms)
        self.room = int(max_gib * 2**30)
        self._kept: dict[tuple, dict[str, Any]] = {}

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        files = results['img_path'], results.get('seg_map_path')
        if files not in self._kept:
            before = generators()
            made = self.transforms(results)
            if any(a != b for a, b in zip(before, generators())):
                raise UserError(f'Cached holds a random transform: {self}; an '
                                'image would be the same in every epoch. Move '
                                'it behind Cached')
            size = sum(x.nbytes for x in arrays(made).values())
            if size > self.room:
                if self.room:
                    print_log(
                        'The cache of decoded images is full, first with '
                        f'{files[0]}: raise max_gib of Cached if there is '
                        'memory', 'current')
                self.room = 0
                return made
            self.room -= size
            self._kept[files] = made
        kept = self._kept[files]
        # What comes next may write into the arrays, and adds entries.
        copies = {key: x.copy() for key, x in arrays(kept).items()}
        return {**kept, 'seg_fields': [*kept.get('seg_fields', [])], **copies}

    def __repr__(self) -> str:
        names = [type(t).__name__ for t in self.transforms.transforms]
        return f'Cached({", ".join(names)})'


def arrays(results: dict[str, Any]) -> dict[str, np.ndarray]:
    return {k: x for k, x in results.items() if isinstance(x, np.ndarray)}


def generators() -> tuple:
    """States of the generators that transforms draw from, to be compared."""
    name, keys, *rest = np.random.get_state()
    torch_state = torch.default_generator.get_state().numpy().tobytes()
    return random.getstate(), (name, keys.tobytes(), *rest), torch_state
