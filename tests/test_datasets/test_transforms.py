"""Augmentation: image and mask in step, the seed in charge, crops capped."""
import itertools

import albumentations
import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmseg.registry import DATASETS, TRANSFORMS
from torch.utils.data import DataLoader

from seg_kd.datasets import CropWithClassCap, SeededDataset, SeededSampler
from seg_kd.datasets.transforms import ScaledCrop
from seg_kd.engine.complete import resolve
from seg_kd.errors import UserError

GEOMETRY = [
    dict(type='RandomScale', scale_limit=(-0.5, 1.), interpolation=0, p=1.),
    dict(type='CropWithClassCap', height=24, width=40, fill=(255, ) * 3),
    dict(type='HorizontalFlip', p=0.5)
]


def augment(transforms=GEOMETRY):
    return TRANSFORMS.build(dict(type='Albumentations', transforms=transforms))


def sample(height, width, seed=0):
    """An image whose channels all equal the label."""
    rng = np.random.default_rng(seed)
    label = rng.integers(0, 200, (height, width), dtype=np.uint8)
    image = np.repeat(label[..., None], 3, -1)
    return dict(img=image,
                gt_seg_map=label,
                img_shape=label.shape,
                ori_shape=label.shape,
                seg_fields=['gt_seg_map'])


@pytest.mark.parametrize('size', [(24, 40), (37, 53), (11, 91), (5, 3)])
def test_image_and_mask_stay_in_step(size):
    np.random.seed(0)
    transform = augment()
    for seed in range(10):
        out = transform(sample(*size, seed))
        image, label = out['img'], out['gt_seg_map']
        assert label.shape == (24, 40) and image.shape == (24, 40, 3)
        np.testing.assert_array_equal(image, np.repeat(label[..., None], 3, 2))
        assert out['img_shape'] == out['pad_shape'] == (24, 40)


def test_mask_holds_no_new_values():
    np.random.seed(0)
    image = sample(30, 50)
    image['gt_seg_map'] = np.where(image['gt_seg_map'] < 100, 0,
                                   18).astype(np.uint8)
    transform = augment([dict(GEOMETRY[0], interpolation=1), *GEOMETRY[1:]])
    for _ in range(10):
        out = transform(dict(image))
        assert set(np.unique(out['gt_seg_map']).tolist()) <= {0, 18, 255}


@pytest.mark.parametrize(
    'transforms',
    [
        GEOMETRY,  # draws from albumentations' python generator
        [dict(type='GaussNoise', p=1.)]  # from its numpy generator
    ])
def test_numpy_seed_decides(transforms):
    transform, outs = augment(transforms), []
    for seed in (4, 4, 5):
        np.random.seed(seed)
        outs.append(transform(sample(60, 70))['img'])
    assert (outs[0] == outs[1]).all() and (outs[0] != outs[2]).any()


def test_transforms_draw_independently():
    """albumentations' own set_random_seed would correlate them fully."""
    flips = [
        dict(type=f'{way}Flip', p=0.5) for way in ('Horizontal', 'Vertical')
    ]
    transform, seen = augment(flips), set()
    image = sample(2, 2)['gt_seg_map']
    for seed in range(30):
        np.random.seed(seed)
        seen.add(transform(sample(2, 2))['gt_seg_map'].tobytes())
    assert len(seen) == 4 and image.tobytes() in seen


def test_channels_keep_their_order():
    np.random.seed(0)
    image = sample(24, 40)
    image['img'] = np.full((24, 40, 3), (10, 20, 30), np.uint8)
    assert augment(GEOMETRY[1:])(image)['img'][0, 0].tolist() == [10, 20, 30]


def test_crop_caps_the_most_frequent_class():
    label = np.zeros((40, 400), np.uint8)
    label[:, 200:] = np.arange(200) // 10  # the right half is varied
    crop = CropWithClassCap(40, 40, max_ratio=0.75)
    tops = []
    for seed in range(40):
        crop.set_random_seed(seed)
        out = crop(image=np.zeros((40, 400, 3), np.uint8), mask=label)['mask']
        tops.append(np.bincount(out.ravel()).max() / out.size)
    assert np.mean(np.array(tops) < 0.75) > 0.95  # free choice: about half


def test_ignored_pixels_do_not_count_for_the_cap():
    label = np.full((8, 8), 255, np.uint8)
    label[0, :4] = (0, 0, 1, 1)
    assert CropWithClassCap(8, 8)._varied(label)
    label[0, :4] = 0
    assert not CropWithClassCap(8, 8)._varied(label)
    assert not CropWithClassCap(8, 8)._varied(np.full_like(label, 255))


def test_small_images_are_padded_with_mean_and_ignored():
    out = CropWithClassCap(4, 6, ignore_index=254)(image=np.zeros((3, 5, 3),
                                                                  np.uint8),
                                                   mask=np.zeros((3, 5),
                                                                 np.uint8))
    assert out['image'][3, 5].tolist() == [124, 116, 104]
    assert (out['mask'] == 254).sum() == 4 * 6 - 3 * 5


def test_unknown_transform_names_the_nearest():
    with pytest.raises(UserError, match='RandomScale'):
        augment([dict(type='RandomScales')])
    assert hasattr(albumentations, 'RandomScale')


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp('camvid')
    for kind in ('images/train', 'labels/train'):
        (root / kind).mkdir(parents=True)
    for i in range(5):
        label = sample(31 + i, 45, i)['gt_seg_map'] % 11
        image = np.repeat(label[..., None] * 20, 3, -1)
        cv2.imwrite(str(root / f'images/train/{i}.png'), image)
        cv2.imwrite(str(root / f'labels/train/{i}.png'), label)
    return root


def loaded(folder, workers, skip=0):
    """Nine samples of the shipped training pipeline."""
    cfg = Config.fromfile('configs/_base_/datasets/camvid.py')
    resolve(cfg)
    cfg = cfg.train_dataloader.dataset
    cfg.data_root = str(folder)
    cfg.pipeline[1].transforms[1].update(height=24, width=40)
    dataset = SeededDataset(DATASETS.build(dict(cfg, _scope_='mmseg')))
    sampler = SeededSampler(dataset, seed=3)
    sampler.skip(skip)
    loader = DataLoader(dataset,
                        3,
                        sampler=sampler,
                        num_workers=workers,
                        collate_fn=list)
    batches = itertools.islice(loader, (9 - skip) // 3)
    samples = itertools.chain(*batches)
    return [(s['inputs'].numpy().tobytes(),
             s['data_samples'].gt_sem_seg.data.numpy().tobytes())
            for s in samples]


def test_same_samples_with_workers_and_after_resume(folder, monkeypatch,
                                                    request):
    monkeypatch.chdir(request.config.rootpath)
    whole = loaded(folder, workers=0)
    assert len(set(whole)) == 9
    assert loaded(folder, workers=2) == whole
    assert loaded(folder, workers=2, skip=3) == whole[3:]


@pytest.mark.parametrize('size', [(60, 90), (37, 53), (24, 40), (20, 90)])
def test_scale_and_crop_as_one(size):
    """The same draws and labels; of an enlarged image the same but for
    rounding, of others all the same."""
    scale = dict(GEOMETRY[0], interpolation=1, area_for_downscale='image')
    crop = dict(GEOMETRY[1], max_ratio=.1)
    joined, apart = augment([scale, crop]), augment([scale, crop])
    assert [type(t) for t in joined.aug.transforms] == [ScaledCrop]
    move, = apart.aug.transforms
    apart.aug.transforms[:] = [
        move.scale, CropWithClassCap(24, 40, .1, fill=(255, ) * 3)
    ]
    worst, smaller = 0, 0
    for seed in range(40):
        results = []
        for transform in (joined, apart):
            np.random.seed(seed)
            # blocks, so that some crops are too uniform
            label = sample(*size, seed)['gt_seg_map'] // 9 // 9
            image = sample(*size, seed)
            image['gt_seg_map'] = label
            results.append(transform(image))
        one, two = results
        np.testing.assert_array_equal(one['gt_seg_map'], two['gt_seg_map'])
        assert one['geometry'] == two['geometry']
        gap = np.abs(one['img'].astype(int) - two['img']).max()
        if joined.aug.transforms[0].params['factor'] <= 1:
            assert gap == 0
            smaller += 1
        worst = max(worst, gap)
    assert worst <= 1 and smaller


@pytest.mark.parametrize('change', [
    dict(p=.5),
    dict(interpolation=2),
    dict(mask_interpolation=1),
    dict(area_for_downscale='image_mask')
])
def test_other_scales_are_not_joined(change):
    made = augment([{
        **GEOMETRY[0], 'interpolation': 1,
        **change
    }, GEOMETRY[1]])
    assert len(made.aug.transforms) == 2
