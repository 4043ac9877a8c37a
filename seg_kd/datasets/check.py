"""Checks of data folders: quick ones before training, thorough ones on wish.

Every finding is a :class:`UserError` that says what to do.
"""
import os.path as osp
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np
from mmcv.transforms import BaseTransform
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS, TRANSFORMS
from PIL import Image

from seg_kd.datasets.progress import progress
from seg_kd.datasets.sources import advice
from seg_kd.datasets.transforms import histogram
from seg_kd.errors import UserError
from seg_kd.registry import is_kind


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
        if 'gt_seg_map' not in results:
            if 'seg_map_path' in results:  # a sample of a labelled data set
                raise UserError(f'{results["seg_map_path"]}: the label was '
                                'not loaded; put LoadAnnotations before '
                                'CheckLabels')
            return results
        problem = label_problem(results['gt_seg_map'], results['ori_shape'],
                                self.num_classes, self.ignore_index)
        if problem:
            raise UserError(f'{results["seg_map_path"]}: {problem}')
        return results


def label_problem(label: np.ndarray,
                  shape: tuple,
                  num_classes: int | None,
                  ignore_index: int = 255) -> str:
    """What is wrong with a label map, or ''.

    ``shape`` is ``(H, W)`` of its image.
    """
    if label.ndim != 2:
        return ('a label map has one channel of class numbers, this has shape '
                f'{label.shape}: give each colour the number of its class')
    if label.shape != tuple(shape[:2]):
        return f'size {label.shape[::-1]} differs from the image\'s ' \
               f'{tuple(shape[1::-1])} (width, height)'
    if num_classes is None:
        return ''
    if label.dtype != np.uint8:
        values = np.unique(label)
    else:
        values = np.flatnonzero(histogram(label))
    bad = values[((values < 0) | (values >= num_classes))
                 & (values != ignore_index)]
    if not bad.size:
        return ''
    shown = ', '.join(map(str, bad[:8].tolist()))
    hint = ''
    if bad.tolist() == [num_classes]:
        hint = ('; where classes are numbered from 1 and 0 is not scored, set '
                'reduce_zero_label=True in the data set')
    return f'label value {shown}{", ..." if bad.size > 8 else ""} outside ' \
           f'0 to {num_classes - 1} (and {ignore_index} for ignored pixels)' \
           f'{hint}'


def check_files(cfg: dict) -> None:
    """Quick check of a dataset config, or of those that a wrapper holds.

    Of folders only where the class is not derived from mmseg's: it takes
    other arguments.
    """
    for dataset in unwrapped(cfg):
        if is_kind(dataset, DATASETS, BaseSegDataset):
            check_dataset(dataset)
        elif isinstance(dataset, dict):
            check_folders(dataset)


def dataset_configs(cfg: Any) -> list[dict]:
    """The different dataset configs of the train, val and test loaders."""
    found: list[dict] = []
    for loader in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        loader = cfg.get(loader) or {}
        for dataset in unwrapped(loader.get('dataset')):
            if not any(key(dataset) == key(known) for known in found):
                found.append(dataset)
    return found


def key(dataset: dict) -> tuple:
    names = 'type', 'data_root', 'data_prefix', 'ann_file'
    return tuple(dataset.get(name) for name in names)


def unwrapped(dataset: Any) -> Iterator[dict]:
    """The configs inside ConcatDataset, RepeatDataset and the like."""
    if not dataset:
        return
    if not isinstance(dataset, dict):  # built already
        return
    inner = dataset.get('datasets') or [dataset.get('dataset')]
    if inner == [None]:
        yield dataset
    for item in inner:
        yield from unwrapped(item)


def check_dataset(dataset: dict | Any, full: bool = False) -> dict:
    """Check one data set.

    Args:
        dataset: A dataset, or its config; from a config, missing folders
            are found as well.
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
    if isinstance(dataset, dict):
        check_folders(dataset)
        kind = dataset.get('type')
        kind = DATASETS.get(kind) if isinstance(kind, str) else kind
        if not issubclass(kind or BaseSegDataset, BaseSegDataset):
            return {}  # of the user's own kind, with arguments of its own
        # An empty list cannot be serialized: MMEngine would say so, badly.
        cfg = {**dataset, 'pipeline': [], 'serialize_data': False}
        dataset = DATASETS.build(dict(cfg, _scope_='mmseg'))
    if not len(dataset):
        raise UserError(f'no image in {place(dataset)}')
    report = dict(images=len(dataset))
    if not hasattr(dataset, 'get_data_info'):  # of the user's own kind
        return report
    infos = [dataset.get_data_info(i) for i in range(len(dataset))]
    check_pairs(infos)
    if full:
        report.update(open_files(dataset, infos),
                      classes=dataset.metainfo.get('classes'))
    return report


def place(dataset: Any) -> str:
    """Where the images of a dataset were looked for."""
    prefix = getattr(dataset, 'data_prefix', {})
    folder = prefix.get('img_path') or getattr(dataset, 'data_root', '?')
    ann_file = getattr(dataset, 'ann_file', '')
    return f'{folder} by the list {ann_file}' if osp.isfile(
        ann_file) else folder


def check_folders(cfg: dict) -> None:
    root = cfg.get('data_root') or ''
    if root and not osp.isdir(root):
        raise UserError(f'data folder {root} is missing; {advice(cfg)}')
    for folder in (cfg.get('data_prefix') or {}).values():
        path = osp.join(root, folder or '')
        if path and not osp.isdir(path):
            raise UserError(f'data folder {path} is missing; {advice(cfg)}')
    ann_file = cfg.get('ann_file') or ''
    if ann_file and not osp.isfile(osp.join(root, ann_file)):
        raise UserError(f'list of images {osp.join(root, ann_file)} is '
                        f'missing; {advice(cfg)}')


def check_pairs(infos: list[dict]) -> None:
    for what, name in (('image', 'img_path'), ('label', 'seg_map_path')):
        missing = [i for i in infos if name in i and not osp.isfile(i[name])]
        if missing:
            shown = ', '.join(i[name] for i in missing[:3])
            more = f' and {len(missing) - 3} more' if missing[3:] else ''
            raise UserError(f'{len(missing)} of {len(infos)} images have no '
                            f'{what} file: missing {shown}{more}')


def open_files(dataset: Any, infos: list[dict]) -> dict:
    names = dataset.metainfo.get('classes')
    classes = None if names is None else len(names)
    sizes: Counter = Counter()
    pixels = np.zeros(256, np.int64)
    problems = []
    with ThreadPoolExecutor(4) as pool:
        results = pool.map(lambda i: open_pair(i, classes, dataset), infos)
        for problem, size, counts in progress(results, 'check', len(infos)):
            problems += [problem] if problem else []
            sizes[size] += 1
            pixels += counts
    if problems:
        more = f' (and {len(problems) - 1} more)' if problems[1:] else ''
        raise UserError(problems[0] + more)
    return dict(sizes=sizes, pixels=pixels)


def open_pair(info: dict,
              classes: int | None = None,
              dataset: Any = None) -> tuple:
    """(problem, (width, height), pixels per label value) of one pair."""
    nothing = np.zeros(256, np.int64)
    image = cv2.imread(info['img_path'])
    if image is None:
        return f'{info["img_path"]}: not a readable image', (0, 0), nothing
    size = image.shape[1::-1]
    if 'seg_map_path' not in info:
        return '', size, nothing
    try:
        with Image.open(info['seg_map_path']) as file:
            label = np.array(file)
    except (OSError, SyntaxError) as error:  # Pillow's for a broken PNG
        return f'{info["seg_map_path"]}: {error}', size, nothing
    if getattr(dataset, 'reduce_zero_label',
               False) and label.dtype == np.uint8:
        label = np.where(label, label - 1, np.uint8(255))
    problem = label_problem(label, image.shape, classes,
                            getattr(dataset, 'ignore_index', 255))
    if problem:
        return f'{info["seg_map_path"]}: {problem}', size, nothing
    return '', size, histogram(label.astype(np.uint8))
