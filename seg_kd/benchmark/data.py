"""What is measured on: the data set of a config, or noise."""
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample

from seg_kd.datasets import check_files, with_workers
from seg_kd.errors import UserError
from seg_kd.hooks import TeacherHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.registry import as_list
from seg_kd.teacher.teacher import checked_scale

IMAGES = 2975  # of Cityscapes


@dataclass(frozen=True)
class NoiseImages:
    """A data set of noise, as long as that of Cityscapes.

    It can stand in a config: MMEngine writes the config down, and this is
    written as the expression that builds it.
    """
    size: tuple[int, int]  # height, width
    classes: int
    scale: int = 1  # of a teacher's view

    metainfo = dict()  # names no classes: whatever the model has will do

    def __len__(self) -> int:
        return IMAGES

    def get_data_info(self, index: int) -> dict[str, Any]:
        return dict(img_path=f'noise/{index}')

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        image = torch.randint(256, (3, *self.size),
                              generator=generator,
                              dtype=torch.uint8)
        labels = torch.randint(self.classes, (1, *self.size),
                               generator=generator)
        sample = SegDataSample(gt_sem_seg=PixelData(data=labels),
                               metainfo=self.get_data_info(index))
        if self.scale != 1:
            finer = image.repeat(1, self.scale, self.scale)
            sample.set_metainfo(dict(finer=finer))
        return dict(inputs=image, data_samples=sample)


def set_data(cfg: Config, images: Sequence[int], wanted: bool) -> str:
    """The config's data in batches of this size, or noise; says which."""
    count, *size = images
    cfg.model.data_preprocessor.size = tuple(size)
    loader, why = cfg.train_dataloader, ''
    if wanted:
        try:
            check_files(loader.dataset)
            loader.batch_size = count
            loader.pop('unlabelled', None)  # they would come on top
            set_crop(loader.dataset, size)
            return (f'{loader.dataset.get("data_root")}, '
                    f'{with_workers(loader)["num_workers"]} workers')
        except UserError as error:
            why = f' ({str(error).split(";")[0]})'
    heads = as_list(cfg.model.get('decode_head'))
    scale = 1
    for hook in hooks_of(cfg, TeacherHook):  # of noise there is no cache
        scale = max(scale, checked_scale(hook.get('scale', 1)))
        hook.cache = False
    known = [head.num_classes for head in heads if 'num_classes' in head]
    cfg.train_dataloader = dict(batch_size=count,
                                num_workers=0,
                                sampler=dict(type='InfiniteSampler'),
                                dataset=NoiseImages(tuple(size),
                                                    min(known, default=2),
                                                    scale))
    return 'noise' + why


def set_crop(node: Any, size: Sequence[int]) -> None:
    """In every transform of a data set's config that crops."""
    if isinstance(node, dict):
        if 'height' in node and 'width' in node:
            node.update(height=size[0], width=size[1])
        if 'crop_size' in node:
            node.crop_size = tuple(size)
    if isinstance(node, (dict, list)):
        for value in node.values() if isinstance(node, dict) else node:
            set_crop(value, size)
