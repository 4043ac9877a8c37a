"""What a training step of each shipped config makes the host wait for.

    python tests/stand_in_step.py [CONFIG ...] [more]

prints JSON, see `measure`; by default of all configs, and of `more`.

On the GPU that is not there (`stand_in_gpu.py`), with the real runner, its
hooks, data files and stages. Networks are small where a config's own would
show nothing new, and configs that then differ in data and numbers alone are
run once.
"""
import gc
import importlib.util
import json
import logging
import os
import re
import sys
import tempfile
import time
import warnings
from contextlib import contextmanager
from pathlib import Path

import stand_in_gpu  # first: it makes the device
import torch
from conftest import forget_instances
from mmengine.config import Config, ConfigDict
from mmengine.device import utils
from mmengine.model import BaseModule
from mmengine.registry import init_default_scope
from mmengine.runner import IterBasedTrainLoop
from test_configs import shrink
from torch import nn
from yapf.yapflib import yapf_api

import seg_kd.register  # noqa: F401
from seg_kd import shipped
from seg_kd.engine.runner import DistillRunner
from seg_kd.engine.stages import named_stages, run_stages
from seg_kd.registry import MODELS
from seg_kd.teacher.build import teacher_config

SIZE = 64, 96
NORM = dict(type='BN')
RESNET = dict(type='ResNetV1c',
              depth=18,
              stem_channels=8,
              base_channels=8,
              strides=(1, 2, 1, 1),
              norm_cfg=NORM)
# Whose own networks are run.
AS_THEY_ARE = ('student_deeplab', 'student_mobilenetv2_deeplabv3plus',
               'student_mobilenetv2_pspnet', 'student_mobilenetv3_lraspp',
               'teacher_deeplab_camvid')
ITERATIONS = 2  # of each stage: the first may wait
WIDTHS = 4, 8, 16, 32


@MODELS.register_module()
class FourLayers(BaseModule):
    """A backbone of as many layers as a network here has taps."""

    def __init__(self, strides):
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Sequential(nn.Conv2d(before, width, 3, stride, 1),
                          nn.BatchNorm2d(width), nn.ReLU(inplace=True))
            for before, width, stride in zip((3, *WIDTHS), WIDTHS, strides))

    def forward(self, x):
        found = []
        for layer in self.layers:
            x = layer(x)
            found.append(x)
        return tuple(found)


def small(cfg, backbone, **head):
    """A model for this data, of a small backbone."""
    return ConfigDict(type='EncoderDecoder',
                      data_preprocessor=cfg.data_preprocessor,
                      backbone=backbone,
                      decode_head=dict(in_index=3,
                                       num_classes=cfg.num_classes,
                                       norm_cfg=NORM,
                                       align_corners=False,
                                       loss_decode=dict(
                                           type='CrossEntropyLoss',
                                           avg_non_ignore=True),
                                       **head),
                      test_cfg=dict(mode='whole'))


def small_student(cfg):
    return small(cfg,
                 dict(type='FourLayers', strides=(4, 2, 2, 1)),
                 type='FCNHead',
                 in_channels=WIDTHS[-1],
                 channels=WIDTHS[-1],
                 num_convs=0,
                 concat_input=False)


def small_teacher(cfg):
    split = 'changes' in cfg  # HND cuts real backbones
    backbone = RESNET if split else dict(type='FourLayers',
                                         strides=(4, 2, 1, 1))
    return small(cfg,
                 backbone,
                 type='PSPHead',
                 in_channels=64 if split else WIDTHS[-1],
                 channels=24,
                 pool_scales=(1, 2))


def tiny(name, folder):
    """The config, on small images and few iterations."""
    cfg = Config.fromfile(shipped.find(name))
    shrink(cfg, folder / 'data' / name, SIZE)
    if name not in AS_THEY_ARE:
        cfg.model = small_student(cfg)
    elif cfg.model.decode_head.channels == 512:
        cfg.model.decode_head.channels = 32
    if 'teacher' in cfg:
        model = small_teacher(cfg)
        path = folder / f'{model.backbone.type}_{cfg.num_classes}.pth'
        if not path.exists():
            config, _ = teacher_config(model, 'none')
            torch.save(MODELS.build(config).state_dict(), path)
        cfg.teacher.update(model=model, checkpoint=str(path))
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint.save_best = None
    for hook in (cfg.get('custom_hooks') or {}).values():
        if hook.get('weight') == 'auto':
            hook.auto_iters = 1
    for part in (cfg, *named_stages(cfg).values()):
        if 'train_cfg' in part:
            part['train_cfg']['max_iters'] = ITERATIONS
    return cfg


def sort_of(cfg):
    """The same for configs that differ in data and in numbers alone."""
    kept = ['model', 'optim_wrapper', 'channels_last', 'again']
    if cfg.get('custom_hooks') or cfg.get('changes'):
        kept += ['teacher', 'custom_hooks', 'stages', 'changes']
    return re.sub(r"\d[\d.e-]*|'/[^']*'", '',
                  repr([cfg.get(key) for key in kept]))


def more(folder):
    """What no shipped config has, by name."""
    cfg = tiny('kd_deeplab', folder)
    cfg.train_dataloader.batch_size = 5
    cfg.again = True
    yield 'five images', cfg
    cfg = tiny('kd_deeplab', folder)
    cfg.default_hooks.gradient_ratio.interval = 1
    cfg.again = 'with ratios'
    cfg.custom_hooks.CRDHook = dict(instances='image',
                                    student='backbone[3]',
                                    teacher='decode_head.bottleneck')
    yield 'gradient ratios', cfg
    cfg = tiny('at_deeplab', folder)
    cfg.custom_hooks.ATHook.mode = 'gradient'
    cfg.model.decode_head.loss_decode.class_weight = [2.] * cfg.num_classes
    cfg.optim_wrapper.clip_grad = dict(max_norm=1.)
    images = folder / 'data' / 'at_deeplab' / 'leftImg8bit' / 'val'
    cfg.train_dataloader.unlabelled = dict(img_path=str(images))
    cfg.teacher.scale = 2.
    yield 'options', cfg


def measure(cfg, folder):
    """Trains on the GPU.

    Returns:
        By stage, for each iteration: ``kernels``, those ``of`` the teacher's
        forward and of the terms', and ``waits``, as
        ``'item at seg_kd/...py:12'``. Checkpoints are not looked at.
    """
    forget_instances()
    found = {}
    watch = stand_in_gpu.Watch()
    run_iter, save = IterBasedTrainLoop.run_iter, DistillRunner.save_checkpoint

    def unwatched(runner, *args, **kwargs):
        before = watch.kernels, watch.waits
        watch.waits = []
        save(runner, *args, **kwargs)
        watch.kernels, watch.waits = before

    def watched(loop, data):
        stage = (loop.runner.cfg.get('stage') or {}).get('name', '')
        watch.kernels, watch.waits, of = 0, [], {}

        @contextmanager
        def count(part):
            before = watch.kernels
            yield
            of[part] = of.get(part, 0) + watch.kernels - before

        if loop.runner.distiller is not None:
            loop.runner.distiller.around = count
        run_iter(loop, data)
        found.setdefault(stage, []).append(
            dict(kernels=watch.kernels, waits=watch.waits, of=of))
        watch.waits = []

    IterBasedTrainLoop.run_iter = watched
    DistillRunner.save_checkpoint = unwatched
    try:
        with watch:
            run_stages(cfg, str(folder))
    finally:
        IterBasedTrainLoop.run_iter = run_iter
        DistillRunner.save_checkpoint = save
    return found


def chosen(folder):
    """By name, the configs that were asked for."""
    lacks = importlib.util.find_spec('efficientnet_lite_pytorch') is None
    for name in sys.argv[1:] or [*shipped.names(), 'more']:
        if name == 'more':
            yield from more(folder)
        elif name != 'teacher_deeplab_camvid' or not lacks:
            yield name, tiny(name, folder)


def main():
    warnings.simplefilter('ignore')
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    yapf_api.FormatCode = lambda text, **options: (text, False)
    BaseModule.init_weights = lambda module: None  # many copies, and a log
    # LR-ASPP's windows of 49 x 49 pixels would need large images
    nn.AvgPool2d = lambda kernel_size, stride: nn.AdaptiveAvgPool2d(2)
    utils.DEVICE = stand_in_gpu.DEVICE  # what mmengine's get_device() says
    init_default_scope('mmseg')
    gc.freeze()  # each data set collects garbage
    found, known = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name, cfg in chosen(Path(folder)):
            sort = sort_of(cfg)
            if sort not in known:
                begun = time.process_time()
                known[sort] = measure(cfg, Path(folder, name))
                took = time.process_time() - begun
                print(f'{name}: {took:.1f} s', file=sys.stderr)
            found[name] = known[sort]
    print(json.dumps(found, indent=1), flush=True)
    os._exit(0)  # torch's threads do not survive the device's end


if __name__ == '__main__':
    main()
