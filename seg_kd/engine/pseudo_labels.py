"""A teacher's labels of images that have none, as a data set of their own."""
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import init_default_scope
from prettytable import PrettyTable
from torch import Tensor, nn

from seg_kd.datasets import show_finer
from seg_kd.datasets.check import pipeline_of
from seg_kd.datasets.prepare.files import whole_folder, write
from seg_kd.datasets.progress import progress
from seg_kd.datasets.unlabelled import images_in
from seg_kd.engine.derived import derived
from seg_kd.engine.evaluate import (check_test_data, label_free, last_stage,
                                    teacher_network, teacher_of)
from seg_kd.errors import UserError
from seg_kd.networks.classes import class_names
from seg_kd.registry import DATASETS, type_name
from seg_kd.teacher.teacher import checked_scale

IGNORED = 255
COMMENT = '''# Trains on labels of which a teacher is {threshold:g} sure:
# {share:.1f} % of the pixels.
'''


def write_pseudo_labels(cfg: Config,
                        images: str,
                        out: str,
                        threshold: float = .9) -> str:
    """Labels all images of a folder by the teacher of ``cfg``.

    ``out`` gets ``images/`` (copies), ``labels/`` (class indices; 255 where
    the teacher is less sure than ``threshold``) and ``config.py``, which is
    ``cfg``, with what a fold and options have changed, but trains on them.
    ``out`` is whole, or absent.

    Args:
        cfg: Gives the teacher, and how images are prepared for testing.
        images: Folder, searched with all that is in it.
        out: A folder that is not there yet.
        threshold: Least probability of the likeliest class, from 0 to 1.

    Returns:
        A table: for each class, its share of the labelled pixels.

    Raises:
        UserError: The threshold is no probability, ``out`` holds something or
            is among the images, they have several suffixes, or one cannot be
            read.
    """
    if not 0 <= threshold < 1:
        raise UserError(f'the threshold is a probability from 0 to below 1, '
                        f'not {threshold:g}')
    if not os.path.isdir(images):
        raise UserError(f'{images} is no folder of images')
    if os.path.isdir(out) and os.listdir(out):
        raise UserError(f'{out} holds files: choose another --out')
    if Path(out).resolve().is_relative_to(Path(images).resolve()):
        raise UserError(f'{out} is in {images}, and its labels would be taken '
                        'for images: choose another --out')
    whole, cfg = cfg, last_stage(cfg)
    check_test_data(cfg)
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    network, checkpoint = teacher_network(cfg)
    network.to(get_device()).eval()
    found = [Path(path) for path in images_in(images)]
    suffixes = {path.suffix for path in found}
    if len(suffixes) > 1:
        raise UserError(f'{images} has images that end in '
                        f'{", ".join(sorted(suffixes))}: a data set has one '
                        'kind, convert the others first')
    dataset = {**cfg.test_dataloader.dataset, 'lazy_init': True}
    info = DATASETS.build(dataset).metainfo
    classes = tuple(class_names(checkpoint) or info['classes'])
    counts = np.zeros(256, int)
    pipeline = teachers_pipeline(cfg, found[0])
    settings = whole.to_dict()
    loader = settings['train_dataloader']
    loader.pop('unlabelled', None)  # below the other data_root
    loader['dataset'] = dict(type='BaseSegDataset',
                             data_root=os.path.abspath(out),
                             data_prefix=dict(img_path='images',
                                              seg_map_path='labels'),
                             img_suffix=suffixes.pop(),
                             seg_map_suffix='.png',
                             metainfo=dict(classes=classes,
                                           palette=info['palette']),
                             pipeline=from_0(pipeline_of(loader['dataset'])))
    with whole_folder(out) as part:
        for path in progress(found, 'labelling'):
            labels = label(network, pipeline, path, threshold)
            name = path.relative_to(images)
            (part / 'images' / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, part / 'images' / name)
            write((part / 'labels' / name).with_suffix('.png'), labels)
            counts += np.bincount(labels.flatten(), minlength=256)
        share = 100 * (1 - counts[IGNORED] / counts.sum())
        text = COMMENT.format(threshold=threshold, share=share)
        text += derived(whole, settings)
        write(part / 'config.py', text.encode())
    return balance(classes, counts)


def from_0(node: Any) -> Any:
    """Transforms, where labels that are loaded count from 0."""
    if isinstance(node, (list, tuple)):
        return type(node)(map(from_0, node))
    if not isinstance(node, dict):
        return node
    found = {k: from_0(v) for k, v in node.items()}
    if type_name(node) == 'LoadAnnotations':
        found.pop('reduce_zero_label', None)
    return found


def teachers_pipeline(cfg: Config, first: Path) -> Compose:
    """That of tests, without labels; it shows what the teacher is to see.

    Args:
        cfg: A complete config.
        first: An image file.
    """
    pipeline = Compose(label_free(cfg.test_dataloader.dataset.pipeline))
    scale = checked_scale(teacher_of(cfg).get('scale', 1))
    if scale != 1:
        load(pipeline, first)  # what is no image is said so
        shown = SimpleNamespace(
            pipeline=pipeline,
            get_data_info=lambda index: dict(img_path=str(first)))
        show_finer(shown, scale, instead=True)
    return pipeline


def load(pipeline: Compose, path: Path) -> dict[str, Any]:
    """One image file, packed.

    Raises:
        UserError: It cannot be loaded.
    """
    try:
        return pipeline(dict(img_path=str(path)))
    except Exception as error:  # OpenCV's, or a transform's own
        raise UserError(f'{path}: cannot be loaded ({error})') from error


@torch.no_grad()
def label(network: nn.Module, pipeline: Compose, path: Path,
          threshold: float) -> np.ndarray:
    """Class indices ``(H, W)`` of one image file, 255 where unsure."""
    sample = load(pipeline, path)
    batch = dict(inputs=[sample['inputs']],
                 data_samples=[sample['data_samples']])
    result, = network.test_step(batch)
    chosen = result.pred_sem_seg.data[0]
    sure = certainty(result.seg_logits.data, chosen) >= threshold
    return chosen.where(sure, IGNORED).to(torch.uint8).cpu().numpy()


def certainty(logits: Tensor, chosen: Tensor) -> Tensor:
    """Probability of the chosen class, from MMSegmentation's ``seg_logits``.

    Shape:
        ``(C, H, W)`` logits, or ``(1, H, W)`` probabilities of the second of
        two classes, as heads with one output give; ``(H, W)`` -> ``(H, W)``.
    """
    if len(logits) == 1:
        return logits[0].where(chosen == 1, 1 - logits[0])
    return logits.softmax(0).amax(0)


def balance(classes: Sequence[str], counts: np.ndarray) -> str:
    """A table of the classes' shares, in percent, from counts by label."""
    table = PrettyTable(['class', '% of labelled pixels'])
    table.align = 'r'
    table.align['class'] = 'l'
    labelled = max(1, counts[:IGNORED].sum())
    for name, count in zip(classes, counts):
        table.add_row([name, f'{100 * count / labelled:.2f}'])
    share = 100 * counts[IGNORED] / counts.sum()
    return f'{table}\nignored, as the teacher is unsure: {share:.1f} %'
