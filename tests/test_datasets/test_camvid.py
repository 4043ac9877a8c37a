"""CamVidDataset: which files it finds, and what the real ones hold."""
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from mmseg.registry import DATASETS

from seg_kd.errors import UserError

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


def frames(root: Path, *names: str) -> Path:
    """Frames and labels as CamVid names them, ``split/name``."""
    for name in names:
        for folder in ('images', 'labels'):
            path = root / folder / f'{name}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.zeros((4, 6), np.uint8))
    return root


BOTH = dict(img_path='images', seg_map_path='labels')


def names(dataset):
    infos = map(dataset.get_data_info, range(len(dataset)))
    return [Path(info['img_path']).stem for info in infos]


def test_splits_by_recording_and_leaves_test_images_out(tmp_path):
    frames(tmp_path, 'train/0001TP_1', 'train/0016E5_1', 'val/0016E5_2',
           'test/0001TP_9')
    given = dict(data_prefix=BOTH, splits=('train', 'val'))
    seen = build(tmp_path, recordings=['0016E5'], **given)
    assert names(seen) == ['0016E5_1', '0016E5_2']
    unseen = build(tmp_path, recordings=['0001TP'], **given)
    assert names(unseen) == ['0001TP_1']
    pair = unseen.get_data_info(0)
    assert Path(pair['seg_map_path']).relative_to(tmp_path) == Path(
        'labels/train/0001TP_1.png')


def test_a_recording_without_frames_is_named_with_those_there(tmp_path):
    frames(tmp_path, 'train/0001TP_1', 'val/0016E5_1')
    with pytest.raises(UserError, match='no frames of 0006RO.*0001TP, 0016E5'):
        build(tmp_path, data_prefix=BOTH, recordings=['0001TP', '0006RO'])


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


@pytest.mark.skipif(not REAL.is_dir(),
                    reason=f'no CamVid at {REAL} (set SEG_KD_CAMVID)')
def test_every_labelled_frame_is_of_one_of_three_recordings():
    count = {
        name:
        len(
            build(REAL,
                  data_prefix=BOTH,
                  splits=['train', 'val'],
                  recordings=[name]))
        for name in ('0001TP', '0006R0', '0016E5')
    }
    assert count == {'0001TP': 62, '0006R0': 101, '0016E5': 305}
