"""Decoded images, kept in memory or on disk: a PNG is inflated once."""
import copy
import hashlib
import os
import random
import shutil
from typing import Any

import numpy as np
import torch
from mmcv.transforms import BaseTransform, Compose
from mmengine.logging import print_log
from mmseg.registry import TRANSFORMS
from torch import Tensor

from seg_kd.errors import UserError

GIB = 2**30
FREE = 5 * GIB  # of the disk, which stays free


@TRANSFORMS.register_module()
class Cached(BaseTransform):
    """Keeps what ``transforms`` make of an image; they run once for each.

    Put it around the first part of a training pipeline, which does the same
    to an image in every epoch: loading, labels, a fixed ``Resize``. What comes
    out is the same as without it.

    In memory each loader worker has a cache of its own. In a ``folder`` it is
    that of all workers, processes and runs, and the memory is the operating
    system's: pages that are read again, and only those, are kept as long as
    there is room. It takes four bytes a pixel of image and label map; 25 GB
    for Cityscapes.

    Args:
        transforms: Configs of transforms that draw nothing at random.
        max_gib: Most that one worker keeps in memory. Images for which there
            is no room left are read again in each epoch.
        folder: Where to keep them on disk instead. No more is written when
            5 GiB are left there. What belongs to changed files or transforms
            is not read; delete the folder to be rid of it.

    Raises:
        UserError: ``transforms`` draw from python's, numpy's or torch's
            generator.
    """

    def __init__(self,
                 transforms: list[dict[str, Any]],
                 max_gib: float = 1.,
                 folder: str | None = None) -> None:
        self.transforms = Compose(transforms)
        self.store = (InMemory(max_gib) if folder is None else OnDisk(
            folder, repr(transforms)))

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        found = self.store.get(results)
        if found is not None:
            return found
        given, before = copy.deepcopy(results), generators()
        made = self.transforms(results)
        if any(a != b for a, b in zip(before, generators())):
            raise UserError(f'Cached holds a random transform: {self}; an '
                            'image would be the same in every epoch. Move '
                            'it behind Cached')
        self.store.put(given, made)
        return made

    def __repr__(self) -> str:
        names = [type(t).__name__ for t in self.transforms.transforms]
        return f'Cached({", ".join(names)})'


class InMemory:
    """At most so many GiB, by the files that an image was read from."""

    def __init__(self, max_gib: float) -> None:
        self.room = int(max_gib * GIB)
        self._kept: dict[tuple, dict[str, Any]] = {}

    def get(self, given: dict[str, Any]) -> dict[str, Any] | None:
        kept = self._kept.get(files_of(given))
        return None if kept is None else copied(kept)

    def put(self, given: dict[str, Any], made: dict[str, Any]) -> None:
        files = files_of(given)
        size = sum(x.nbytes for x in arrays(made).values())
        if size <= self.room:
            self.room -= size
            self._kept[files] = copied(made)
            return
        if self.room:
            print_log(
                'The cache of decoded images is full, first with '
                f'{files[0]}: raise max_gib of Cached if there is '
                'memory', 'current')
        self.room = 0


class OnDisk:
    """A file for each image, which is mapped into memory and not copied.

    Writing into what was read changes the process's own pages alone.
    """

    def __init__(self, folder: str, transforms: str) -> None:
        self.folder, self.transforms = folder, transforms
        os.makedirs(folder, exist_ok=True)

    def path(self, given: dict[str, Any]) -> str:
        """Another one for whatever might make another image."""
        files = [f for f in files_of(given) if f is not None]
        known = {k: v for k, v in given.items() if k != 'sample_idx'}
        stats = [(s.st_size, s.st_mtime_ns) for s in map(os.stat, files)]
        name = repr((self.transforms, sorted(known.items()), stats))
        return os.path.join(self.folder,
                            hashlib.sha256(name.encode()).hexdigest()[:24])

    def get(self, given: dict[str, Any]) -> dict[str, Any] | None:
        path = self.path(given)
        if not os.path.isfile(path):
            return None
        kept = torch.load(path, mmap=True, weights_only=True)
        return given | {
            k: x.numpy() if isinstance(x, Tensor) else x
            for k, x in kept.items()
        }

    def put(self, given: dict[str, Any], made: dict[str, Any]) -> None:
        if shutil.disk_usage(self.folder).free < FREE:
            return
        new = {
            k: torch.from_numpy(x) if isinstance(x, np.ndarray) else x
            for k, x in made.items() if k not in given or x is not given[k]
        }
        new.pop('sample_idx', None)
        path = self.path(given)
        part = f'{path}.{os.getpid()}'
        torch.save(new, part)
        os.replace(part, path)


def files_of(results: dict[str, Any]) -> tuple[str, str | None]:
    return results['img_path'], results.get('seg_map_path')


def copied(results: dict[str, Any]) -> dict[str, Any]:
    """What comes next may write into the arrays, and adds entries."""
    copies = {key: x.copy() for key, x in arrays(results).items()}
    fields = [*results.get('seg_fields', [])]
    return {**results, 'seg_fields': fields, **copies}


def arrays(results: dict[str, Any]) -> dict[str, np.ndarray]:
    return {k: x for k, x in results.items() if isinstance(x, np.ndarray)}


def generators() -> tuple:
    """States of the generators that transforms draw from, to be compared."""
    name, keys, *rest = np.random.get_state()
    torch_state = torch.default_generator.get_state().numpy().tobytes()
    return random.getstate(), (name, keys.tobytes(), *rest), torch_state
