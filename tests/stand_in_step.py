"""What a training step of each shipped config makes the host wait for.

    python tests/stand_in_step.py [CONFIG ...]     prints JSON, see `measure`

On the GPU that is not there (`stand_in_gpu.py`), with the real runner, its
hooks, data files and stages. Networks are small where a config's own would
show nothing new.
"""
import importlib.util
import json
import logging
import os
import sys
import tempfile
import warnings
from contextlib import contextmanager
from pathlib import Path

import stand_in_gpu  # first: it makes the device
import torch
from conftest import forget_instances
from mmengine.config import Config, ConfigDict
from mmengine.device import utils
from mmengine.registry import init_default_scope
from mmengine.runner import IterBasedTrainLoop
from test_configs import shrink
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
              norm_cfg=NORM)
# Strides 4, 8, 16, 16 and 4, 8, 8, 8, as those of the configs.
STUDENT = dict(backbone=dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2),
                             **RESNET),
               decode_head=dict(type='FCNHead',
                                in_channels=64,
                                channels=64,
                                num_convs=0,
                                concat_input=False))
TEACHER = dict(backbone=dict(strides=(1, 2, 1, 1), dilations=(1, 1, 2, 4),
                             **RESNET),
               decode_head=dict(type='DepthwiseSeparableASPPHead',
                                in_channels=64,
                                channels=24,
                                dilations=(1, 3),
                                c1_in_channels=8,
                                c1_channels=4))
# Whose own networks are run.
AS_THEY_ARE = ('student_deeplab', 'student_mobilenetv2_deeplabv3plus',
               'student_mobilenetv2_pspnet', 'student_mobilenetv3_lraspp',
               'teacher_deeplab_camvid')
ITERATIONS = 2  # of each stage: the first may wait


def small(cfg, changes):
    """A model of this data with the small networks."""
    head = dict(in_index=3,
                num_classes=cfg.num_classes,
                norm_cfg=NORM,
                align_corners=False,
                loss_decode=dict(type='CrossEntropyLoss', avg_non_ignore=True))
    return ConfigDict(type='EncoderDecoder',
                      data_preprocessor=cfg.data_preprocessor,
                      backbone=changes['backbone'],
                      decode_head={
                          **head,
                          **changes['decode_head']
                      },
                      test_cfg=dict(mode='whole'))


def tiny(name, folder, iterations=ITERATIONS):
    """The config, on small images and few iterations."""
    cfg = Config.fromfile(shipped.find(name))
    size = (400, 416) if 'lraspp' in name else SIZE
    shrink(cfg, folder / 'data', size)
    if name not in AS_THEY_ARE:
        cfg.model = small(cfg, STUDENT)
    if 'teacher' in cfg:
        model = small(cfg, TEACHER)
        path = folder / f'teacher_{cfg.num_classes}.pth'
        if not path.exists():
            config, _ = teacher_config(model, 'none')
            torch.save(MODELS.build(config).state_dict(), path)
        cfg.teacher.update(model=model, checkpoint=str(path))
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    cfg.default_hooks.checkpoint.save_best = None
    hooks = cfg.get('custom_hooks') or {}
    for hook in hooks.values():
        if hook.get('weight') == 'auto':
            hook.auto_iters = 1
    for part in (cfg, *named_stages(cfg).values()):
        if 'train_cfg' in part:
            part['train_cfg']['max_iters'] = iterations
    return cfg


def measure(name, folder, batch=2, **options):
    """Trains on the GPU.

    Returns:
        By stage, for each iteration: ``kernels``, those ``of`` the teacher's
        forward, and ``waits``, as ``'item at seg_kd/...py:12'``.
    """
    forget_instances()
    cfg = tiny(name, folder, **options)
    cfg.train_dataloader.batch_size = batch
    found = {}
    watch = stand_in_gpu.Watch()
    run_iter, save = IterBasedTrainLoop.run_iter, DistillRunner.save_checkpoint

    def unwatched(runner, *args, **kwargs):
        before = watch.kernels, list(watch.waits)
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

    IterBasedTrainLoop.run_iter = watched
    DistillRunner.save_checkpoint = unwatched
    try:
        with watch:
            run_stages(cfg, str(folder / f'{name}_{batch}'))
    finally:
        IterBasedTrainLoop.run_iter = run_iter
        DistillRunner.save_checkpoint = save
    return found


def main():
    warnings.simplefilter('ignore')
    logging.disable(logging.INFO)
    torch.set_num_threads(1)
    yapf_api.FormatCode = lambda text, **options: (text, False)
    utils.DEVICE = stand_in_gpu.DEVICE  # what mmengine's get_device() says
    init_default_scope('mmseg')
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for name in sys.argv[1:] or shipped.names():
            lacks = importlib.util.find_spec(
                'efficientnet_lite_pytorch') is None
            if name == 'teacher_deeplab_camvid' and lacks:
                continue
            import time
            t = time.process_time()
            try:
                found[name] = measure(name, Path(folder))
            except BaseException:
                import traceback
                traceback.print_exc()
            print(name, round(time.process_time() - t, 2), file=sys.stderr)
    print(json.dumps(found, indent=1), flush=True)
    os._exit(0)  # torch's threads do not survive the device's end


if __name__ == '__main__':
    main()
