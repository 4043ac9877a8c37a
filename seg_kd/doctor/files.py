"""A data set as files: some are opened, and looked at as they are."""
import hashlib
import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np

from seg_kd.datasets.check import check_dataset, list_files, open_pair
from seg_kd.errors import UserError

MOST = 64  # images that are opened
READ = 2**20  # bytes that files are told apart by


class Files:
    """The images of one data set.

    Args:
        cfg: Of the data set, no wrapper.

    Raises:
        UserError: A folder is missing, it is empty, a label is missing.
    """

    def __init__(self, cfg: dict[str, Any]) -> None:
        check_dataset(cfg)
        self.dataset, self.infos = list_files(cfg)

    def __len__(self) -> int:
        return len(self.infos)

    @property
    def paths(self) -> list[str]:
        return [info['img_path'] for info in self.infos]

    @property
    def classes(self) -> Sequence[str]:
        return self.dataset.metainfo.get('classes') or ()

    @property
    def whole(self) -> bool:
        """Whether every image is opened."""
        return len(self.infos) <= MOST

    @cached_property
    def opened(self) -> 'Opened':
        """What is in some of them, evenly spread."""
        step = max(1, len(self.infos) / MOST)
        chosen = [
            self.infos[int(k * step)]
            for k in range(min(MOST, len(self.infos)))
        ]
        found = Opened()
        for info in chosen:
            try:
                size, pixels = open_pair(info, self.dataset)
            except UserError as error:
                found.errors.append(str(error))
                continue
            found.sizes[size] += 1
            found.pixels += pixels
            ignored = pixels[self.dataset.ignore_index] == pixels.sum()
            if 'seg_map_path' in info and ignored:
                found.ignored.append(info['seg_map_path'])
        found.count = len(chosen)
        return found


class Opened:
    """What is in some images and labels.

    Attributes:
        count: How many were opened.
        sizes: Images by (width, height).
        pixels: By label value, ``(256, )``.
        ignored: Labels of which no pixel is scored.
        errors: What is wrong with the others, a line each.
    """

    def __init__(self) -> None:
        self.count = 0
        self.sizes: Counter = Counter()
        self.pixels = np.zeros(256, np.int64)
        self.ignored: list[str] = []
        self.errors: list[str] = []


def same_files(some: Sequence[str],
               others: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of equal content. Only files of equal size are read."""
    by_size = defaultdict(list)
    for path in some:
        by_size[os.path.getsize(path)].append(path)
    alike = [(path, by_size[os.path.getsize(path)]) for path in others
             if os.path.getsize(path) in by_size]
    digests = {
        p: digest(p)
        for p in {p
                  for path, group in alike
                  for p in [path, *group]}
    }
    return [(path, next(p for p in group if digests[p] == digests[path]))
            for path, group in alike
            if any(digests[p] == digests[path] for p in group)]


def digest(path: str) -> bytes:
    with open(path, 'rb') as file:
        return hashlib.blake2b(file.read(READ)).digest()
