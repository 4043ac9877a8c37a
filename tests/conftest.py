"""A tiny experiment on real files: data, teacher, student, all of mmseg's.

Every map is non-square, one label in eight is ignored, dropout is on.
"""
import gc
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope, init_default_scope
from mmengine.runner import Runner
from mmengine.visualization import Visualizer
from mmseg.visualization import SegLocalVisualizer

import seg_kd.register  # noqa: F401
from seg_kd import cli
from seg_kd.registry import MODELS, RUNNERS

CLASSES = ('sky', 'road', 'car', 'tree')
PALETTE = [[70, 130, 180], [128, 64, 128], [0, 0, 142], [107, 142, 35]]
NORM = dict(type='BN')
SIZE = (64, 96)


@pytest.fixture(autouse=True, scope='session')
def one_thread():
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope='module')
def garbage_of_this_file_only():
    """Each data set that is built collects garbage, a third of a second among
    all that was ever imported; what is there before a file is left out."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True, scope='session')
def configs_as_they_are():
    """The text of a config without layout, which takes longer than a run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr('yapf.yapflib.yapf_api.FormatCode',
                      lambda text, **options: (text, False))
        yield


def build_runner(config: Config) -> Runner:
    """MMEngine's instances are named by the second: not fine enough here."""
    forget_instances()
    return RUNNERS.build(config)


def watch(config: Config) -> Config:
    """With all that shows a training while it runs, and validations."""
    config.train_cfg.val_interval = 2
    config.default_hooks.update(gradient_ratio=dict(type='GradientRatioHook',
                                                    interval=2),
                                pictures=dict(type='PicturesHook',
                                              count=2,
                                              width=96),
                                student_copies=dict(type='StudentCopyHook'))
    config.default_hooks.checkpoint.save_best = 'mIoU'
    return config


def run_tool(tool: str, arguments, monkeypatch, folder: Path) -> int:
    """Exit status of a command, run in ``folder``."""
    forget_instances()
    monkeypatch.chdir(folder)
    try:
        return cli.main([tool.replace('_', '-'), *map(str, arguments)])
    except SystemExit as end:
        return end.code


def forget_instances() -> None:
    for logger in MMLogger._instance_dict.values():
        for handler in logger.handlers:
            handler.close()
    for kind in (DefaultScope, MMLogger, MessageHub, Visualizer,
                 SegLocalVisualizer):
        kind._instance_dict.clear()


@pytest.fixture(autouse=True)
def no_instances_left():
    yield
    forget_instances()


def draw(folder: Path, count: int, seed: int) -> None:
    """Images whose colour tells the class, with noise."""
    rng = np.random.default_rng(seed)
    for kind in ('images', 'labels'):
        (folder / kind).mkdir(parents=True)
    for i in range(count):
        label = rng.integers(0, 4, (4, 6),
                             dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        image = np.array(PALETTE, np.uint8)[label][..., ::-1].astype(int)
        image = (image + rng.normal(0, 20, image.shape)).clip(0, 255)
        label[rng.random(label.shape) < 1 / 8] = 255
        cv2.imwrite(str(folder / f'images/{i}.png'), image.astype(np.uint8))
        cv2.imwrite(str(folder / f'labels/{i}.png'), label)


@pytest.fixture(scope='session')
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('data')
    draw(root / 'train', 6, seed=0)
    draw(root / 'val', 3, seed=1)
    return root


def dataset(root: Path, split: str, training: bool) -> dict:
    pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations')]
    if training:
        pipeline += [
            dict(type='RandomFlip', prob=0.5),
            dict(type='PhotoMetricDistortion')
        ]
    return dict(type='BaseSegDataset',
                data_root=str(root),
                metainfo=dict(classes=CLASSES, palette=PALETTE),
                data_prefix=dict(img_path=f'{split}/images',
                                 seg_map_path=f'{split}/labels'),
                img_suffix='.png',
                seg_map_suffix='.png',
                pipeline=pipeline + [dict(type='PackSegInputs')])


def preprocessor() -> dict:
    return dict(type='SegDataPreProcessor',
                mean=[123.675, 116.28, 103.53],
                std=[58.395, 57.12, 57.375],
                bgr_to_rgb=True,
                size=SIZE,
                pad_val=0,
                seg_pad_val=255)


def student() -> dict:
    """Stride 16, 32 channels: ``backbone[1]``."""
    return dict(type='EncoderDecoder',
                data_preprocessor=preprocessor(),
                backbone=dict(type='MobileNetV2',
                              widen_factor=0.1,
                              strides=(1, 2, 2, 2, 1, 1, 1),
                              out_indices=(1, 6),
                              norm_cfg=NORM),
                decode_head=dict(type='FCNHead',
                                 in_index=1,
                                 in_channels=32,
                                 channels=32,
                                 num_convs=0,
                                 concat_input=False,
                                 dropout_ratio=0.1,
                                 num_classes=len(CLASSES),
                                 norm_cfg=NORM,
                                 loss_decode=dict(type='CrossEntropyLoss',
                                                  avg_non_ignore=True)),
                test_cfg=dict(mode='whole'))


def teacher() -> dict:
    """Stride 8, 12 channels: ``decode_head.bottleneck``."""
    return dict(type='EncoderDecoder',
                data_preprocessor=preprocessor(),
                backbone=dict(type='ResNetV1c',
                              depth=18,
                              stem_channels=8,
                              base_channels=8,
                              strides=(1, 2, 1, 1),
                              dilations=(1, 1, 2, 4),
                              norm_cfg=NORM),
                decode_head=dict(type='PSPHead',
                                 in_index=3,
                                 in_channels=64,
                                 channels=12,
                                 num_classes=len(CLASSES),
                                 norm_cfg=NORM,
                                 loss_decode=dict(type='CrossEntropyLoss',
                                                  avg_non_ignore=True)),
                test_cfg=dict(mode='whole'))


@pytest.fixture(scope='session')
def teacher_checkpoint(tmp_path_factory) -> str:
    return save_weights(teacher(), tmp_path_factory.mktemp('teacher'))


@pytest.fixture(scope='session')
def student_checkpoint(tmp_path_factory) -> str:
    """As a distillation leaves it."""
    return save_weights(student(),
                        tmp_path_factory.mktemp('student'),
                        seed=8,
                        **{'distill.ka.weight': torch.ones(2)})


def save_weights(model: dict, folder: Path, seed: int = 1, **more) -> str:
    """Random weights, batch norm statistics that are not the initial ones."""
    init_default_scope('mmseg')
    torch.manual_seed(seed)
    model = MODELS.build(model)
    model.init_weights()
    model.train()
    with torch.no_grad():
        for _ in range(3):
            model(torch.randn(2, 3, *SIZE))
    path = str(folder / 'weights.pth')
    meta = dict(dataset_meta=dict(classes=CLASSES))
    torch.save(dict(state_dict={
        **model.state_dict(),
        **more
    }, meta=meta), path)
    return path


@pytest.fixture
def plain_config(data_root, tmp_path) -> Config:
    """The student alone."""
    loader = dict(batch_size=2, num_workers=0)
    evaluation = dict(dataset=dataset(data_root, 'val', training=False),
                      sampler=dict(type='DefaultSampler', shuffle=False),
                      batch_size=1,
                      num_workers=0)
    return Config(
        dict(default_scope='mmseg',
             runner_type='DistillRunner',
             work_dir=str(tmp_path / 'work'),
             model=student(),
             train_dataloader=dict(**loader,
                                   dataset=dataset(data_root,
                                                   'train',
                                                   training=True),
                                   sampler=dict(type='InfiniteSampler',
                                                shuffle=True)),
             val_dataloader=evaluation,
             val_cfg=dict(type='ValLoop'),
             val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
             test_dataloader=evaluation,
             test_cfg=dict(type='TestLoop'),
             test_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
             train_cfg=dict(type='IterBasedTrainLoop',
                            max_iters=6,
                            val_interval=100),
             optim_wrapper=dict(type='OptimWrapper',
                                optimizer=dict(type='SGD',
                                               lr=0.05,
                                               momentum=0.9)),
             param_scheduler=[
                 dict(type='PolyLR', power=0.9, begin=0, end=6, by_epoch=False)
             ],
             default_hooks=dict(
                 timer=dict(type='IterTimerHook'),
                 logger=dict(type='LoggerHook',
                             interval=1,
                             log_metric_by_epoch=False),
                 param_scheduler=dict(type='ParamSchedulerHook'),
                 checkpoint=dict(type='CheckpointHook',
                                 by_epoch=False,
                                 interval=3,
                                 max_keep_ckpts=3)),
             log_processor=dict(by_epoch=False, window_size=1),
             env_cfg=dict(dist_cfg=dict(backend='gloo')),
             randomness=dict(seed=0)))


@pytest.fixture
def teacher_hook(teacher_checkpoint) -> dict:
    return dict(type='TeacherHook',
                model=teacher(),
                checkpoint=teacher_checkpoint)


TAPS = dict(student='backbone[1]', teacher='decode_head.bottleneck')


@pytest.fixture
def ka_config(plain_config, teacher_hook) -> Config:
    """The student with knowledge adaptation, both stages."""
    plain_config.custom_hooks = [
        teacher_hook,
        dict(type='KAHook', translator='stage:translator', **TAPS)
    ]
    plain_config.stages = [
        dict(name='translator',
             custom_hooks=[teacher_hook,
                           dict(type='TranslatorHook', **TAPS)],
             val_cfg=None,
             val_dataloader=None,
             val_evaluator=None),
        dict(name='distill')
    ]
    return plain_config


@pytest.fixture
def hnd_config(plain_config, teacher_hook) -> Config:
    """The teacher's own tail behind a head with a bottleneck."""
    plain_config.model = dict(type='SplitSegmentor',
                              teacher=teacher(),
                              split='backbone[1]',
                              backbone=dict(type='BottleneckHead',
                                            encoder_channels=(8, ),
                                            decoder_channels=8),
                              data_preprocessor=preprocessor())
    plain_config.custom_hooks = [teacher_hook, dict(type='HNDHook')]
    plain_config.optim_wrapper = dict(type='OptimWrapper',
                                      optimizer=dict(type='Adam', lr=1e-2))
    plain_config.train_cfg.max_iters = 12
    return plain_config
