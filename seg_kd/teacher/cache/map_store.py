"""Feature maps of images on disk, memory-mapped."""
import logging
import os
import re
import shutil
import zlib
from collections.abc import Iterable, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor

from seg_kd.errors import UserError

GIB = 2**30


class MapStore:
    """A file for each tapped map, with a slot for each image.

    A file more holds a checksum of each slot, 0 where it is empty. It is
    written after the maps, so a process killed at any moment leaves no half
    slot that counts; and what a process reads for the first time it checks,
    so that damaged files are found and made again. Processes of one machine
    share the files: the same maps go into the same slots.

    Args:
        folder: Where the files are, or will be. Their whole size is reserved
            here, so that nothing runs out of room later.
        shapes: By layer path, the ``(C, h, w)`` of one image.
        images: How many there are; slots beyond ``max_gib`` are left out.
        max_gib: Largest size of all files.
        dtype: Of the stored maps.

    Raises:
        UserError: The disk has too little room.
    """

    def __init__(self, folder: str, shapes: dict[str, Sequence[int]],
                 images: int, max_gib: float, dtype: torch.dtype) -> None:
        self.folder, self.images = folder, images
        per_path = {
            path: torch.Size(shape).numel() * dtype.itemsize
            for path, shape in shapes.items()
        }
        room = int(max_gib * GIB)
        self.slots = min(images, room // (sum(per_path.values()) + 8))
        sizes = {'checksums': self.slots * 8}
        sizes.update((file_name(i, path), self.slots * size)
                     for i, (path, size) in enumerate(per_path.items()))
        self.bytes = sum(sizes.values())
        self._files: dict[str, Tensor] = {}
        self._checked: set[int] = set()
        if not self.slots:
            return
        reserve(folder, sizes)
        self._checksums = self._open('checksums', torch.int64, (self.slots, ))
        for i, (path, shape) in enumerate(shapes.items()):
            self._files[path] = self._open(file_name(i, path), dtype,
                                           (self.slots, *shape))

    def _open(self, name: str, dtype: torch.dtype,
              shape: Sequence[int]) -> Tensor:
        return torch.from_file(os.path.join(self.folder, name),
                               shared=True,
                               size=torch.Size(shape).numel(),
                               dtype=dtype).view(*shape)

    def __contains__(self, index: int) -> bool:
        if index >= self.slots:
            return False
        if index not in self._checked and self._checksums[index]:
            if self._checksums[index] == checksum(self.read(index).values()):
                self._checked.add(index)
            else:
                self._checksums[index] = 0
                print_log(
                    f'Teacher cache: the maps of image {index} in '
                    f'{self.folder} are damaged, they are made again',
                    'current', logging.WARNING)
        return bool(self._checksums[index])

    def read(self, index: int) -> dict[str, Tensor]:
        """The maps of an image, ``(C, h, w)``: views of the files."""
        return {path: file[index] for path, file in self._files.items()}

    def write(self, index: int, maps: dict[str, Tensor]) -> None:
        """Stores the maps of an image, if it has a slot."""
        if index >= self.slots:
            return
        for path, file in self._files.items():
            file[index] = maps[path]
        self._checksums[index] = checksum(self.read(index).values())
        self._checked.add(index)

    def __str__(self) -> str:
        stored = int((self._checksums != 0).sum()) if self.slots else 0
        return (f'{self.folder}, {self.bytes / GIB:.3g} GiB for '
                f'{self.slots} of {self.images} images, {stored} are stored')


def checksum(maps: Iterable[Tensor]) -> int:
    """CRC-32 of all their bytes, and a bit more: it is never 0."""
    found = 0
    for kept in maps:
        flat = kept.contiguous().flatten().view(torch.uint8)
        found = zlib.crc32(flat.numpy(), found)
    return found | 1 << 32


def file_name(number: int, path: str) -> str:
    return f'{number}_' + re.sub(r'\W+', '_', path).strip('_')


def reserve(folder: str, sizes: dict[str, int]) -> None:
    """Files of these sizes, in bytes, with room on the disk for all of it."""
    os.makedirs(folder, exist_ok=True)
    paths = {os.path.join(folder, name): n for name, n in sizes.items()}
    there = sum(os.stat(p).st_blocks * 512 for p in paths if os.path.exists(p))
    need, free = sum(sizes.values()) - there, shutil.disk_usage(folder).free
    try:
        if need > free:
            raise OSError('it does not fit')
        for path, size in paths.items():
            with open(path, 'ab') as file:
                if hasattr(os, 'posix_fallocate'):  # not on a Mac
                    os.posix_fallocate(file.fileno(), 0, size)
    except OSError as error:
        raise UserError(
            f'the teacher cache needs {need / GIB:.3g} GiB more in {folder}, '
            f'where {free / GIB:.3g} GiB are free ({error}); make room, name '
            'another folder with TeacherHook(cache=dict(folder=...)), or '
            'store fewer images with max_gib') from error
