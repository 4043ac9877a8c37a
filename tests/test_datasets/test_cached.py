"""A cached image is the image, and only what is fixed is cached."""
import copy

import cv2
import numpy as np
import pytest
from mmengine.registry import init_default_scope

from seg_kd.datasets import Cached, SeededDataset
from seg_kd.errors import UserError
from seg_kd.registry import DATASETS, TRANSFORMS

LOAD = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations'),
    dict(type='Resize', scale=(20, 12))
]
AUGMENT = [
    dict(type='Albumentations',
         transforms=[
             dict(type='HorizontalFlip', p=.5),
             dict(type='RandomBrightnessContrast', p=1.)
         ]),
    dict(type='PackSegInputs')
]


@pytest.fixture
def folder(tmp_path):
    init_default_scope('mmseg')
    for name, suffix, shape in (('images', 'jpg', (24, 40, 3)),
                                ('labels', 'png', (24, 40))):
        (tmp_path / name).mkdir()
        for i in range(3):
            content = np.random.default_rng(i).integers(0, 9, shape, np.uint8)
            cv2.imwrite(str(tmp_path / name / f'{i}.{suffix}'), content)
    return tmp_path


def dataset(folder, pipeline):
    return SeededDataset(
        DATASETS.build(
            dict(type='BaseSegDataset',
                 data_root=str(folder),
                 data_prefix=dict(img_path='images', seg_map_path='labels'),
                 metainfo=dict(classes=tuple('abcdefghi')),
                 pipeline=pipeline)))


def reading(folder, index=0):
    return dict(img_path=f'{folder}/images/{index}.jpg',
                seg_map_path=f'{folder}/labels/{index}.png',
                reduce_zero_label=False,
                label_map=None,
                seg_fields=[])


def cached(**settings) -> Cached:
    return TRANSFORMS.build(dict(type='Cached', **settings))


@pytest.fixture(params=['memory', 'disk'])
def where(request, tmp_path):
    """The arguments of a cache in memory, or on disk."""
    if request.param == 'memory':
        return {}
    return dict(folder=str(tmp_path / 'decoded'))


def test_samples_are_the_same_in_every_epoch(folder, where):
    plain = dataset(folder, LOAD + AUGMENT)
    kept = dataset(folder,
                   [dict(type='Cached', transforms=LOAD, **where), *AUGMENT])
    for draw in range(9):
        a, b = (data[draw % 3, draw] for data in (plain, kept))
        assert a['inputs'].equal(b['inputs'])
        assert a['data_samples'].gt_sem_seg.data.equal(
            b['data_samples'].gt_sem_seg.data)
        assert (a['data_samples'].metainfo_keys() ==
                b['data_samples'].metainfo_keys())
        assert a['inputs'].shape == (3, 12, 20)


def test_files_are_read_once(folder):
    transform = cached(transforms=LOAD)
    first = transform(reading(folder))
    (folder / 'images/0.jpg').unlink()
    (folder / 'labels/0.png').unlink()
    again = transform(reading(folder))
    assert np.array_equal(first['img'], again['img'])
    assert np.array_equal(first['gt_seg_map'], again['gt_seg_map'])


def test_what_comes_next_cannot_change_the_cache(folder, where):
    transform = cached(transforms=LOAD, **where)
    before = copy.deepcopy(transform(reading(folder)))
    spoilt = transform(reading(folder))
    spoilt['img'][:] = 0
    spoilt['seg_fields'].append('other')
    spoilt['flip'] = True
    again = transform(reading(folder))
    assert np.array_equal(before['img'], again['img'])
    assert again['seg_fields'] == before['seg_fields'] == ['gt_seg_map']
    assert 'flip' not in again


def test_no_more_is_kept_than_there_is_room_for(folder, caplog):
    image = 12 * 20 * 4  # bytes of image and labels
    transform = cached(transforms=LOAD, max_gib=2.5 * image / 2**30)
    for _ in range(2):
        for index in range(3):
            transform(reading(folder, index))
    assert transform.store.room == 0
    (folder / 'images/1.jpg').unlink()
    transform(reading(folder, 1))
    (folder / 'images/2.jpg').unlink()
    with pytest.raises(FileNotFoundError):
        transform(reading(folder, 2))


def test_disk_is_read_by_others_and_knows_changes(folder, tmp_path):
    decoded = str(tmp_path / 'decoded')
    first = cached(transforms=LOAD, folder=decoded)(reading(folder))
    other = cached(transforms=LOAD, folder=decoded)  # of another worker
    other.transforms = None  # not run
    given = dict(reading(folder), sample_idx=7)
    again = other(given)
    assert np.array_equal(first['img'], again['img'])
    assert again['sample_idx'] == 7 and again['ori_shape'] == (24, 40)
    assert again['seg_fields'] == ['gt_seg_map']
    image = folder / 'images/0.jpg'
    image.write_bytes((folder / 'images/1.jpg').read_bytes())
    changed = cached(transforms=LOAD, folder=decoded)(reading(folder))
    assert not np.array_equal(first['img'], changed['img'])
    assert len(list((tmp_path / 'decoded').iterdir())) == 2
    whole = cached(transforms=LOAD[:2], folder=decoded)(reading(folder))
    assert whole['img'].shape == (24, 40, 3)


def test_a_full_disk_is_left_alone(folder, tmp_path, monkeypatch):
    monkeypatch.setattr('seg_kd.datasets.cached.FREE', 2**60)
    transform = cached(transforms=LOAD, folder=str(tmp_path / 'decoded'))
    transform(reading(folder))
    assert not list((tmp_path / 'decoded').iterdir())


def test_random_transforms_are_refused(folder):
    transform = cached(transforms=LOAD + [dict(type='RandomFlip', prob=.5)])
    with pytest.raises(UserError, match=r'Cached\(.*RandomFlip\)'):
        transform(reading(folder))
    with pytest.raises(UserError, match='random'):
        cached(transforms=LOAD + AUGMENT[:1])(reading(folder))
