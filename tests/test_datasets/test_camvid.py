"""CamVidDataset: which files it finds, and what the real ones hold."""
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmseg.registry import DATASETS

REPOSITORY = Path(__file__).parents[2]
REAL = Path(os.environ.get('SEG_KD_CAMVID', REPOSITORY / 'data' / 'camvid'))


def build(root: Path, **kwargs):
    prefix = dict(img_path='images/val', seg_map_path='labels/val')
    cfg = dict(type='CamVidDataset',
               _scope_='mmseg',
               data_root=str(root),
               data_prefix=prefix)
    return DATASETS.build(dict(cfg, **kwargs))


def test_finds_jpg_and_png_by_name(tmp_path):
    for folder, name in (('images', 'b.jpg'), ('images', 'a.png'),
                         ('labels', 'a.png'), ('labels', 'b.png')):
        (tmp_path / folder / 'val').mkdir(parents=True, exist_ok=True)
        path = tmp_path / folder / 'val' / name
        cv2.imwrite(str(path), np.zeros((4, 6), np.uint8))
    (tmp_path / 'list.txt').write_text('b\n')
    dataset = build(tmp_path)
    pairs = [(Path(i['img_path']).name, Path(i['seg_map_path']).name)
             for i in map(dataset.get_data_info, range(len(dataset)))]
    assert pairs == [('a.png', 'a.png'), ('b.jpg', 'b.png')]
    assert len(build(tmp_path, ann_file='list.txt')) == 1


def test_classes_and_palette_belong_together():
    meta = DATASETS.get('CamVidDataset').METAINFO
    colours = dict(zip(meta['classes'], map(tuple, meta['palette'])))
    assert len(colours) == 11 == len(set(colours.values()))
    assert colours['road'] == (128, 64, 128)
    assert colours['bicyclist'] == (0, 128, 192)


@pytest.mark.skipif(not REAL.is_dir(),
                    reason=f'no CamVid at {REAL} (set SEG_KD_CAMVID)')
def test_real_images_have_sky_above_road():
    dataset = build(REAL, pipeline=[dict(type='LoadAnnotations')])
    labels = np.stack([dataset[i]['gt_seg_map'] for i in range(0, 101, 20)])
    assert len(dataset) == 101 and labels.shape[1:] == (360, 480)
    rows = [
        np.nonzero(labels == dataset.metainfo['classes'].index(c))[1].mean()
        for c in ('sky', 'tree', 'car', 'road')
    ]
    assert rows == sorted(rows)
