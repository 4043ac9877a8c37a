"""The cache of the teacher's maps, against a teacher that runs each time."""
import json
import os
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import SIZE, build_runner
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from processes import run_on_two_ranks
from torch import nn
from torch.utils.data import DataLoader

from seg_kd.analysis.cache_deviation import deviations
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError
from seg_kd.hooks import TeacherHook
from seg_kd.teacher.cache.cache import TeacherCache
from seg_kd.teacher.cache.map_store import MapStore
from seg_kd.teacher.cache.replay import replay

CROP = (32, 48)
PATH = 'decode_head.bottleneck'  # stride 8
LOAD = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
PACK = [dict(type='PackSegInputs')]
MOVES = [
    dict(type='HorizontalFlip', p=0.5),
    dict(type='VerticalFlip', p=0.5),
    dict(type='CropWithClassCap', height=CROP[0], width=CROP[1], stride=16),
    dict(type='HorizontalFlip', p=0.5),
]


def with_moves(config, moves=MOVES, size=CROP):
    config.train_dataloader.dataset.pipeline = [
        *LOAD, dict(type='Albumentations', transforms=moves), *PACK
    ]
    config.model.data_preprocessor.size = size
    return config


@pytest.fixture
def config(ka_config):
    """KA in one stage, on whole images as they are, all cached."""
    ka_config.pop('stages')
    ka_config.train_dataloader.dataset.pipeline = [*LOAD, *PACK]
    ka_config.custom_hooks[1].translator = None
    ka_config.custom_hooks[0].update(cache=dict(dtype='float32'),
                                     fold_bn=False)
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        ka_config.pop(key)
    return ka_config


def trained(config, work_dir, **cache):
    """Logged losses, final weights, and how many images the teacher saw."""
    config = Config(config.to_dict())
    config.work_dir = str(work_dir)
    for old in Path(work_dir).glob('*/vis_data'):  # of this second, maybe
        shutil.rmtree(old)
    if config.custom_hooks[0].cache:
        config.custom_hooks[0].cache.update(cache)
    runner = build_runner(config)
    hook = next(h for h in runner.hooks if isinstance(h, TeacherHook))
    seen = []
    hook.network.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(len(args[0])))
    model = runner.train()
    path, = Path(work_dir).glob('*/vis_data/scalars.json')
    logged = [json.loads(line) for line in path.read_text().splitlines()]
    losses = [{
        k: v
        for k, v in line.items() if 'loss' in k
    } for line in logged]
    return losses, model.state_dict(), sum(seen)


def teacher_of(config, work_dir=None):
    """The teacher of a runner at the beginning of its training."""
    config.work_dir = str(work_dir or config.work_dir)
    runner = build_runner(config)
    runner.student_hook.before_train(runner)
    return runner.distiller.teachers['teacher'], runner


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key in one:
        assert torch.equal(one[key], other[key]), key


def test_whole_images_train_as_without_a_cache(config, tmp_path):
    """6 images, 12 draws: the cached teacher sees each once, and the first
    once more before training. One image a batch: others would change the
    last digits of the uncached maps."""
    config.train_dataloader.batch_size = 1
    config.train_cfg.max_iters = 12
    cached = trained(config, tmp_path / 'cached/run')
    config.custom_hooks[0].cache = False
    plain = trained(config, tmp_path / 'plain/run')
    assert cached[0] == plain[0] and len(plain[0]) == 12
    assert_same(cached[1], plain[1])
    assert (cached[2], plain[2]) == (1 + 6, 12)


def test_images_without_labels_are_cached_too(config, tmp_path):
    """5 of those, 6 with labels: 4 batches of 2 and 3 show 6 and 5."""
    (tmp_path / 'more').mkdir()
    rng = np.random.default_rng(0)
    for i in range(5):
        image = rng.integers(0, 255, (*SIZE, 3), dtype=np.uint8)
        cv2.imwrite(str(tmp_path / f'more/{i}.png'), image)
    with_moves(config).train_dataloader.unlabelled = dict(img_path=str(
        tmp_path / 'more'),
                                                          ratio=1.5)
    config.train_cfg.max_iters = 4
    cached = trained(config, tmp_path / 'cached/run')
    again = trained(config, tmp_path / 'cached/run')
    none = trained(config, tmp_path / 'none/run', max_gib=0)
    assert (cached[2], again[2]) == (1 + 6 + 5, 1)
    for other in (again, none):
        assert cached[0] == other[0]
        assert_same(cached[1], other[1])


def test_half_precision_is_near(config, tmp_path):
    config.train_cfg.max_iters = 1
    half, = trained(config, tmp_path / 'half/run', dtype='float16')[0]
    full, = trained(config, tmp_path / 'full/run')[0]
    assert half == pytest.approx(full, rel=1e-3) and half != full


@pytest.mark.parametrize('dtype', ['float32', 'float16'])
def test_what_is_stored_does_not_matter(config, tmp_path, dtype):
    """Nothing fits, three of six images fit, all, and all are there."""
    with_moves(config).custom_hooks[0].cache.dtype = dtype
    none = trained(config, tmp_path / 'none/run', max_gib=0)
    half = trained(config, tmp_path / 'half/run', max_gib=slots(3, dtype))
    every = trained(config, tmp_path / 'every/run')
    again = trained(config, tmp_path / 'every/again')
    for other in (half, every, again):
        assert other[0] == none[0]
        assert_same(other[1], none[1])
    assert [run[2] for run in (none, half, every, again)
            ] == [1 + 12, 1 + 3 + 6, 1 + 6, 1]


def slots(count, dtype):
    size = 12 * SIZE[0] // 8 * SIZE[1] // 8 * getattr(torch, dtype).itemsize
    return count * (size + 8) / 2**30


def test_resumed_run_equals_an_unbroken_one(config, tmp_path):
    with_moves(config)
    whole = trained(config, tmp_path / 'whole/run')
    config.train_cfg.max_iters = 3
    trained(config, tmp_path / 'broken/run')
    config.update(resume=True,
                  load_from=str(tmp_path / 'broken/run/iter_3.pth'))
    config.train_cfg.max_iters = 6
    resumed = trained(config, tmp_path / 'broken/run')
    assert_same(resumed[1], whole[1])


def test_two_processes_share_a_cache(config, tmp_path):
    """Both end alike, and as if nothing was stored; each image is once."""
    with_moves(config).custom_hooks.append(dict(type='RankSaver'))
    ends = []
    for gib in (0, 1):
        config.custom_hooks[0].cache.max_gib = gib
        folder = tmp_path / str(gib)
        folder.mkdir()
        run_on_two_ranks(config, RANK_SAVER, folder)
        ends += [torch.load(x) for x in sorted(folder.rglob('rank?.pth'))]
    assert [end.pop('stored') for end in ends] == [0, 0, 6, 6]
    for end in ends[1:]:
        assert_same(end, ends[0])


RANK_SAVER = '''
import torch
from mmengine.dist import barrier
from mmengine.hooks import Hook
from seg_kd.hooks import TeacherHook
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class RankSaver(Hook):
    """Saves what each rank ends with, and counts what is stored."""
    priority = 'LOWEST'

    def after_train(self, runner):
        barrier()
        store = runner.distiller.teachers['teacher'].cache.store
        end = {k: v.detach() for k, v in runner.model.named_parameters()}
        end['stored'] = sum(i in store for i in range(6))
        torch.save(end, f'rank{runner.rank}.pth')
'''


def test_stages_share_a_cache(ka_config, tmp_path):
    with_moves(ka_config).custom_hooks[0].cache = True
    for stage in ka_config.stages:
        if 'custom_hooks' in stage:
            stage.custom_hooks[0].cache = True
    ka_config.train_cfg.max_iters = 1
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        ka_config.pop(key)
    run_stages(ka_config, str(tmp_path / 'ka'))
    assert len(os.listdir(tmp_path / 'ka/teacher_cache')) == 1


# -- geometry --------------------------------------------------------------


def whereabouts(image, crop):
    """All (flip dims, y, x) that make a crop of an image, by its pixels."""
    height, width = crop.shape[1:]
    for dims in ((), (1, ), (2, ), (1, 2)):
        moved = image.flip(dims)
        for y in range(0, image.shape[1] - height + 1, 8):
            for x in range(0, image.shape[2] - width + 1, 8):
                if torch.equal(moved[:, y:y + height, x:x + width], crop):
                    yield dims, y, x


@pytest.mark.parametrize('workers', [0, 2])
def test_maps_move_as_the_pixels_do(config, workers):
    """The draw is found again by pixels alone, not by what was recorded."""
    config.custom_hooks[0].fold_bn = True
    teacher, runner = teacher_of(with_moves(config))
    dataset = runner.train_dataloader.dataset
    loader = DataLoader(dataset,
                        batch_size=2,
                        num_workers=workers,
                        collate_fn=pseudo_collate,
                        sampler=[(i % 6, i) for i in range(12)])
    seen = set()
    for batch in loader:
        maps = teacher.cache.maps(batch['data_samples'])[PATH]
        for crop, sample, found in zip(batch['inputs'], batch['data_samples'],
                                       maps):
            image = torch.from_numpy(cv2.imread(sample.img_path)).movedim(2, 0)
            whole = teacher.maps(
                runner.model.data_preprocessor(
                    dict(inputs=[image]))['inputs'])[PATH][0]
            (dims, y, x), = whereabouts(image, crop)
            seen.add((dims, y, x))
            expected = whole.flip(dims)[:, y // 8:(y + CROP[0]) // 8,
                                        x // 8:(x + CROP[1]) // 8]
            assert torch.equal(found, expected)
    assert len(seen) > 6 and len({dims for dims, *_ in seen}) == 4
    assert all(y % 16 == 0 and x % 16 == 0 for _, y, x in seen)


@pytest.mark.parametrize('behind', [
    dict(type='Albumentations',
         transforms=[dict(type='ColorJitter', brightness=(.2, .4), p=1.)]),
    dict(type='PhotoMetricDistortion', brightness_delta=99),
])
def test_the_teacher_of_a_cache_sees_an_image_in_its_own_colours(
        config, behind):
    config.custom_hooks[0].cache.ignore_colours = True
    pipeline = with_moves(config).train_dataloader.dataset.pipeline
    pipeline.insert(-1, behind)
    teacher, runner = teacher_of(config)
    changed = 0
    for k in range(6):
        sample = runner.train_dataloader.dataset[k, k]
        own, meta = sample['inputs'], sample['data_samples']
        image = torch.from_numpy(cv2.imread(meta.img_path)).movedim(2, 0)
        changed += (replay(image, meta.geometry, 1) != own).any().item()
        whole = teacher.maps(
            runner.model.data_preprocessor(
                dict(inputs=[image]))['inputs'])[PATH][0]
        found, = teacher.cache.maps([meta])[PATH]
        assert torch.equal(found, replay(whole, meta.geometry, 8))
    assert changed > 3


def test_inside_a_crop_the_teacher_would_say_the_same(tmp_path):
    """Away from the borders, by the receptive field of a small teacher."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3, 2, 1), nn.ReLU(),
                            nn.Conv2d(4, 5, 3, 2, 1)).double()
    image = torch.randn(1, 3, 32, 48).double()
    y, x, height, width = 8, 12, 20, 28
    alone = network(image[:, :, y:y + height, x:x + width])[0]
    moved = replay(network(image)[0], [('crop', y, x, height, width)], 4)
    assert moved.shape == alone.shape == (5, 5, 7)
    torch.testing.assert_close(moved[:, 1:, 1:],
                               alone[:, 1:, 1:],
                               rtol=0,
                               atol=1e-15)
    assert (moved[:, 0] - alone[:, 0]).abs().max() > 0.01


def test_deviation_of_replayed_maps(config):
    found = deviations(with_moves(config), [PATH], CROP, 16, images=6)
    assert set(found) == {(move, PATH) for move in ('flip', 'crop', 'both')}
    teacher, _ = teacher_of(config)
    expected = []
    for index in range(6):
        image = teacher.cache.image(index)
        seen = teacher.maps(image.flip(3))[PATH]
        replayed = teacher.maps(image)[PATH].flip(3)
        same = (seen.argmax(1) == replayed.argmax(1)).float().mean()
        expected.append([(seen - replayed).norm() / seen.norm(), same])
    expected = torch.tensor(expected).mean(0)
    assert found['flip', PATH] == pytest.approx(expected.tolist(), rel=1e-5)
    with pytest.raises(UserError, match='72 x 96 pixels do not fit .* 64 x'):
        deviations(config, [PATH], (72, 96), 16, images=6)


# -- when it is off --------------------------------------------------------


def reason(config, capfd):
    """What the log says; the teacher then runs as always."""
    capfd.readouterr()
    teacher, _ = teacher_of(config)
    assert teacher.cache is None
    shown = ''.join(capfd.readouterr())
    line, = (x for x in shown.splitlines() if 'Teacher cache off: ' in x)
    return line


def test_without_the_cache_the_run_goes_on(config, tmp_path, capfd):
    with_moves(config, [dict(type='VerticalFlip'), dict(type='CLAHE')], SIZE)
    losses, _, seen = trained(config, tmp_path / 'run')
    assert len(losses) == 6 and seen == 12
    assert 'cache off: no stored map fits an image after CLAHE' in ''.join(
        capfd.readouterr())


def crop(**changes):
    return {**MOVES[2], **changes}


@pytest.mark.parametrize('moves, expected', [
    ([dict(type='ColorJitter')
      ], r'after ColorJitter; take it out.* or .*ignore_colours=True\) \('),
    ([dict(type='RandomScale', scale_limit=0., p=1.),
      crop()], r'after RandomScale;.*a fixed Resize'),
    ([crop(stride=4)], 'stride=4.* off the grid .*multiples of .* 8'),
    ([crop(stride=1)], 'stride=1.* off the grid'),
    ([crop(height=36)], 'height=36.* off the grid'),
    ([crop(height=72, width=104, stride=8)], '64 x 96 pixels to 72 x 104'),
])
def test_other_augmentation_is_refused(config, capfd, moves, expected):
    line = reason(with_moves(config, moves, size=(32, 48)), capfd)
    assert re.search(expected, line)


def test_another_range_is_no_other_colour(config, capfd):
    config.custom_hooks[0].cache.ignore_colours = True
    line = reason(with_moves(config, [dict(type='Normalize')]), capfd)
    assert 'after Normalize; take it out of the train pipeline (a' in line


def test_other_pipelines_are_refused(config, capfd):
    dataset = config.train_dataloader.dataset
    dataset.pipeline = [*LOAD, dict(type='RandomFlip', prob=0.5), *PACK]
    assert 'after RandomFlip' in reason(config, capfd)
    dataset.pipeline = [
        *LOAD,
        dict(type='Albumentations', transforms=MOVES),
        dict(type='Resize', scale=SIZE[::-1]), *PACK
    ]
    assert 'after Resize' in reason(config, capfd)
    dataset.pipeline = [*LOAD, dict(type='Resize', scale=(90, 60)), *PACK]
    config.model.data_preprocessor.size = (60, 90)
    assert 'no whole stride' in reason(config, capfd)


def test_padding_is_refused(config, capfd):
    size = (48, 48)
    assert 'pads images of 32 x 48' in reason(with_moves(config, size=size),
                                              capfd)
    config.model.data_preprocessor.size = (80, 96)
    assert 'pads whole images of 64 x 96' in reason(config, capfd)


def test_what_a_batch_decides_is_refused(config, capfd):
    config.custom_hooks[0].teacher_mode = 'bn_train'
    assert 'in bn_train mode' in reason(config, capfd)


def test_gradients_are_refused(config, capfd):
    config.custom_hooks[1] = dict(type='ATHook',
                                  mode='gradient',
                                  student='backbone[1]',
                                  teacher=PATH,
                                  teacher_logits='decode_head.conv_seg')
    assert 'gradients of the teacher' in reason(config, capfd)


def test_several_data_sets_are_refused(config, capfd):
    dataset = config.train_dataloader.dataset
    config.train_dataloader.dataset = dict(type='RepeatDataset',
                                           times=2,
                                           dataset=dataset)
    assert 'take one data set' in reason(config, capfd)


@pytest.mark.parametrize(
    'cache',
    ['yes',
     dict(size=3),
     dict(dtype='int8'),
     dict(ignore_colours='hue')])
def test_options_are_checked(cache):
    with pytest.raises(UserError, match='a dict of folder, max_gib, dtype'):
        TeacherHook(model={}, cache=cache)


def test_images_of_several_sizes_are_named(config):
    teacher, runner = teacher_of(config)
    path = runner.train_dataloader.dataset.get_data_info(2)['img_path']
    teacher.cache.image.size = (64, 64)
    with pytest.raises(UserError, match=f'{path} has 64 x 96.*64 x 64.*one'):
        teacher.cache.whole(2)


# -- the store -------------------------------------------------------------

SHAPES = {'a[0]': (2, 3, 4), 'a.b': (5, 1, 2)}


def store(folder, dtype=torch.float32, images=4, max_gib=1.):
    return MapStore(str(folder), SHAPES, images, max_gib, dtype)


def maps(seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {p: torch.randn(s, generator=generator) for p, s in SHAPES.items()}


@pytest.mark.parametrize('dtype',
                         [torch.float32, torch.float16, torch.bfloat16])
def test_another_process_reads_what_one_has_written(tmp_path, dtype):
    one, other = store(tmp_path, dtype), store(tmp_path, dtype)
    one.write(2, maps())
    assert [i in other for i in range(5)] == [False, False, True, False, False]
    for path, kept in other.read(2).items():
        assert torch.equal(kept, maps()[path].to(dtype))


def test_a_slot_half_written_does_not_count(tmp_path):
    kept = store(tmp_path)
    with pytest.raises(KeyError):
        kept.write(1, {'a[0]': maps()['a[0]']})
    assert 1 not in kept and 1 not in store(tmp_path)


def test_damaged_maps_are_made_again(tmp_path, capfd):
    """Bits that flip, zeros, and a file that was cut."""
    kept = store(tmp_path)
    for index in range(4):
        kept.write(index, maps(index))
    file = tmp_path / '0_a_0'
    content = bytearray(file.read_bytes())
    content[30] ^= 1
    content[96:192] = bytes(96)
    file.write_bytes(content[:-8])
    again = store(tmp_path)
    assert [i in again for i in range(4)] == [False, False, True, False]
    assert 'maps of image 0 in' in ''.join(capfd.readouterr())
    again.write(0, maps(0))
    assert [i in store(tmp_path)
            for i in range(4)] == [True, False, True, False]


def test_its_size_is_bounded(tmp_path):
    kept = store(tmp_path, max_gib=2.9 * (4 * (24 + 10) + 8) / 2**30)
    assert kept.slots == 2 and '2 of 4 images' in str(kept)
    for index in (1, 2):
        kept.write(index, maps())
    assert 1 in kept and 2 not in kept
    sizes = [file.stat().st_size for file in tmp_path.iterdir()]
    assert sum(sizes) == kept.bytes == 2 * (4 * (24 + 10) + 8)


def test_a_full_disk_is_seen_before_training(tmp_path, monkeypatch):
    usage = type('Usage', (), dict(free=10))
    monkeypatch.setattr('shutil.disk_usage', lambda folder: usage)
    with pytest.raises(UserError, match='make room.*max_gib'):
        store(tmp_path)


def test_large_values_need_another_type(tmp_path):
    cache = TeacherCache(lambda x: {'a[0]': 7e4 * x},
                         lambda i: torch.ones(1, 2, 3, 4), {'a[0]': 1},
                         store('unused', max_gib=0), torch.float16)
    with pytest.raises(UserError, match=r"'a\[0\]'.*7e\+04.*'bfloat16'"):
        cache.whole(0)


def test_a_stale_cache_is_never_used(config, tmp_path, teacher_checkpoint):
    """What decides about the maps decides about the folder."""
    folder = tmp_path / 'teacher_cache'

    def caches():
        teacher_of(config, tmp_path / 'run')
        return len(os.listdir(folder))

    hook, data = config.custom_hooks[0], config.train_dataloader.dataset
    assert caches() == caches() == 1
    with_moves(config)
    assert caches() == 1  # the same images, whole
    hook.precision = 'bfloat16'
    assert caches() == 2
    hook.cache.dtype = 'float16'
    assert caches() == 3
    data.pipeline.insert(2, dict(type='Resize', scale=(192, 128)))
    assert caches() == 4
    content = torch.load(teacher_checkpoint)
    content['state_dict']['decode_head.bottleneck.conv.weight'] *= 2
    torch.save(content, tmp_path / 'other.pth')
    hook.checkpoint = str(tmp_path / 'other.pth')
    assert caches() == 5
    hook.model.decode_head.pool_scales = (1, 2, 3, 4)
    assert caches() == 6


def test_another_image_file_is_another_cache(config, tmp_path, data_root):
    copied = tmp_path / 'data'
    for kind in ('images', 'labels'):
        (copied / 'train' / kind).mkdir(parents=True)
        for path in (data_root / 'train' / kind).iterdir():
            cv2.imwrite(str(copied / 'train' / kind / path.name),
                        cv2.imread(str(path), cv2.IMREAD_UNCHANGED))
    config.train_dataloader.dataset.data_root = str(copied)
    teacher_of(config, tmp_path / 'run')
    cv2.imwrite(str(copied / 'train/images/5.png'),
                np.zeros((*SIZE, 3), np.uint8))
    teacher_of(config)
    assert len(os.listdir(tmp_path / 'teacher_cache')) == 2
