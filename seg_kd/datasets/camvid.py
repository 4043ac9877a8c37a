"""CamVid, the Cambridge-driving Labeled Video Database, with 11 classes."""
import os.path as osp
from collections.abc import Sequence
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

from seg_kd.errors import UserError


@DATASETS.register_module()
class CamVidDataset(BaseSegDataset):
    """CamVid in its usual 11 classes, the grouping of SegNet.

    Reads ``images/{split}/NAME.{jpg,png}`` and ``labels/{split}/NAME.png``,
    labels 0 to 10, 255 where nothing is scored.

    CamVid's usual validation images are frames of a recording that most
    training images come from, so they measure memory as well. ``recordings``
    splits the frames by recording instead; see
    ``configs/_base_/datasets/camvid_by_recording.py``.

    Args:
        img_suffixes: Endings of image files; a folder may mix them.
        splits: Where ``data_prefix`` names ``images`` and ``labels``
            themselves: the folders in them that are read; all by default.
        recordings: Read the frames of these recordings only. A recording is
            what a file name has before its first ``_``: ``0001TP``,
            ``0006R0``, ``0016E5``, and ``Seq05VD`` among the test images.
        **kwargs: As for ``BaseSegDataset``.

    Raises:
        UserError: There is no frame of one of the recordings.
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
                 splits: Sequence[str] | None = None,
                 recordings: Sequence[str] | None = None,
                 **kwargs: Any) -> None:
        self.img_suffixes = tuple(img_suffixes)
        self.splits, self.recordings = splits, recordings
        super().__init__(**kwargs)

    def load_data_list(self) -> list[dict]:
        found = []
        for self.img_suffix in self.img_suffixes:
            found += super().load_data_list()
        found = [
            info for info in found if osp.isfile(info['img_path']) and (
                self.splits is None or split(info) in self.splits)
        ]
        there = {recording(info) for info in found}
        wanted = there if self.recordings is None else set(self.recordings)
        if wanted - there:
            raise UserError(f'{self.data_prefix["img_path"]} has no frames of '
                            f'{", ".join(sorted(wanted - there))}; its '
                            f'recordings are: {", ".join(sorted(there))}')
        return sorted((info for info in found if recording(info) in wanted),
                      key=lambda info: info['img_path'])


def split(info: dict) -> str:
    """The folder that an image lies in: train, val or test."""
    return osp.basename(osp.dirname(info['img_path']))


def recording(info: dict) -> str:
    """The recording that a frame is from, by the name of its file."""
    return osp.basename(info['img_path']).split('_')[0]
