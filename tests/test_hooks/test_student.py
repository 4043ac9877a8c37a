"""What people train: heads, labels, images, teachers, runners of any kind."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import (CLASSES, NORM, SIZE, TAPS, build_runner, dataset,
                      student, teacher)
from mmengine.config import ConfigDict
from mmengine.dataset import InfiniteSampler
from mmengine.registry import init_default_scope

from seg_kd.datasets import SeededDataset
from seg_kd.errors import UserError
from seg_kd.registry import MODELS

pytestmark = [  # of MMSegmentation about heads as they are here
    pytest.mark.filterwarnings('ignore:.*avg_non_ignore'),
    pytest.mark.filterwarnings('ignore:.*binary'),
    pytest.mark.filterwarnings('ignore:.*multi-class')
]
FITNET = dict(type='FitNetHook', **TAPS)


@pytest.fixture
def config(plain_config, teacher_hook):
    plain_config.custom_hooks = [teacher_hook, FITNET]
    plain_config.train_cfg.max_iters = 2
    plain_config.default_hooks.pop('checkpoint')
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        plain_config.pop(key)
    return plain_config


def logged(config):
    """One dict per iteration of a training."""
    build_runner(config).train()
    path = next(Path(config.work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in path.read_text().splitlines()]


def saved(model, folder, classes=CLASSES):
    """Config and checkpoint of a network with random weights."""
    init_default_scope('mmseg')
    network = MODELS.build(model)
    path = str(folder / 'other_teacher.pth')
    meta = dict(dataset_meta=dict(classes=classes))
    torch.save(dict(state_dict=network.state_dict(), meta=meta), path)
    return dict(type='TeacherHook', model=model, checkpoint=path)


# -- heads -----------------------------------------------------------------


def boundary_head():
    return dict(type='STDCHead',
                in_channels=8,
                channels=8,
                in_index=0,
                num_convs=1,
                concat_input=False,
                num_classes=2,
                norm_cfg=NORM,
                boundary_threshold=.1,
                loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.))


def test_a_head_for_boundaries_has_classes_of_its_own(config):
    config.model.auxiliary_head = boundary_head()
    assert 'aux.loss_ce' in logged(config)[1]


def test_auxiliary_heads_count_in_the_student_alone(config, tmp_path):
    other = dict(type='FCNHead',
                 in_channels=8,
                 channels=8,
                 in_index=0,
                 num_classes=7,
                 norm_cfg=NORM)
    config.custom_hooks[0] = saved(dict(teacher(), auxiliary_head=other),
                                   tmp_path)
    build_runner(config).train()
    config.model.auxiliary_head = other
    with pytest.raises(UserError, match='FCNHead of the student has 7'):
        build_runner(config).train()


def segmenter():
    return dict(student(),
                decode_head=dict(type='SegmenterMaskTransformerHead',
                                 in_channels=32,
                                 in_index=1,
                                 channels=32,
                                 num_classes=len(CLASSES),
                                 num_layers=1,
                                 num_heads=2,
                                 embed_dims=32))


def test_logits_of_a_head_whose_forward_is_called_alone(config, tmp_path):
    config.model = segmenter()
    kd = dict(type='KDHook', student='decode_head', teacher='decode_head')
    config.custom_hooks = [saved(segmenter(), tmp_path), kd]
    runner = build_runner(config)
    runner.train()
    assert runner.message_hub.get_scalar('train/loss_kd').current() > 0
    assert 'forward' not in vars(runner.model.decode_head)
    config.custom_hooks[1] = dict(type='KDHook')
    with pytest.raises(UserError, match="no layer 'decode_head.conv_seg'; "):
        build_runner(config)


def test_one_sigmoid_logit_is_said_before_training(config, tmp_path):

    def binary(model):
        model['decode_head'].update(num_classes=2,
                                    out_channels=1,
                                    loss_decode=dict(type='CrossEntropyLoss',
                                                     use_sigmoid=True))
        return model

    config.model = binary(student())
    config.custom_hooks = [
        saved(binary(teacher()), tmp_path),
        dict(type='KDHook')
    ]
    with pytest.raises(UserError, match='kd: KDLoss: .*two or more classes'):
        build_runner(config)
    config.custom_hooks[1].activation = 'sigmoid'
    build_runner(config)  # which tries the terms


def test_unequal_classes_are_said_before_training(config, tmp_path):
    model = teacher()
    model['decode_head']['num_classes'] = 19
    config.custom_hooks = [
        dict(saved(model, tmp_path, classes=None), allow_other_classes=True),
        dict(type='KDHook')
    ]
    with pytest.raises(UserError, match='kd: KDLoss: .*19'):
        build_runner(config)


def test_weighted_classes(config):
    config.model.decode_head.loss_decode.class_weight = [1., 2., 3., 4.]
    first = logged(config)[0]['decode.loss_ce']
    assert first > 0
    config.model.decode_head.loss_decode.avg_non_ignore = False
    config.work_dir += '_as_it_is'
    assert logged(config)[0]['decode.loss_ce'] == first


# -- labels and images -----------------------------------------------------


def without_labels(config):
    dataset = config.train_dataloader.dataset
    dataset.data_prefix.pop('seg_map_path')
    dataset.pipeline = [
        t for t in dataset.pipeline if t.type != 'LoadAnnotations'
    ]
    return config


def test_images_without_labels(config):
    for line in logged(without_labels(config)):
        assert line['decode.loss_ce'] == 0
        assert line['loss_fitnet'] > 0


def test_every_pixel_of_an_image_without_labels_counts(config):
    runner = build_runner(without_labels(config))
    masks = []
    runner.model.distill.fitnet.register_forward_pre_hook(
        lambda module, args: masks.append(args[2]))
    runner.train()
    assert masks == [None, None]


def test_gradients_of_the_task_need_labels(config):
    config.custom_hooks[1] = dict(type='ATHook', mode='gradient', **TAPS)
    with pytest.raises(UserError, match='need labels'):
        build_runner(without_labels(config)).train()


@pytest.fixture
def own_data(config, tmp_path):
    """Writes images of a shape, and labels of one value."""

    def write(channels, label):
        rng = np.random.default_rng(0)
        for kind in ('images', 'labels'):
            (tmp_path / 'own' / kind).mkdir(parents=True)
        for i in range(3):
            shape = SIZE if channels == 1 else (*SIZE, channels)
            image = rng.integers(0, 255, shape, np.uint8)
            cv2.imwrite(str(tmp_path / f'own/images/{i}.png'), image)
            cv2.imwrite(str(tmp_path / f'own/labels/{i}.png'),
                        np.full(SIZE, label, np.uint8))
        config.train_dataloader.dataset.update(data_root=str(tmp_path / 'own'),
                                               data_prefix=dict(
                                                   img_path='images',
                                                   seg_map_path='labels'))
        return config

    return write


@pytest.mark.parametrize('label, said', [(255, 1), (1, 0)])
def test_no_label_that_counts_is_said_once(own_data, capfd, label, said):
    build_runner(own_data(3, label)).train()
    shown = ''.join(capfd.readouterr())
    assert shown.count('No pixel of the first batch has a label') == said


@pytest.mark.parametrize('channels', [1, 4])
@pytest.mark.parametrize('normalized', [True, False])
def test_images_of_other_channels(own_data, tmp_path, channels, normalized):
    config = own_data(channels, 1)
    eyes = dict(type='SegDataPreProcessor',
                size=SIZE,
                pad_val=0,
                seg_pad_val=255)
    if normalized:
        eyes.update(mean=[10.], std=[50.])
    own = teacher()
    own['backbone']['in_channels'] = channels
    own['data_preprocessor'] = dict(eyes)
    if normalized:
        own['data_preprocessor'].update(std=[25.])
    config.custom_hooks[0] = saved(own, tmp_path)
    config.model = ConfigDict(own)
    config.model.data_preprocessor = eyes
    config.custom_hooks[1].student = 'decode_head.bottleneck'
    config.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile', color_type='unchanged'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')
    ]
    build_runner(config).train()


# -- teachers --------------------------------------------------------------


def test_two_teachers(config, teacher_hook, tmp_path):
    deep = teacher()
    deep['backbone'].update(base_channels=16)
    deep['decode_head'].update(in_channels=128)
    config.custom_hooks = [
        dict(type='FitNetHook', name='b', teacher_name='deep', **TAPS),
        dict(teacher_hook, name='small'),
        dict(type='FitNetHook', name='a', teacher_name='small', **TAPS),
        dict(saved(deep, tmp_path), name='deep')
    ]
    runner = build_runner(config)
    seen = {}
    for name in 'ab':
        runner.model.distill[name].register_forward_pre_hook(
            lambda m, args, name=name: seen.update({name: args[1].clone()}))
    runner.train()
    assert not torch.equal(seen['a'], seen['b'])
    config.custom_hooks[0].pop('teacher_name')
    with pytest.raises(UserError, match=r"teacher_name= is one of \['small'"):
        build_runner(config)
    config.custom_hooks[1].name = 'deep'
    with pytest.raises(UserError, match="two teachers are named 'deep'"):
        build_runner(config)


def test_the_teachers_mode_survives_its_evaluation(config, data_root):
    config.update(val_cfg=dict(type='ValLoop'),
                  val_evaluator=dict(type='IoUMetric', iou_metrics=['mIoU']),
                  val_dataloader=dict(dataset=dataset(data_root, 'val', False),
                                      sampler=dict(type='DefaultSampler',
                                                   shuffle=False),
                                      batch_size=1,
                                      num_workers=0))
    config.custom_hooks[0].update(evaluate=True, teacher_mode='bn_train')
    runner = build_runner(config)
    network, modes = runner.distiller.teachers['teacher'].network, []
    norm = next(m for m in network.modules()
                if isinstance(m, torch.nn.BatchNorm2d))
    norm.register_forward_pre_hook(lambda m, args: modes.append(m.training))
    runner.train()
    assert modes[:3] == [False] * 3 and modes[3:5] == [True] * 2


def test_an_argument_that_a_teacher_has_not(config):
    hook = config.custom_hooks[0]
    hook.ckpt = hook.pop('checkpoint')
    with pytest.raises(UserError, match='no ckpt=; did you mean checkpoint'):
        build_runner(config)


# -- runners ---------------------------------------------------------------


def test_a_runner_that_does_not_know_us(config):
    config.pop('runner_type')
    config.runner_type = 'Runner'
    with pytest.raises(UserError, match="runner_type='DistillRunner'"):
        build_runner(config).train()


def test_a_single_image_behind_global_pooling(config):
    config.model = teacher()
    config.custom_hooks[1].student = 'decode_head.bottleneck'
    config.train_dataloader.batch_size = 1
    with pytest.raises(UserError, match='larger train_dataloader.batch_size'):
        build_runner(config).train()


def test_a_sampler_by_its_class(config):
    config.train_dataloader.sampler.type = InfiniteSampler
    runner = build_runner(config)
    assert isinstance(runner.train_dataloader.dataset, SeededDataset)


def test_epochs_are_no_iterations(config):
    config.optim_wrapper.accumulative_counts = 3
    config.train_dataloader.sampler = dict(type='DefaultSampler', shuffle=True)
    config.train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=1)
    config.param_scheduler = None
    config.default_hooks.checkpoint = dict(type='CheckpointHook',
                                           by_epoch=True,
                                           interval=1,
                                           max_keep_ckpts=2)
    build_runner(config).train()  # 3 iterations of 2 images


@pytest.mark.parametrize('end, expected', [(0, [0, 0]), (1, [1, 0])])
def test_a_term_ends_at_its_end(config, end, expected):
    config.custom_hooks[1].end = end
    assert [line['loss_fitnet'] > 0 for line in logged(config)] == expected
