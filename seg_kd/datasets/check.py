"""Checks of data folders: quick ones before training, thorough ones on wish.

Every finding is a :class:`UserError` that says what to do.
"""
import logging
import os
import os.path as osp
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmengine.logging import print_log
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from seg_kd.datasets.progress import progress
from seg_kd.datasets.sources import advice
from seg_kd.datasets.transforms import histogram
from seg_kd.datasets.unlabelled import SUFFIXES, check_file, files_in
from seg_kd.errors import UserError
from seg_kd.registry import class_of, type_name


@TRANSFORMS.register_module()
class CheckLabels(BaseTransform):
    """Stop at a label map that does not fit its image or the classes.

    Stands after ``LoadAnnotations``; mmseg itself would fail in the loss, on
    a GPU with a device assertion, or leave such pixels out of the metric.
    An image that comes without a label (inference) passes.

    Args:
        num_classes: Labels are 0 to ``num_classes - 1``. By default as many
            as the data set has that :class:`~seg_kd.engine.DistillRunner`
            builds; elsewhere the classes are not checked.
        ignore_index: The other label that is allowed.
    """

    def __init__(self,
                 num_classes: int | None = None,
                 ignore_index: int = 255) -> None:
        self.num_classes = num_classes
        self.ignore_index = ignore_index

    def transform(self, results: dict) -> dict:
        if 'gt_seg_map' in results:
            check_label(results['seg_map_path'], results['gt_seg_map'],
                        results['ori_shape'], self.num_classes,
                        self.ignore_index)
        elif 'seg_map_path' in results:  # a sample of a labelled data set
            raise UserError(f'{results["seg_map_path"]}: the label was not '
                            'loaded; put LoadAnnotations before CheckLabels')
        return results


def check_label(path: str | None,
                label: np.ndarray,
                shape: tuple,
                num_classes: int | None = None,
                ignore_index: int = 255) -> None:
    """Raises UserError where a label map is none, or not of these classes.

    ``shape`` is ``(H, W)`` of its image.
    """
    if label.ndim < 2:
        raise UserError(f'{path}: one pixel wide or high, of which '
                        'MMSegmentation makes no label map')
    if label.ndim != 2:
        raise UserError(f'{path}: a label map has one channel of class '
                        f'numbers, this has shape {label.shape}: give each '
                        'colour the number of its class, see '
                        'docs/own_data.md')
    if label.dtype.kind not in 'uib':
        raise UserError(f'{path}: class numbers are whole numbers, these are '
                        f'{label.dtype}')
    if label.shape != tuple(shape[:2]):
        raise UserError(f'{path}: size {label.shape[::-1]} differs from the '
                        f"image's {tuple(shape[1::-1])} (width, height)")
    if num_classes is None:
        return
    is_byte = label.dtype == np.uint8
    if is_byte and all_known(label, num_classes, ignore_index):
        return
    values = np.flatnonzero(histogram(label)) if is_byte else np.unique(label)
    bad = [
        value for value in values.tolist()
        if not 0 <= value < num_classes and value != ignore_index
    ]
    if bad:
        shown = ', '.join(map(str, bad[:8])) + (', ...' if bad[8:] else '')
        hint = '; where classes are numbered from 1 and 0 is not scored, ' \
               'set reduce_zero_label=True in the data set'
        raise UserError(
            f'{path}: label value {shown} outside 0 to {num_classes - 1} (and '
            f'{ignore_index} for ignored pixels)'
            f'{hint if bad == [num_classes] else ""}')


def all_known(label: np.ndarray, num_classes: int, ignore_index: int) -> bool:
    """Whether a uint8 map has no other values; sooner than what it has."""

    def count(low: int, high: int) -> int:
        return cv2.countNonZero(cv2.inRange(label, low, high))

    above = count(num_classes, 255) if num_classes <= 255 else 0
    if above and num_classes <= ignore_index <= 255:
        above -= count(ignore_index, ignore_index)
    return not above


def check_files(cfg: Any) -> None:
    """Quick check of a dataset config, or of those that a wrapper holds."""
    for dataset in unwrapped(cfg):
        check_dataset(dataset)


def dataset_configs(cfg: Any) -> list[dict]:
    """The different dataset configs of the train, val and test loaders."""
    found: dict[str, dict] = {}
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        for dataset in unwrapped((cfg.get(loader) or {}).get('dataset')):
            names = 'type', 'data_root', 'data_prefix', 'ann_file'
            found.setdefault(repr([dataset.get(k) for k in names]), dataset)
    return list(found.values())


def unwrapped(dataset: Any) -> Iterator[dict]:
    """The configs inside ConcatDataset, RepeatDataset and the like."""
    if not dataset or not isinstance(dataset, dict):  # none, or built already
        return
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner == [None]:
        yield dataset
    for item in inner:
        yield from unwrapped(item)


def pipeline_of(dataset: Any) -> list:
    """The transforms of the first config inside, or none."""
    return next(unwrapped(dataset), {}).get('pipeline') or []


def check_dataset(cfg: dict, full: bool = False) -> dict:
    """Check one data set.

    Of folders only where the class is not derived from mmseg's: it takes
    other arguments.

    Args:
        cfg: Config of a dataset.
        full: Also open every file.

    Returns:
        ``images``, and with ``full`` also ``sizes`` (Counter of width,
        height), ``pixels`` ((256, ) counts per label value) and ``classes``
        (their names, if the data set has any).

    Raises:
        UserError: A folder or list is missing, there is no image, an image
            has no label; with ``full`` also unreadable files, unequal
            sizes, values outside the classes.
    """
    check_folders(cfg)
    if not issubclass(
            class_of(cfg, DATASETS) or BaseSegDataset, BaseSegDataset):
        return {}
    dataset, infos = list_files(cfg)
    is_list = osp.isfile(dataset.ann_file)
    others = [] if is_list else other_images(dataset)
    named = f'{len(others)} images there end otherwise, such as ' \
            f'{osp.basename(others[0])}' if others else ''
    if not infos:
        raise UserError(
            f'no image in {dataset.data_prefix["img_path"]}'
            f'{f" by the list {dataset.ann_file}" if is_list else ""}'
            f'{f" ends in {dataset.img_suffix!r}; {named}" if others else ""};'
            ' see img_suffix and data_prefix of the data set')
    if others:
        _say_once(f'{dataset.data_prefix["img_path"]}: {len(infos)} images '
                  f'end in {dataset.img_suffix!r}; {named}: they are left out '
                  '(img_suffix of the data set says which ones count)')
    check_pairs(infos)
    for info in infos:
        check_file(info['img_path'])
    check_depth(infos)
    report = dict(images=len(dataset))
    if full:
        report.update(open_files(dataset, infos),
                      classes=dataset.metainfo.get('classes'))
    return report


def other_images(dataset: Any) -> list[str]:
    """Paths of images in its folder that end otherwise than it wants.

    None where it has another way to choose its images than the format.

    Raises:
        UserError: One is no file.
    """
    suffix = dataset.img_suffix
    folder = dataset.data_prefix.get('img_path')
    own = type(dataset).load_data_list is not BaseSegDataset.load_data_list
    if own or not folder or not suffix.startswith('.'):
        return []
    labels = dataset.data_prefix.get('seg_map_path')
    known = [suffix]
    if labels and osp.realpath(labels).startswith(osp.realpath(folder)):
        known.append(dataset.seg_map_suffix)  # beside, or below them
    return [
        path for path in files_in(folder, SUFFIXES)
        if not path.endswith(tuple(known))
    ]


@cache
def _say_once(line: str) -> None:
    print_log(line, 'current', logging.WARNING)


def list_files(cfg: dict) -> tuple[Any, list[dict]]:
    """A data set that loads nothing, and what it says of each image."""
    # An empty list cannot be serialized: MMEngine would say so, badly.
    try:
        dataset = DATASETS.build(
            dict(cfg, pipeline=[], serialize_data=False, _scope_='mmseg'))
    except ValueError as error:  # such as of classes and palette
        raise UserError(f'{type_name(cfg)}: {error}') from error
    except OSError as error:  # such as a link to itself
        raise UserError(f'{error.filename}: {error.strerror}') from error
    return dataset, [dataset.get_data_info(i) for i in range(len(dataset))]


def check_folders(cfg: dict) -> None:
    root = cfg.get('data_root') or ''
    inner = (cfg.get('data_prefix') or {}).items()
    for name, folder in (('', ''), *inner):
        path = osp.join(root, folder) if folder else root
        if path and not osp.isdir(path):
            bare = '; to test without labels, set data_prefix.seg_map_path=' \
                if name == 'seg_map_path' else ''
            raise UserError(f'data folder {path} is missing; '
                            f'{advice(cfg)}{bare}')
    ann_file = cfg.get('ann_file') or ''
    if ann_file and not osp.isfile(osp.join(root, ann_file)):
        raise UserError(f'list of images {osp.join(root, ann_file)} is '
                        f'missing; {advice(cfg)}')


def check_pairs(infos: list[dict]) -> None:
    for what, name in (('image', 'img_path'), ('label', 'seg_map_path')):
        missing = [i for i in infos if name in i and not osp.isfile(i[name])]
        if missing:
            shown = ', '.join(i[name] + like(i[name]) for i in missing[:3])
            more = f' and {len(missing) - 3} more' if missing[3:] else ''
            raise UserError(
                f'{len(missing)} of {len(infos)} images have no '
                f'{what} file: missing {shown}{more}; an image and '
                'its label have one name but for img_suffix and '
                'seg_map_suffix')


def like(path: str) -> str:
    """``' (there is 1.PNG)'``, a file beside that is called nearly so."""
    folder, name = osp.split(path)
    stem = osp.splitext(name)[0].lower()
    if not osp.isdir(folder):
        return ''
    near = [
        other for other in sorted(os.listdir(folder))
        if osp.splitext(other)[0].lower() == stem and other != name
    ]
    return f' (there is {near[0]})' if near else ''


def check_depth(infos: list[dict], most: int = 100) -> None:
    """Raises UserError at a label PNG of 16 bits, of some spread over all.

    MMSegmentation keeps the lower 8 of them: 261 would be class 5.
    """
    step = max(1, len(infos) // most)
    for path in (i.get('seg_map_path') for i in infos[::step]):
        if path and path.lower().endswith('.png'):
            with open(path, 'rb') as file:
                start = file.read(25)
            if start.startswith(b'\x89PNG') and start[24:] == b'\x10':
                raise UserError(f'{path}: a label PNG of 16 bits, of which '
                                'only the lower 8 would be read: save class '
                                'numbers with 8 bits')


def open_files(dataset: BaseSegDataset, infos: list[dict]) -> dict:
    sizes: Counter = Counter()
    pixels = np.zeros(256, np.int64)
    problems = []

    def opened(info: dict) -> tuple | UserError:
        try:
            return open_pair(info, dataset)
        except UserError as error:
            return error

    with ThreadPoolExecutor(4) as pool:
        results = pool.map(opened, infos)
        for found in progress(results, 'check', len(infos)):
            if isinstance(found, UserError):
                problems.append(found)
            else:
                sizes[found[0]] += 1
                pixels += found[1]
    if problems:
        more = f' (and {len(problems) - 1} more)' if problems[1:] else ''
        raise UserError(f'{problems[0]}{more}')
    return dict(sizes=sizes, pixels=pixels)


def turned(path: str) -> bool:
    """Whether an image is to be turned or mirrored when it is shown."""
    try:
        with Image.open(path) as file:
            return file.getexif().get(0x112, 1) != 1
    except (OSError, SyntaxError, ValueError):
        return False


def open_pair(info: dict, dataset: BaseSegDataset | None = None) -> tuple:
    """(width, height) of one pair, and its pixels per label value.

    Raises:
        UserError: One of the files is not readable, or not what it should be.
    """
    try:
        # as pipelines do it: imread takes half a JPEG for a whole one
        data = np.fromfile(info['img_path'], np.uint8)
        image = cv2.imdecode(data, cv2.IMREAD_COLOR) if len(data) else None
    except (OSError, cv2.error) as error:  # of more pixels than it takes
        raise UserError(f'{info["img_path"]}: {error}') from error
    if image is None:
        raise UserError(f'{info["img_path"]}: not a readable image')
    size, path = image.shape[1::-1], info.get('seg_map_path')
    if path is None:
        return size, np.zeros(256, np.int64)
    try:
        with Image.open(path) as file:
            label = np.array(file)
    except (OSError, SyntaxError, ValueError,
            Image.DecompressionBombError) as error:  # Pillow's, all of them
        raise UserError(f'{path}: {error}') from error
    if label.shape != image.shape[:2] and turned(info['img_path']):
        raise UserError(f'{path}: size {label.shape[1::-1]} differs from the '
                        f"image's {size} (width, height), which its EXIF "
                        'orientation turns: save the image as it is to be '
                        'seen, without EXIF')
    if dataset is None:
        check_label(path, label, image.shape)
    else:
        if dataset.reduce_zero_label and label.dtype == np.uint8:
            label = label - np.uint8(1)  # 0 becomes 255, which stays 255
            label[label == 254] = 255
        names = dataset.metainfo.get('classes')
        check_label(path, label, image.shape,
                    None if names is None else len(names),
                    dataset.ignore_index)
    return size, histogram(label.astype(np.uint8))
