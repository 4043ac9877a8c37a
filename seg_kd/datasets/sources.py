"""Where each data set lives, comes from, and how many images it has."""
import os.path as osp
from typing import NamedTuple

from seg_kd.registry import type_name


class Source(NamedTuple):
    """One data set that the toolkit knows.

    ``counts`` are the official numbers of images; the last four are of the
    dataset config, with ``{}`` for the split.
    """
    root: str
    site: str
    command: str
    counts: dict[str, int]
    kind: str
    images: str
    labels: str
    ann_file: str = ''


CITYSCAPES = 'CityscapesDataset', 'leftImg8bit/{}', 'gtFine/{}'
SOURCES = dict(
    cityscapes=Source(
        'data/cityscapes', 'leftImg8bit_trainvaltest.zip and '
        'gtFine_trainvaltest.zip, https://www.cityscapes-dataset.com',
        'cityscapes leftImg8bit_trainvaltest.zip gtFine_trainvaltest.zip',
        dict(train=2975, val=500), *CITYSCAPES),
    voc=Source(
        'data/VOCdevkit/VOC2012', 'VOCtrainval_11-May-2012.tar, '
        'http://host.robots.ox.ac.uk/pascal/VOC/voc2012, and benchmark.tgz '
        '(SBD), http://home.bharathh.info/pubs/codes/SBD',
        'voc VOCtrainval_11-May-2012.tar benchmark.tgz',
        dict(trainaug=10582, val=1449), 'PascalVOCDataset', 'JPEGImages',
        'SegmentationClassAug', 'ImageSets/Segmentation/{}.txt'),
    camvid=Source(
        'data/camvid', 'http://mi.eng.cam.ac.uk/research/projects/VideoRec/'
        'CamVid, or a copy of it', 'camvid FOLDER',
        dict(train=367, val=101, test=233), 'CamVidDataset', 'images/{}',
        'labels/{}'),
    synthetic=Source('data/synthetic', 'nowhere, it is drawn from a seed',
                     'synthetic', dict(train=24, val=64), *CITYSCAPES),
)


def advice(cfg: dict) -> str:
    """What to do when the data of a config is missing."""
    root = osp.basename(osp.normpath(cfg.get('data_root') or ''))
    known = {s.kind: s for s in reversed(SOURCES.values())}
    source = known.get(type_name(cfg))
    if 'synthetic' in root:
        text = 'draw it: seg-kd prepare-data synthetic'
    elif source is None:
        return 'set data_root of the dataset to where it is'
    else:
        text = (f'get it from {source.site}, then run: '
                f'seg-kd prepare-data {source.command}')
        if source.kind == 'CityscapesDataset':
            text += (' (without the data, "seg-kd demo" or "make demo" shows '
                     'the toolkit at work)')
    return text + ' (see data/README.md)'


def split_config(kind: str, split: str, root: str = '') -> dict:
    """Config of one split of a known data set."""
    source = SOURCES[kind]
    return dict(type=source.kind,
                data_root=root or source.root,
                data_prefix=dict(img_path=source.images.format(split),
                                 seg_map_path=source.labels.format(split)),
                ann_file=source.ann_file.format(split))
