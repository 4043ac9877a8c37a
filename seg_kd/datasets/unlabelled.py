"""Images without labels, in the same batches as the labelled ones.

``train_dataloader = dict(..., unlabelled=dict(img_path='more', ratio=1.))`` is
all that a config says. The task's loss sees the labelled images only;
distillation counts every pixel of the others.
"""
import glob
import itertools
import math
import os
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from mmcv.transforms import Compose, LoadImageFromFile
from mmengine.dataset import InfiniteSampler
from mmengine.logging import print_log
from mmengine.registry import DATA_SAMPLERS
from mmseg.datasets.transforms import LoadAnnotations

from seg_kd.datasets.cached import Cached
from seg_kd.datasets.seeded import SeededDataset, SeededSampler, Wrapper
from seg_kd.errors import UserError
from seg_kd.registry import class_of

SUFFIXES = ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
MARK = 'unlabelled'  # in a sample's metainfo


def mix_in(dataloader: dict[str, Any]) -> dict[str, Any]:
    """The config of a loader with its ``unlabelled=`` worked in.

    ``dict(img_path=..., ratio=1.)``: to a batch of ``batch_size`` labelled
    images come ``ratio`` times as many of ``img_path``, a folder or a pattern
    of files such as ``'more/2024-*/*.jpg'``, which is relative to where the
    program runs or to the ``data_root``.

    Args:
        dataloader: With ``dataset`` built.

    Raises:
        UserError: ``unlabelled`` has another key, no folder or a ratio that
            gives no image; or the sampler is no ``InfiniteSampler``.
    """
    dataloader = dict(dataloader)
    options = dataloader.pop('unlabelled', None)
    if options is None:
        return dataloader
    sampler, dataset = dataloader['sampler'], dataloader['dataset']
    folder = place_of(options, getattr(dataset, 'data_root', None))
    labelled, ratio = dataloader['batch_size'], options.get('ratio', 1.)
    if not isinstance(ratio, (int, float)) or not math.isfinite(ratio) or \
            round(ratio * labelled) < 1:
        raise UserError(
            f'unlabelled: a ratio of {ratio!r} adds no image to a batch of '
            f'{labelled}; it is the number of unlabelled images per labelled '
            'one')
    if class_of(sampler, DATA_SAMPLERS) is not InfiniteSampler:
        raise UserError('unlabelled= needs sampler=dict(type='
                        "'InfiniteSampler')")
    mixed = WithUnlabelled(dataset, folder, options.get('suffixes', SUFFIXES))
    others = round(ratio * labelled)
    return {
        **dataloader, 'dataset': SeededDataset(mixed),
        'sampler': {
            **sampler, 'type': 'MixedSampler',
            'labelled': labelled,
            'unlabelled': others
        },
        'batch_size': labelled + others
    }


def place_of(options: Any, root: str | None) -> str:
    """The folder, or pattern, that ``unlabelled=`` means.

    Args:
        options: See :func:`mix_in`.
        root: The ``data_root``.

    Raises:
        UserError: It has another key, or no folder.
    """
    if not isinstance(options, dict) or 'img_path' not in options or \
            not options.keys() <= {'img_path', 'ratio', 'suffixes'}:
        raise UserError('unlabelled= of a train_dataloader is a dict of '
                        f'img_path, ratio and suffixes, not {options!r}')
    folder = options['img_path']
    if not folder or not isinstance(folder, str):
        raise UserError(f'unlabelled: img_path is a folder or a pattern of '
                        f"files, such as 'more/*/*.jpg', not {folder!r}")
    inside = os.path.join(root or '', folder)
    return inside if is_there(inside) and not is_there(folder) else folder


def unlabelled_files(options: Any, root: str | None) -> list[str]:
    """Paths of the images that ``unlabelled=`` means, sorted.

    Args:
        options: See :func:`mix_in`.
        root: The ``data_root``.

    Raises:
        UserError: As :func:`place_of`, :func:`endings` and
            :func:`images_in` do.
    """
    return images_in(place_of(options, root),
                     endings(options.get('suffixes', SUFFIXES)))


class WithUnlabelled(Wrapper):
    """A data set, and behind its images those of a folder without labels.

    The images without labels go through the pipeline of the data set; their
    label map holds nothing but its ``ignore_index``, and their ``metainfo``
    says ``unlabelled=True``.

    Args:
        dataset: Of images with labels, with a ``pipeline`` and
            ``get_data_info`` as ``BaseSegDataset`` has them.
        img_path: Folder of images, searched with all that is in it, or a
            pattern of files; relative to where the program runs.
        suffixes: Endings of image files; upper and lower case are the same.

    Raises:
        UserError: The folder is missing or holds no image, or ``dataset`` has
            no pipeline of its own.
    """

    def __init__(self,
                 dataset: Any,
                 img_path: str,
                 suffixes: str | Sequence[str] = SUFFIXES) -> None:
        if not hasattr(dataset, 'get_data_info') or not hasattr(
                dataset, 'pipeline'):
            raise UserError(
                f'unlabelled= needs a data set with a pipeline of its own, '
                f'as BaseSegDataset has it, not a {type(dataset).__name__}')
        super().__init__(dataset, MARK)
        self.labelled = len(dataset)
        self.files = images_in(img_path, endings(suffixes))
        without_labels_too(dataset.pipeline,
                           getattr(dataset, 'ignore_index', 255),
                           channels_of(dataset))
        self._warn_of_known()

    def _warn_of_known(self) -> None:
        known = {
            os.path.realpath(self.dataset.get_data_info(i)['img_path'])
            for i in range(self.labelled)
        }
        twice = [f for f in self.files if os.path.realpath(f) in known]
        if twice:
            print_log(
                f'{len(twice)} of {len(self.files)} unlabelled images are in '
                f'the labelled set, too, {twice[0]} first: they are used '
                'without their labels as well', 'current')

    def __len__(self) -> int:
        return self.labelled + len(self.files)

    def get_data_info(self, index: int) -> dict[str, Any]:
        if index < self.labelled:
            return self.dataset.get_data_info(index)
        return {
            'img_path': self.files[index - self.labelled],
            'seg_map_path': None,
            'label_map': None,
            'reduce_zero_label': False,
            'seg_fields': [],
            'sample_idx': index,
            MARK: True
        }

    def __getitem__(self, index: int) -> Any:
        if index < self.labelled:
            return self.dataset[index]
        info = self.get_data_info(index)
        sample = self.dataset.pipeline(info)
        if sample is None:
            raise UserError(f'{info["img_path"]}: cannot be loaded')
        return sample


class LoadLabels(LoadAnnotations):
    """``LoadAnnotations``; an image without labels has nothing but ignored
    pixels.

    Args:
        like: The transform whose settings it has.
        ignore_index: The label that does not count.
        channels: Of an image with labels.
    """

    def __init__(self, like: LoadAnnotations, ignore_index: int,
                 channels: int) -> None:
        self.__dict__.update(like.__dict__)
        self.unlabelled_index, self.channels = ignore_index, channels

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        if not results.get(MARK):
            return super().transform(results)
        shape = results['img'].shape
        if (1 if len(shape) == 2 else shape[2]) != self.channels:
            raise UserError(
                f'{results["img_path"]}: an unlabelled image of shape {shape},'
                f' where those with labels have {self.channels} channels')
        results['gt_seg_map'] = np.full(shape[:2], self.unlabelled_index,
                                        np.uint8)
        results['seg_fields'].append('gt_seg_map')
        return results


def without_labels_too(pipeline: Any, ignore_index: int,
                       channels: int) -> None:
    """Makes each ``LoadAnnotations`` in it a :class:`LoadLabels`."""
    pipeline.transforms = [
        LoadLabels(transform, ignore_index, channels)
        if type(transform) is LoadAnnotations else transform
        for transform in pipeline.transforms
    ]
    for inner in pipeline.transforms:
        if isinstance(inner, Cached):
            inner = inner.transforms
        if isinstance(inner, Compose):
            without_labels_too(inner, ignore_index, channels)


def channels_of(dataset: Any) -> int:
    """Of its first image as a pipeline loads it; 3 where that is unclear."""
    transforms = list(dataset.pipeline.transforms)
    while transforms:
        transform = transforms.pop(0)
        if isinstance(transform, LoadImageFromFile):
            image = transform(dataset.get_data_info(0))['img']
            return 1 if image.ndim == 2 else image.shape[2]
        if isinstance(transform, Cached):
            transform = transform.transforms
        if isinstance(transform, Compose):
            transforms = [*transform.transforms, *transforms]
    return 3


def endings(suffixes: str | Sequence[str]) -> tuple[str, ...]:
    """One suffix, or several; in lower case.

    Raises:
        UserError: They are none.
    """
    if not suffixes or not isinstance(suffixes, (str, list, tuple)) or \
            not all(isinstance(suffix, str) for suffix in suffixes):
        raise UserError('unlabelled: suffixes are endings of image files, '
                        f"such as ['.png', '.jpg'], not {suffixes!r}")
    several = [suffixes] if isinstance(suffixes, str) else suffixes
    return tuple(suffix.lower() for suffix in several)


def images_in(folder: str, suffixes: tuple[str, ...] = SUFFIXES) -> list[str]:
    """Paths of all images in a folder and below it, or of a pattern; sorted.

    Raises:
        UserError: There is no such folder or no image in it, or as
            :func:`check_file` says.
    """
    if not is_there(folder):
        raise UserError(f'the folder of unlabelled images {folder} is missing')
    if os.path.isdir(folder):
        found = files_in(folder, suffixes)
    else:
        found = sorted(
            check_file(name) for name in glob.iglob(folder, recursive=True)
            if name.lower().endswith(suffixes) and not os.path.isdir(name))
    if not found:
        raise UserError(f'no image in {folder}, the folder of unlabelled '
                        f'images; its files end in {", ".join(suffixes)}')
    return found


def is_there(folder: str) -> bool:
    """Is it a folder, or a pattern that a file goes by?"""
    return os.path.isdir(folder) or glob.has_magic(folder) and any(
        glob.iglob(folder, recursive=True))


def files_in(folder: str, suffixes: tuple[str, ...]) -> list[str]:
    """Paths of the files with these endings, below a folder too, sorted.

    What is hidden, or in a hidden folder, does not count, nor what is reached
    a second time, by a link to a folder above.

    Raises:
        UserError: A name is not UTF-8, or it is no file.
    """
    found: list[str] = []
    seen = set()
    for where, folders, names in os.walk(folder, followlinks=True):
        real = os.path.realpath(where)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if name[0] != '.']
        found += [
            check_file(os.path.join(where, name)) for name in names
            if name.lower().endswith(suffixes) and name[0] != '.'
        ]
    return sorted(found)


def check_file(path: str) -> str:
    """The path itself.

    Raises:
        UserError: OpenCV would crash at it, or wait for ever: its name is not
            UTF-8, or it is a pipe, or a link to nothing.
    """
    try:
        path.encode()
    except UnicodeEncodeError:
        raise UserError(f'{os.fsencode(path)!r}: the name of this file is not '
                        'UTF-8: rename it') from None
    if not os.path.isfile(path):
        raise UserError(f'{path} is no file, or a link to none')
    return path


@DATA_SAMPLERS.register_module()
class MixedSampler(SeededSampler):
    """Batches of labelled images, then unlabelled ones, in fixed numbers.

    The labelled images are drawn in the order, and with the seeds, in which
    ``SeededSampler`` draws them alone: a run with unlabelled images and one
    without see the same labelled ones.

    Args:
        dataset: A :class:`WithUnlabelled`, maybe wrapped.
        labelled: Labelled images in a batch of one process.
        unlabelled: Unlabelled images in a batch of one process.
        **options: As for ``SeededSampler``.
    """

    def __init__(self, dataset: Any, labelled: int, unlabelled: int,
                 **options: Any) -> None:
        self.batch = labelled, unlabelled
        super().__init__(dataset, **options)

    def _infinite_indices(self) -> Iterator[tuple[int, tuple[int, ...]]]:
        known, seed = self.dataset.labelled, self.seed
        labelled, others = (InfiniteSampler(range(size), self.shuffle,
                                            own)._infinite_indices()
                            for size, own in ((known, seed),
                                              (self.size - known, seed + 1)))
        streams = (((i, (n, )) for n, i in enumerate(labelled)),
                   ((known + i, (n, 1)) for n, i in enumerate(others)))
        while True:  # each process takes every world_size-th of these
            for stream, count in zip(streams, self.batch):
                yield from itertools.islice(stream, count * self.world_size)
