"""A teacher that sees more pixels than the student, against the files."""
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SIZE, build_runner, forget_instances, preprocessor
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import init_default_scope
from mmseg.structures import SegDataSample
from test_cache import trained
from torch import nn

from seg_kd.analysis.cache_deviation import deviations
from seg_kd.datasets import SeededDataset, show_finer
from seg_kd.doctor.experiment import Experiment
from seg_kd.engine.culprits import bad_teacher
from seg_kd.engine.evaluate import evaluate_teacher
from seg_kd.errors import UserError
from seg_kd.hooks import TeacherHook
from seg_kd.hooks.teacher import FinerImages
from seg_kd.registry import DATASETS, MODELS
from seg_kd.teacher.cache.cache import TeacherCache
from seg_kd.teacher.cache.map_store import MapStore
from seg_kd.teacher.cache.replay import split, strides
from seg_kd.teacher.cache.whole_images import WholeImages
from seg_kd.teacher.teacher import Teacher

LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
HALF = dict(type='Resize', scale=(SIZE[1] // 2, SIZE[0] // 2))
FLIPS = [
    dict(type='HorizontalFlip', p=0.5),
    dict(type='VerticalFlip', p=0.5),
]
JITTER = dict(type='ColorJitter', p=1.)


def crop(height, width, **more):
    return dict(type='CropWithClassCap', height=height, width=width, **more)


def write(folder: Path, blocks: int, size=SIZE, count: int = 4) -> Path:
    """Noise in squares of ``blocks`` pixels."""
    rng = np.random.default_rng(0)
    for kind in ('images', 'labels'):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        small = [-(-n // blocks) for n in size]
        image = rng.integers(0, 256, (*small, 3), dtype=np.uint8)
        image = image.repeat(blocks, 0).repeat(blocks, 1)[:size[0], :size[1]]
        cv2.imwrite(str(folder / f'images/{i}.png'), image)
        label = rng.integers(0, 4, size, dtype=np.uint8)
        cv2.imwrite(str(folder / f'labels/{i}.png'), label)
    return folder


def build(root: Path, fixed: list, moves: list) -> SeededDataset:
    init_default_scope('mmseg')
    pipeline = [
        *fixed,
        dict(type='Albumentations', transforms=moves),
        dict(type='PackSegInputs')
    ]
    return SeededDataset(
        DATASETS.build(
            dict(type='BaseSegDataset',
                 data_root=str(root),
                 metainfo=dict(classes=list('abcd')),
                 data_prefix=dict(img_path='images', seg_map_path='labels'),
                 img_suffix='.png',
                 seg_map_suffix='.png',
                 pipeline=pipeline)))


def blown_up(image, times=2):
    return image.repeat_interleave(times, 1).repeat_interleave(times, 2)


def places(whole, crop):
    """All (flip dims, y, x) that make a crop of an image, by its pixels."""
    height, width = crop.shape[1:]
    for dims in ((), (1, ), (2, ), (1, 2)):
        moved = whole.flip(dims)
        for y in range(whole.shape[1] - height + 1):
            for x in range(whole.shape[2] - width + 1):
                if torch.equal(moved[:, y:y + height, x:x + width], crop):
                    yield dims, y, x


def picture(root, index, size, how=cv2.INTER_LINEAR):
    image = cv2.imread(str(root / f'images/{index}.png'))
    image = cv2.resize(image, size[::-1], interpolation=how)
    return torch.from_numpy(image).movedim(2, 0)


# -- images ----------------------------------------------------------------


@pytest.mark.parametrize('kept', ['in memory', 'on disk'])
@pytest.mark.parametrize('colours', [[], [JITTER]])
def test_the_same_crop_flips_and_colours(tmp_path, kept, colours):
    """Of an image in squares of 2 x 2 pixels the half is the same picture."""
    folder = str(tmp_path / 'cached') if kept == 'on disk' else None
    fixed = [dict(type='Cached', transforms=[*LOAD, HALF], folder=folder)]
    moves = [*FLIPS, crop(15, 21), *colours, FLIPS[0]]
    root = write(tmp_path / 'data', blocks=2)
    alone = build(root, fixed, moves)
    plain = [alone[i % 4, i] for i in range(8)]
    assert 'finer' not in plain[0]['data_samples']
    both = build(root, fixed, moves)
    show_finer(both, 2)
    for i in range(8):
        sample = both[i % 4, i]
        assert torch.equal(sample['inputs'], plain[i]['inputs'])
        finer = sample['data_samples'].finer
        off = (finer.int() - blown_up(sample['inputs']).int()).abs()
        assert off.max() <= (2 if colours else 0)  # OpenCV rounds colours


@pytest.mark.parametrize('size', [SIZE, (SIZE[0] + 1, SIZE[1] + 3)])
@pytest.mark.parametrize('how', ['resize', 'scale', 'scale apart'])
def test_what_the_student_lost_is_there(tmp_path, how, size):
    """In a resize, or in a random scaling; files of odd sizes too."""
    root, cut = write(tmp_path, 1, size), crop(15, 21)
    down = dict(type='RandomScale',
                scale_limit=(-.5, -.5),
                p=1.,
                area_for_downscale='image')
    half = [n // 2 for n in (SIZE if how == 'resize' else size)]
    fixed, moves = LOAD, [down, *FLIPS, cut]
    if how != 'scale apart':  # the scale and the crop are one transform
        moves = [*FLIPS, down, cut]
    if how == 'resize':
        fixed, moves = [*LOAD, HALF], [*FLIPS, cut]
    both = build(root, fixed, moves)
    show_finer(both, 2)
    for i in range(4):
        sample = both[i, i]
        finer = sample['data_samples'].finer
        whole = picture(root, i, [2 * n for n in half], cv2.INTER_AREA)
        (dims, y, x), = places(whole, finer)
        assert y % 2 == x % 2 == 0
        kind = cv2.INTER_LINEAR if how == 'resize' else cv2.INTER_AREA
        small = picture(root, i, half, kind).flip(dims)
        y, x = y // 2, x // 2
        assert torch.equal(small[:, y:y + 15, x:x + 21], sample['inputs'])


def test_padded_crops(tmp_path):
    both = build(write(tmp_path, 2), [*LOAD, HALF],
                 [crop(40, 40, fill=(1, 2, 3)), FLIPS[1]])
    show_finer(both, 2)
    for i in range(4):
        sample = both[i, i]
        finer = sample['data_samples'].finer
        assert torch.equal(finer, blown_up(sample['inputs']))
        assert (finer == torch.tensor([3, 2, 1])[:, None, None]).all(0).any()


def test_small_files_are_enlarged_and_that_is_said(tmp_path, capfd):
    """In one step: also where the student's is enlarged already."""
    up = dict(type='RandomScale', scale_limit=(1., 1.), p=1.)
    both = build(write(tmp_path, 1), LOAD, [up, crop(20, 20)])
    show_finer(both, 2)
    said = ''.join(capfd.readouterr())
    assert 'has 64 x 96 pixels, fewer than 2 times the 64 x 96' in said
    image = cv2.imread(str(tmp_path / 'images/0.png'))
    image = torch.from_numpy(image).movedim(2, 0)[None].float()
    whole = F.interpolate(image, scale_factor=4, mode='bilinear')[0].round()
    finer = both[0, 0]['data_samples'].finer.float()
    best = min((whole[:, y:y + 40, x:x + 40] - finer).abs().max().item()
               for y in range(0, 256 - 39, 2) for x in range(0, 384 - 39, 2))
    assert finer.shape == (3, 40, 40) and best <= 4  # 1/32 of a pixel


@pytest.mark.parametrize('pipeline, expected', [
    ([dict(type='RandomFlip', prob=.5)], 'cannot follow RandomFlip of'),
    ([dict(type='Albumentations', transforms=[dict(type='Affine')])
      ], 'cannot follow Affine .* CropWithClassCap and of colours'),
    ([dict(type='Albumentations', transforms=[dict(type='GaussNoise')])
      ], 'cannot follow GaussNoise'),
])
def test_other_augmentation_cannot_be_followed(tmp_path, pipeline, expected):
    both = build(write(tmp_path, 2, count=1), [*LOAD, *pipeline], FLIPS)
    with pytest.raises(UserError, match=expected):
        show_finer(both, 2)


# -- maps ------------------------------------------------------------------


class Means(nn.Sequential):
    """A "teacher" whose map is the mean of each 4 x 4 pixels."""

    def __init__(self):
        super().__init__(nn.AvgPool2d(4, ceil_mode=True))


def means_of(root, index, dims, y, x, size):
    """Of 4 x 4 pixels of the half image, from the pixels of the file."""
    image = cv2.imread(str(root / f'images/{index}.png'))
    image = torch.from_numpy(image).movedim(2, 0).double().flip(dims)
    return torch.stack([
        torch.stack([
            image[:, 2 * y + 8 * i:2 * min(y + 4 * i + 4, y + size[0]),
                  2 * x + 8 * j:2 * min(x + 4 * j + 4, x + size[1])].mean(
                      (1, 2)) for j in range(-(-size[1] // 4))
        ]) for i in range(-(-size[0] // 4))
    ]).permute(2, 0, 1)


def test_images_of_several_sizes_are_padded_as_the_students_are():
    prepare = MODELS.build(
        dict(preprocessor(), size=(20, 30), pad_val=7, bgr_to_rgb=False))
    sizes = (20, 30), (13, 30), (20, 9)
    given = [torch.randint(256, (3, *s), dtype=torch.uint8) for s in sizes]
    samples = [SegDataSample(metainfo=dict(finer=blown_up(x))) for x in given]
    images = prepare(dict(inputs=given, data_samples=samples),
                     training=True)['inputs']
    finer = FinerImages(prepare, 2)(images, samples)
    assert torch.equal(finer,
                       images.repeat_interleave(2, 2).repeat_interleave(2, 3))


@pytest.mark.parametrize('size, batch', [((16, 24), 2), ((15, 22), 1)])
def test_maps_without_a_cache(tmp_path, size, batch):
    """A last row or column of fewer pixels weighs them otherwise."""
    root = write(tmp_path, 1)
    both = build(root, [*LOAD, HALF], [*FLIPS, crop(*size)])
    show_finer(both, 2)
    prepare = MODELS.build(
        dict(type='SegDataPreProcessor', size=size, pad_val=0))
    teacher = Teacher(Means(), scale=2, finer=FinerImages(prepare, 2))
    given = torch.zeros(1, 3, *size)
    assert teacher.tap(['0'], given)['0'][2:] == (4, 6)
    for i in range(0, 4, batch):
        data = pseudo_collate([both[k, k] for k in range(i, i + batch)])
        raw = data['inputs']
        data = prepare(data, training=True)
        maps = teacher(data['inputs'], None, data['data_samples']).maps['0']
        for k, sample, found in zip(range(i, i + batch), raw, maps):
            (dims, y, x), = places(picture(root, k, (32, 48)), sample)
            expected = means_of(root, k, dims, y, x, size)
            assert found.shape == expected.shape
            inside = ..., slice(size[0] // 4), slice(size[1] // 4)
            torch.testing.assert_close(found[inside].double(),
                                       expected[inside],
                                       rtol=0,
                                       atol=1e-4)


@pytest.mark.parametrize('height', [7, 8, 9])
def test_gradients_are_averaged_too(height):
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 5, 1))
    prepared = torch.randn(2, 3, 2 * height, 20)
    teacher = Teacher(network, scale=2, finer=lambda images, samples: samples)
    images = torch.zeros(2, 3, height, 10)
    shapes = teacher.tap(['0', '1'], images, {'1': ['0']})
    labels = torch.randint(5, (2, height, 10))
    step = teacher(images, labels, prepared)
    assert {k: v.shape for k, v in step.maps.items()} == shapes
    kept = network[0](prepared).detach().requires_grad_()
    logits = F.interpolate(network[1](kept), (height, 10), mode='bilinear')
    task = F.cross_entropy(logits, labels, reduction='sum')
    gradient, = torch.autograd.grad(task, kept)
    for found, fine in ((step.maps['0'], kept), (step.gradients['1', '0'],
                                                 gradient)):
        assert found.shape == shapes['0'] and not found.requires_grad
        inside = ..., slice(height // 2), slice(5)
        torch.testing.assert_close(
            found[inside],
            F.interpolate(fine[..., :height // 2 * 2, :],
                          scale_factor=.5,
                          mode='area')[inside])


def test_maps_of_a_cache(tmp_path):
    root, size = write(tmp_path / 'data', 1), (16, 24)
    dataset = build(root, [*LOAD, HALF], [*FLIPS, crop(*size, stride=4)])
    fixed, _ = split(dataset.pipeline.transforms)
    prepare = MODELS.build(
        dict(type='SegDataPreProcessor', size=size, pad_val=0))
    images = WholeImages(dataset, fixed, prepare, 2)
    assert images.size == (32, 48) and images(0).shape == (1, 3, 64, 96)
    teacher = Teacher(Means(), scale=2)
    teacher.tap(['0'], images(0))
    shapes = {p: m.shape[1:] for p, m in teacher.maps(images(0)).items()}
    assert shapes == {'0': (3, 8, 12)}
    store = MapStore(str(tmp_path / 'maps'), shapes, 4, 1., torch.float32)
    teacher.cache = TeacherCache(teacher.maps, images,
                                 strides(images.size, shapes), store,
                                 torch.float32)
    for i in range(8):
        sample = dataset[i % 4, i]
        step = teacher(torch.zeros(1, 3, *size), None,
                       [sample['data_samples']])
        (dims, y, x), = places(picture(root, i % 4, (32, 48)),
                               sample['inputs'])
        torch.testing.assert_close(step.maps['0'][0].double(),
                                   means_of(root, i % 4, dims, y, x, size),
                                   rtol=0,
                                   atol=1e-4)


# -- trainings -------------------------------------------------------------


@pytest.fixture
def config(ka_config):
    """KA in one stage; the student sees the half of 64 x 96 pixels."""
    ka_config.pop('stages')
    ka_config.custom_hooks[0].update(scale=2., fold_bn=False, cache=False)
    ka_config.custom_hooks[1].translator = None
    ka_config.model.data_preprocessor.size = (32, 48)
    ka_config.train_dataloader.dataset.pipeline = [
        *LOAD, HALF, dict(type='PackSegInputs')
    ]
    ka_config.train_cfg.max_iters = 2
    return ka_config


def test_the_cache_changes_nothing_of_whole_images(config, tmp_path):
    config.train_dataloader.batch_size = 1
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        config.pop(key)
    plain = trained(config, tmp_path / 'plain/run')
    config.custom_hooks[0].cache = dict(dtype='float32')
    cached = trained(config, tmp_path / 'cached/run')
    assert cached[0] == plain[0] and len(plain[0]) == 2
    assert all(torch.equal(plain[1][k], v) for k, v in cached[1].items())
    config.custom_hooks[0].scale = 1.
    coarse = trained(config, tmp_path / 'cached/coarse')
    assert coarse[0] != cached[0]
    assert len([*(tmp_path / 'cached/teacher_cache').iterdir()]) == 2


def moved(config, *moves):
    transforms = [*FLIPS, *moves]
    config.train_dataloader.dataset.pipeline = [
        *LOAD, HALF,
        dict(type='Albumentations', transforms=transforms),
        dict(type='PackSegInputs')
    ]
    config.model.data_preprocessor.size = (16, 24)
    return config


def test_unlabelled_images_a_look_before_and_a_validation(config, tmp_path):
    moved(config, JITTER, crop(16, 24))
    more = write(tmp_path / 'more', 1, count=2) / 'images'
    config.train_dataloader.unlabelled = dict(img_path=str(more), ratio=1.)
    config.custom_hooks[0].evaluate = True
    config.train_cfg.val_interval = 1
    runner = build_runner(config)
    hook = next(h for h in runner.hooks if isinstance(h, TeacherHook))
    sizes = []
    hook.network.backbone.register_forward_pre_hook(
        lambda module, args: sizes.append(tuple(args[0].shape)))
    runner.train()
    assert bad_teacher(runner, next(iter(runner.train_dataloader))) is None
    assert sizes.pop() == (4, 3, 32, 48)
    # val images of 64 x 96 are not made smaller for the student
    assert sizes == 3 * [(1, 3, 128, 192)] + 2 * [(4, 3, 32, 48)]
    config = Config(config.to_dict())
    config.test_dataloader.dataset.pipeline = [
        LOAD[0], HALF, LOAD[1],
        dict(type='PackSegInputs')
    ]
    whole = Config(config.to_dict())
    whole.custom_hooks[0].scale = 1.
    whole.test_dataloader.dataset.pipeline.pop(1)
    forget_instances()
    finer = evaluate_teacher(config)
    forget_instances()
    assert finer == evaluate_teacher(whole)


def test_doctor_and_deviation_look_at_the_finer_view(config, tmp_path):
    moved(config, crop(16, 24, stride=8)).custom_hooks[0].cache = True
    found = deviations(config, ['decode_head.conv_seg'], (16, 24), 8, 2)
    assert all(0 < off < 1 for off, _ in found.values())
    look = Experiment(config, str(tmp_path / 'doctor'))
    teacher = look.distiller.teachers['teacher']
    said, = look.predictions.values()
    data = look._prepared[0]
    finer = torch.stack([s.finer for s in data['data_samples']])
    images = look.model.data_preprocessor(dict(inputs=[*finer]))['inputs']
    logits = teacher.network.encode_decode(images, [dict(img_shape=(32, 48))] *
                                           len(images))
    assert torch.equal(said[0], logits.argmax(1)[:, ::2, ::2])


@pytest.mark.parametrize(
    'scale', [0, 0.5, 1.5, -2.,
              float('nan'),
              float('inf'), '2', True, None])
def test_a_scale_is_a_whole_number(scale):
    with pytest.raises(UserError, match='scale of a teacher is a whole numb'):
        TeacherHook({}, scale=scale)


def test_a_cache_that_cannot_follow_is_an_error(config):
    moved(config, JITTER, crop(16, 24)).custom_hooks[0].cache = True
    with pytest.raises(UserError, match='after ColorJitter.*cache=False'):
        build_runner(config).train()


def test_what_else_is_refused(config):
    other = dict(config.custom_hooks[0], name='other', scale=3.)
    config.custom_hooks = [
        *config.custom_hooks, other,
        dict(config.custom_hooks[1], name='more', teacher_name='other')
    ]
    config.custom_hooks[1].teacher_name = 'teacher'
    with pytest.raises(UserError, match='a pipeline of its own.* not a list'):
        show_finer([], 2)
    with pytest.raises(UserError, match=r'of several scales, \[2, 3\]'):
        build_runner(config).train()
    images = torch.zeros(1, 3, 8, 8)
    with pytest.raises(UserError, match='scale=2 needs finer='):
        Teacher(Means(), scale=2)(images)
    prepare = MODELS.build(preprocessor())
    with pytest.raises(UserError, match='brings no images for .* scale=2'):
        Teacher(Means(), scale=2, finer=FinerImages(prepare, 2))(images)
    prepare.batch_augments = print
    with pytest.raises(UserError, match='batch_augments'):
        FinerImages(prepare, 2)(images, None)
