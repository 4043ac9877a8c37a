"""Images to check an export with, to calibrate on and to score."""
import copy
import dataclasses
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from torch import Tensor

from seg_kd.datasets import check_files, make_ready
from seg_kd.datasets.check import pipeline_of, unwrapped
from seg_kd.engine.evaluate import check_test_data, label_free
from seg_kd.errors import UserError
from seg_kd.registry import DATASETS


class Samples:
    """Samples of a data set as the test pipeline makes them.

    Args:
        cfg: A complete config.
        split: ``'train'``, ``'val'`` or ``'test'``.
        count: That many, evenly spread; all by default.
        labels: Whether to load them.

    Raises:
        UserError: The config has no such data set, or its files are missing.
    """

    def __init__(self,
                 cfg: Config,
                 split: str,
                 count: int | None = None,
                 labels: bool = False) -> None:
        dataset = copy.deepcopy((cfg.get(f'{split}_dataloader')
                                 or {}).get('dataset'))
        if not dataset:
            raise UserError(f'{cfg.filename} has no {split}_dataloader')
        check_test_data(cfg)  # its pipeline
        check_files(dataset)
        pipeline = pipeline_of(cfg.test_dataloader.dataset)
        for inner in unwrapped(dataset):
            inner['pipeline'] = pipeline if labels else label_free(pipeline)
        self.dataset = make_ready(DATASETS.build(dataset))
        self.count = min(len(self.dataset), count or len(self.dataset))

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> dict[str, Any]:
        return self.dataset[index * len(self.dataset) // self.count]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return (self[i] for i in range(self.count))


@dataclasses.dataclass
class Images:
    """Images that an exported network is compared on.

    Args:
        arrays: ``(H, W, 3)`` BGR, as the test pipeline makes them.
        real: Whether they are of the test set; noise otherwise.
    """
    arrays: list[np.ndarray]
    real: bool


def images_of(cfg: Config,
              count: int,
              size: Sequence[int] | None = None) -> Images:
    """Images of the test set, or one of noise where it is not here.

    Args:
        cfg: A complete config.
        count: At most so many.
        size: Height and width of the noise; the crop's by default.
    """
    try:
        found = [as_array(x['inputs']) for x in Samples(cfg, 'test', count)]
    except UserError:  # no test set, or not on this machine
        noise = np.random.default_rng(0)
        shape = (*(size or crop_of(cfg)), 3)
        return Images([noise.integers(0, 256, shape, np.uint8)], False)
    return Images(found, True)


def as_array(inputs: Tensor) -> np.ndarray:
    """``(3, H, W)`` as pipelines pack it -> ``(H, W, 3)``."""
    return inputs.permute(1, 2, 0).numpy()


def crop_of(cfg: Config) -> tuple[int, int]:
    """Height and width that a network was trained on, or 512 x 512."""
    size = (cfg.model.get('data_preprocessor') or {}).get('size')
    height, width = size or (512, 512)
    return int(height), int(width)


def logits_of(model: torch.nn.Module, images: list[np.ndarray]) -> Tensor:
    """What the model itself gives for a batch, at the size of the images.

    Shape:
        a list of ``(H, W, 3)`` BGR -> ``(N, classes, H, W)``.
    """
    inputs = [torch.from_numpy(x.copy()).permute(2, 0, 1) for x in images]
    batch = model.data_preprocessor(dict(inputs=inputs))['inputs']
    size = batch.shape[2:]
    meta = dict(img_shape=size, ori_shape=size, pad_shape=size)
    with torch.no_grad():
        return model.inference(batch, [meta] * len(images))
