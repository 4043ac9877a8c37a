"""Faults planted one at a time into an experiment that has none.

The teacher reads colours: it needs no training to be right nearly everywhere.
"""
import math
import shutil
from collections import namedtuple
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import (CLASSES, PALETTE, SIZE, draw, forget_instances,
                      preprocessor)
from mmcv.transforms import BaseTransform
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmseg.registry import TRANSFORMS
from torch import nn

from seg_kd.doctor.examine import examine, report, tables
from seg_kd.doctor.experiment import Experiment
from seg_kd.doctor.files import Files
from seg_kd.doctor.finding import worst
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook
from seg_kd.registry import HOOKS, MODELS

WIDTH = 8  # channels of the teacher's map


@MODELS.register_module()
class ReadColours(BaseModule):
    """A map at stride 4 whose first three channels are the image itself."""

    def __init__(self, init_cfg=None) -> None:
        super().__init__(init_cfg)
        self.conv = nn.Conv2d(3, WIDTH, 1)

    def forward(self, x):
        return [self.conv(nn.functional.avg_pool2d(x, 4))]


@MODELS.register_module()
class Small(BaseModule):
    """8 channels at stride 4, and from these 16 at stride 16."""

    def __init__(self, init_cfg=None) -> None:
        super().__init__(init_cfg)
        self.layer1, self.layer2 = (nn.Sequential(
            nn.Conv2d(*channels, 5, 4, 2), nn.BatchNorm2d(channels[1]),
            nn.ReLU()) for channels in ((3, 8), (8, 16)))

    def forward(self, x):
        first = self.layer1(x)
        return [first, self.layer2(first)]


class NaNLoss(nn.Module):

    def forward(self, student, teacher, mask=None):
        return student.mean() * math.nan


class ZeroLoss(nn.Module):

    def forward(self, student, teacher, mask=None):
        return student.mean() * 0.


@HOOKS.register_module()
class NaNHook(DistillHook):
    loss_cls = NaNLoss


@HOOKS.register_module()
class ZeroHook(DistillHook):
    loss_cls = ZeroLoss


@TRANSFORMS.register_module()
class Broken(BaseTransform):
    """One of the mistakes that a transform can make."""

    def __init__(self, how: str) -> None:
        self.how = how

    def transform(self, results):
        image, label = results['img'], results['gt_seg_map']
        if self.how == 'unit':
            results['img'] = image.astype(np.float32) / 255
        elif self.how == 'nan':
            results['img'] = image.astype(np.float32)
            if results['img_path'].endswith('/2.png'):
                results['img'][3, 4] = math.nan
        elif self.how == 'mirrored':
            results['img'] = image[:, ::-1].copy()
        elif self.how == 'right':
            results['gt_seg_map'] = np.roll(label, 8, 1)
            results['gt_seg_map'][:, :8] = 255
        elif self.how == 'up':
            results['gt_seg_map'] = np.roll(label, -8, 0)
            results['gt_seg_map'][-8:] = 255
        return results


def network(backbone: str, index: int, width: int) -> dict:
    return dict(type='EncoderDecoder',
                data_preprocessor=preprocessor(),
                backbone=dict(type=backbone),
                decode_head=dict(type='FCNHead',
                                 in_index=index,
                                 in_channels=width,
                                 channels=width,
                                 num_convs=0,
                                 concat_input=False,
                                 num_classes=len(CLASSES),
                                 loss_decode=dict(type='CrossEntropyLoss',
                                                  avg_non_ignore=True)),
                test_cfg=dict(mode='whole'))


def reader() -> dict:
    return network('ReadColours', 0, WIDTH)


def small() -> dict:
    return network('Small', 1, 16)


def read_colours() -> dict:
    """Weights by which each pixel goes to the nearest colour."""
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(reader())
    colours = torch.tensor(PALETTE, dtype=torch.float)
    mean, std = (model.data_preprocessor.__getattr__(k).flatten()
                 for k in ('mean', 'std'))
    with torch.no_grad():
        model.backbone.conv.weight[:3] = torch.eye(3)[:, :, None, None]
        model.backbone.conv.bias[:3] = 0
        # |x - c|^2 but for what all classes share
        head = model.decode_head.conv_seg
        head.weight.zero_()
        head.weight[:, :3, 0, 0] = 2e-4 * colours * std
        head.bias.copy_(1e-4 * (2 * colours @ mean - colours.square().sum(1)))
    return model.state_dict()


def save(path: Path, state: dict, classes=CLASSES) -> str:
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=state, meta=meta), path)
    return str(path)


@pytest.fixture(scope='module')
def home(tmp_path_factory) -> Path:
    """Data, a teacher that knows it, and the student's first weights."""
    root = tmp_path_factory.mktemp('healthy')
    draw(root / 'train', 8, seed=0)
    draw(root / 'val', 2, seed=1)
    save(root / 'teacher.pth', read_colours())
    torch.manual_seed(3)
    save(root / 'student.pth', MODELS.build(small()).state_dict())
    return root


def dataset(root: Path, split: str, *transforms: dict) -> dict:
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'), *transforms,
        dict(type='PackSegInputs')
    ]
    return dict(type='BaseSegDataset',
                data_root=str(root),
                metainfo=dict(classes=CLASSES, palette=PALETTE),
                data_prefix=dict(img_path=f'{split}/images',
                                 seg_map_path=f'{split}/labels'),
                img_suffix='.png',
                seg_map_suffix='.png',
                pipeline=pipeline,
                serialize_data=False)


@pytest.fixture
def healthy(home, plain_config) -> Config:
    """FitNets and KD, from the teacher that reads colours."""
    cfg = plain_config
    flip = dict(type='RandomFlip', prob=.5)
    cfg.model = small()
    cfg.train_dataloader.dataset = dataset(home, 'train', flip)
    cfg.val_dataloader.dataset = dataset(home, 'val')
    cfg.test_dataloader = cfg.val_dataloader
    cfg.optim_wrapper.optimizer.lr = .01
    cfg.train_cfg.max_iters = 60
    cfg.param_scheduler[0].end = 60
    cfg.teacher = dict(type='TeacherHook',
                       model=reader(),
                       checkpoint=str(home / 'teacher.pth'))
    cfg.custom_hooks = dict(FitNetHook=dict(student='backbone[1]',
                                            teacher='backbone[0]',
                                            weight=.05),
                            KDHook=dict(weight=.5))
    return cfg


@pytest.fixture
def look(tmp_path):
    """Findings of a config, as (level, check, text); and the experiment."""

    def call(cfg, plant=lambda experiment: None, **options):
        forget_instances()
        folder = tmp_path / 'doctor'
        folder.mkdir(exist_ok=True)
        experiment = Experiment(cfg, str(folder), str(tmp_path / 'work'),
                                **options)
        plant(experiment)
        return list(examine(experiment)), experiment

    return call


def named(findings, check: str, text: str, level: str = 'red') -> bool:
    return any(
        f.level == level and f.check == check and text in f'{f.what} -> {f.do}'
        for f in findings)


def shown(findings) -> str:
    return '\n'.join(map(str, findings))


def test_the_healthy_one_has_no_fault(healthy, look):
    findings, experiment = look(healthy)
    assert worst(findings) == 'green', shown(findings)
    rows = tables(experiment, layers=True)
    fitnet, kd = rows['pairs']
    assert (fitnet['student'], fitnet['student channels'],
            fitnet['student stride']) == ('backbone[1]', 16, 16)
    assert (fitnet['teacher'], fitnet['teacher channels'],
            fitnet['teacher stride']) == ('backbone[0]', WIDTH, 4)
    assert fitnet['connector'].startswith('regressor')
    assert kd['student'] == 'decode_head.conv_seg' and not kd['connector']
    paths = {row['student'] for row in rows['layers']}
    assert {'backbone[0]', 'backbone[1]', 'decode_head.conv_seg'} <= paths
    assert rows['suggested'][0]['student'] == 'backbone[1]'
    assert rows['suggested'][0]['teacher'] == 'backbone[0]'
    found = report(experiment, findings, rows)
    assert found['level'] == 'green' and found['costs']['']['iterations'] == 60


# -- the faults --------------------------------------------------------------
# Each function breaks one thing; what it returns is an Experiment's options.

Expected = namedtuple('Expected', 'check text level', defaults=('red', ))
FAULTS = {}


def fault(check: str, text: str, level: str = 'red'):

    def add(plant):
        FAULTS[plant.__name__] = plant, Expected(check, text, level)
        return plant

    return add


def own_data(cfg: Config, tmp_path: Path) -> Path:
    """A copy of the training data, to be spoilt."""
    loader = cfg.train_dataloader
    root = tmp_path / 'data'
    shutil.copytree(loader.dataset.data_root, root)
    loader.dataset.data_root = cfg.val_dataloader.dataset.data_root = str(root)
    return root


def relabel(folder: Path, change) -> None:
    for path in folder.iterdir():
        label = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        cv2.imwrite(str(path), change(label))


def broken(cfg: Config, how: str) -> None:
    cfg.train_dataloader.dataset.pipeline.insert(2, dict(type='Broken',
                                                         how=how))


def teacher_state(cfg: Config, tmp_path: Path, change) -> None:
    state = torch.load(cfg.teacher.checkpoint)['state_dict']
    cfg.teacher.checkpoint = save(tmp_path / 'changed.pth', change(state))


@fault('geometry', '8 px right')
def labels_shifted_by_8_px(cfg, tmp_path):
    broken(cfg, 'right')


@fault('geometry', 'px right of what teacher sees')
def labels_shifted_and_then_scaled(cfg, tmp_path):
    broken(cfg, 'right')
    scale = dict(type='Albumentations',
                 transforms=[
                     dict(type='RandomScale', scale_limit=(-.5, .6), p=1.),
                     dict(type='CropWithClassCap',
                          height=SIZE[0],
                          width=SIZE[1],
                          max_ratio=.75)
                 ])
    cfg.train_dataloader.dataset.pipeline.insert(3, scale)


@fault('geometry', '8 px above')
def labels_shifted_up(cfg, tmp_path):
    broken(cfg, 'up')


@fault('geometry', 'turned over')
def images_mirrored_labels_not(cfg, tmp_path):
    broken(cfg, 'mirrored')


@fault('normalization of teacher', "with ImageNet's mean and deviation")
def teacher_with_another_normalization(cfg, tmp_path):
    cfg.teacher.model.data_preprocessor.update(mean=[0.] * 3, std=[255.] * 3)


@fault('normalization of teacher', 'channels in the other order')
def teacher_of_bgr_images(cfg, tmp_path):
    mean, std = ([*reversed(cfg.model.data_preprocessor[k])]
                 for k in ('mean', 'std'))
    cfg.teacher.model.data_preprocessor.update(bgr_to_rgb=False,
                                               mean=mean,
                                               std=std)


@fault('frozen', 'training mode')
def teacher_in_training_mode(cfg, tmp_path):

    def plant(experiment):
        experiment.distiller.teachers['teacher'].network.train()

    return dict(plant=plant)


@fault('frozen', 'parameters that train')
def teacher_that_trains(cfg, tmp_path):

    def plant(experiment):
        network = experiment.distiller.teachers['teacher'].network
        network.decode_head.requires_grad_(True)

    return dict(plant=plant)


@fault('swapped classes', "'road' 'car', 'car' 'road'")
def teacher_with_swapped_classes(cfg, tmp_path):

    def swap(state):
        order = [0, 2, 1, 3]
        for name in ('weight', 'bias'):
            key = f'decode_head.conv_seg.{name}'
            state[key] = state[key][order]
        return state

    teacher_state(cfg, tmp_path, swap)


@fault('swapped classes', "'sky' 'road'")
def background_taken_away_from_labels_without_one(cfg, tmp_path):
    cfg.train_dataloader.dataset.reduce_zero_label = True


@fault('labels', 'set reduce_zero_label=False', 'yellow')
def last_class_missing_with_reduce_zero_label(cfg, tmp_path):
    cfg.train_dataloader.dataset.reduce_zero_label = True


@fault('files', 'reduce_zero_label=True')
def labels_from_1_without_reduce_zero_label(cfg, tmp_path):
    root = own_data(cfg, tmp_path)
    relabel(root / 'train/labels',
            lambda y: np.where(y == 255, 0, y + 1).astype(np.uint8))


@fault('distillation', 'weights are missing')
def teacher_half_loaded(cfg, tmp_path):
    teacher_state(
        cfg, tmp_path, lambda state: {
            k: w
            for k, w in state.items() if 'backbone' in k
        })


@fault('distillation', 'does not exist')
def teacher_not_trained_yet(cfg, tmp_path):
    cfg.teacher.checkpoint = str(tmp_path / 'nothing.pth')


@fault('classes', 'other classes')
def teacher_of_other_classes(cfg, tmp_path):
    state = torch.load(cfg.teacher.checkpoint)['state_dict']
    cfg.teacher.checkpoint = save(tmp_path / 'others.pth', state,
                                  ('sky', 'car', 'road', 'tree'))


@fault('lead', 'the student is better already')
def teacher_weaker_than_the_student(cfg, tmp_path):
    good = cfg.teacher.checkpoint
    cfg.model = reader()

    def blur(state):
        torch.manual_seed(0)
        key = 'decode_head.conv_seg.weight'
        state[key] = state[key] + .5 * torch.randn_like(state[key])
        return state

    teacher_state(cfg, tmp_path, blur)
    cfg.custom_hooks.FitNetHook.student = 'backbone[0]'
    return dict(student=good)


@fault('distillation', '1 weights are NaN or infinite')
def nan_in_the_teacher(cfg, tmp_path):

    def spoil(state):
        state['backbone.conv.weight'][0] = math.nan
        return state

    teacher_state(cfg, tmp_path, spoil)


@fault('student weights', 'does not exist')
def pretrained_weights_that_are_not_there(cfg, tmp_path):
    cfg.model.backbone.init_cfg = dict(type='Pretrained',
                                       checkpoint=str(tmp_path / 'no.pth'))


@fault('student weights', 'backbone: 0 of')
def pretrained_weights_of_another_network(cfg, tmp_path):
    cfg.model.backbone.init_cfg = dict(type='Pretrained',
                                       checkpoint=cfg.teacher.checkpoint)


@fault('student weights', 'the student: ')
def load_from_another_network(cfg, tmp_path):
    cfg.load_from = cfg.teacher.checkpoint


@fault('student weights', 'are NaN or infinite')
def nan_in_the_student(cfg, tmp_path):
    path = Path(cfg.teacher.checkpoint).with_name('student.pth')
    state = torch.load(path)['state_dict']
    state['decode_head.conv_seg.weight'][0] = math.inf
    cfg.load_from = save(tmp_path / 'nan.pth', state)


@fault('trainable', 'are frozen')
def student_frozen(cfg, tmp_path):
    return dict(
        plant=lambda experiment: experiment.model.requires_grad_(False))


@fault('channel order', 'the student gets BGR images')
def student_of_bgr_images_with_the_mean_of_rgb(cfg, tmp_path):
    cfg.model.data_preprocessor.bgr_to_rgb = False


@fault('pixels', 'pixels from 0 to 255')
def images_from_0_to_1(cfg, tmp_path):
    broken(cfg, 'unit')


@fault('pixels', 'multiply both by 255')
def mean_from_0_to_1(cfg, tmp_path):
    for network in (cfg.model, cfg.teacher.model):
        network.data_preprocessor.update(mean=[.485, .456, .406],
                                         std=[.229, .224, .225])


@fault('train data', '2.png')
def nan_in_an_image(cfg, tmp_path):
    broken(cfg, 'nan')


@fault('files', 'not a readable image')
def image_cut_off(cfg, tmp_path):
    path = own_data(cfg, tmp_path) / 'train/images/0.png'
    path.write_bytes(path.read_bytes()[:100])


@fault('train data', 'no image in')
def empty_folder(cfg, tmp_path):
    root = own_data(cfg, tmp_path)
    for path in (root / 'train/images').iterdir():
        path.unlink()


@fault('train data', 'is missing')
def no_folder(cfg, tmp_path):
    cfg.train_dataloader.dataset.data_root = str(tmp_path / 'nowhere')


@fault('files', 'label value 9')
def labels_out_of_range(cfg, tmp_path):
    root = own_data(cfg, tmp_path)
    relabel(root / 'train/labels',
            lambda y: np.where(y == 3, 9, y).astype(np.uint8))


@fault('labels', 'every pixel of all labels is ignored')
def everything_ignored(cfg, tmp_path):
    root = own_data(cfg, tmp_path)
    relabel(root / 'train/labels', lambda y: np.full_like(y, 255))


@fault('labels', 'never appear in the training labels: tree', 'yellow')
def class_that_never_appears(cfg, tmp_path):
    root = own_data(cfg, tmp_path)
    relabel(root / 'train/labels',
            lambda y: np.where(y == 3, 0, y).astype(np.uint8))


@fault('ignored', 'ignores the label 254')
def another_ignore_index_in_the_head(cfg, tmp_path):
    cfg.model.decode_head.ignore_index = 254


@fault('overlap', '2 of 2 images validated on')
def validated_on_training_images(cfg, tmp_path):
    root = own_data(cfg, tmp_path)
    for kind in ('images', 'labels'):
        for number in (0, 1):
            shutil.copy(root / f'train/{kind}/{number}.png',
                        root / f'val/{kind}/{number}.png')


@fault('overlap', '2 of 2 images validated on')
def distilled_on_validation_images(cfg, tmp_path):
    root = own_data(cfg, tmp_path)
    cfg.train_dataloader.unlabelled = dict(img_path=str(root / 'val/images'),
                                           suffixes='.png')


@fault('terms', 'fitnet is')
def weight_1000_times_too_large(cfg, tmp_path):
    cfg.custom_hooks.FitNetHook.weight *= 1000.


@fault('terms', 'kd has weight 0', 'yellow')
def weight_of_0(cfg, tmp_path):
    cfg.custom_hooks.KDHook.weight = 0.


@fault('terms', 'the task does not depend on the map backbone[1]')
def tap_beside_the_task(cfg, tmp_path):
    cfg.model.decode_head.update(in_index=0, in_channels=8, channels=8)


@fault('terms', 'has no gradient')
def term_that_is_constant(cfg, tmp_path):
    cfg.custom_hooks.ZeroHook = dict(student='backbone[1]',
                                     teacher='backbone[0]')


@fault('finite losses', 'though all layers are: loss_nan')
def nan_in_a_term(cfg, tmp_path):
    cfg.custom_hooks.NaNHook = dict(student='backbone[1]',
                                    teacher='backbone[0]')


@fault('schedule', 'it never counts')
def term_that_starts_after_the_end(cfg, tmp_path):
    cfg.custom_hooks.KDHook.start = 60


@fault('schedule', 'PolyLR ends at iteration 90000', 'yellow')
def rate_that_never_falls(cfg, tmp_path):
    cfg.param_scheduler[0].end = 90000


@fault('learning rate', 'lower optim_wrapper.optimizer.lr')
def learning_rate_absurd(cfg, tmp_path):
    cfg.optim_wrapper.optimizer.lr = 100.


@fault('learning rate', 'it learns nothing')
def learning_rate_of_0(cfg, tmp_path):
    cfg.optim_wrapper.optimizer.lr = 0.


@fault('hours', 'look at max_iters')
def schedule_of_years(cfg, tmp_path):
    cfg.train_cfg.max_iters = 10**12


@fault('distillation', 'no layer')
def tap_that_does_not_exist(cfg, tmp_path):
    cfg.custom_hooks.FitNetHook.student = 'backbone.layer9'


def test_there_are_25():
    assert len(FAULTS) >= 25


@pytest.mark.parametrize('name', FAULTS)
def test_it_is_found(name, healthy, look, tmp_path):
    plant, expected = FAULTS[name]
    options = plant(healthy, tmp_path) or {}
    findings, _ = look(healthy, **options)
    assert named(findings, *expected), shown(findings)
    assert not any('failed itself' in f.what for f in findings)


def test_no_disk(healthy, look, monkeypatch):
    usage = namedtuple('usage', 'total used free')
    monkeypatch.setattr('shutil.disk_usage', lambda folder: usage(1, 1, 10**5))
    findings, _ = look(healthy)
    assert named(findings, 'disk', 'make room'), shown(findings)


def test_ignored_labels_stay_ignored_without_a_background(home):
    """In the files they are 255, and 0 is the background."""
    found = Files({**dataset(home, 'train'), 'reduce_zero_label': True})
    assert found.opened.errors == []
    assert not found.opened.pixels[254] and found.opened.pixels[255]


def test_an_unknown_stage(healthy, tmp_path):
    with pytest.raises(UserError, match="no stage 'first'"):
        Experiment(healthy, str(tmp_path), stage='first')
