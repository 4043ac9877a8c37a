"""CamVid, the Cambridge-driving Labeled Video Database, with 11 classes."""
import os.path as osp
from typing import List, Sequence

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid in its usual 11 classes, the grouping of SegNet.

    Reads ``images/{split}/NAME.{jpg,png}`` and ``labels/{split}/NAME.png``,
    labels 0 to 10, 255 where nothing is scored.

    Args:
        img_suffixes: Endings of image files; a folder may mix them.
        **kwargs: As for ``BaseSegDataset``.
    """
    METAINFO = dict(classes=('sky', 'building', 'pole', 'road', 'pavement',
                             'tree', 'sign symbol', 'fence', 'car',
                             'pedestrian', 'bicyclist'),
                    palette=[[128, 128, 128], [128, 0, 0], [192, 192, 128],
                             [128, 64, 128], [60, 40, 222], [128, 128, 0],
                             [192, 128, 128], [64, 64, 128], [64, 0, 128],
                             [64, 64, 0], [0, 128, 192]])

    def __init__(self,
                 img_suffixes: Sequence[str] = ('.jpg', '.png'),
                 **kwargs) -> None:
        self.img_suffixes = tuple(img_suffixes)
        super().__init__(**kwargs)

    def load_data_list(self) -> List[dict]:
        found = []
        for self.img_suffix in self.img_suffixes:
            found += super().load_data_list()
        found = [info for info in found if osp.isfile(info['img_path'])]
        return sorted(found, key=lambda info: info['img_path'])
