"""Teachers: zoo names and weights exist, and the tapped maps are there."""
import os
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import init_default_scope

from seg_kd import shipped
from seg_kd.registry import MODELS

TEACHERS = Path(__file__).parents[2] / 'configs/_base_/teachers'
# Classes, and parameters with the auxiliary head.
ZOO = {
    'deeplabv3plus_r50': (19, 43_589_878),
    'deeplabv3plus_r101': (19, 62_582_006),
    'pspnet_r50': (19, 48_975_494),
    'pspnet_r101': (19, 67_967_622),
    'deeplabv3plus_r101_voc': (21, 62_583_546),
}
# Channels of the bottleneck, and parameters.
OWN = {
    'deeplabv3plus_r18_small': (64, 8, 1_877_947),
    'deeplabv3plus_effnetlite2': (128, 16, 5_377_491),
}

# Teachers that a shipped config trains.
TRAINED = ('camvid', 'camvid_by_recording', 'camvid_by_recording_s8',
           'synthetic')


def zoo_config(name, pretrained=False):
    teacher = Config.fromfile(TEACHERS / f'{name}.py').teacher
    assert teacher.type == 'TeacherHook'
    return get_config(teacher.model, pretrained=pretrained)


def bottleneck_shape(model):
    shapes = []
    model.decode_head.bottleneck.register_forward_hook(
        lambda module, args, output: shapes.append(tuple(output.shape)))
    with torch.no_grad():
        model.eval().encode_decode(torch.randn(1, 3, 64, 128),
                                   [dict(img_shape=(64, 128))])
    return shapes[0]


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def test_every_teacher_is_here():
    there = {path.stem for path in TEACHERS.glob('*.py')}
    assert there == {*ZOO, *OWN, *TRAINED}


@pytest.mark.parametrize('name', TRAINED)
def test_a_shipped_config_trains_it(name):
    teacher = Config.fromfile(TEACHERS / f'{name}.py').teacher
    config = Config.fromfile(shipped.find(teacher.model))
    if 'checkpoint' not in teacher:
        assert os.path.getsize(shipped.weights(teacher.model)) < 4 << 20
        return
    folder, *stage, file = teacher.checkpoint.split('/')[1:]
    assert f'seg_kd::{folder}.py' == teacher.model
    last = config.stages[stage[0]] if stage else config
    assert file == f'iter_{last.train_cfg.max_iters}.pth'


@pytest.mark.parametrize('name', ZOO)
def test_weights_are_in_the_model_index(name):
    config = zoo_config(name, pretrained=True)
    assert config.model_path.endswith('.pth')
    assert config.model.decode_head.num_classes == ZOO[name][0]


# The zoo's configs leave it at its default; we do not train with them.
@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``:UserWarning')
@pytest.mark.parametrize('name', ZOO)
def test_zoo_teacher_maps_and_parameters(name):
    config = zoo_config(name).model
    config.pretrained = None  # no download
    model = revert_sync_batchnorm(MODELS.build(config))
    assert bottleneck_shape(model) == (1, 512, 8, 16)
    assert sum(p.numel() for p in model.parameters()) == ZOO[name][1]


@pytest.mark.parametrize('name', OWN)
def test_own_teacher_maps_and_parameters(name):
    if 'effnet' in name:
        pytest.importorskip('efficientnet_lite_pytorch',
                            reason='needs the extra: seg_kd[teacher]')
    model = MODELS.build(Config.fromfile(TEACHERS / f'{name}.py').model)
    channels, stride, parameters = OWN[name]
    assert bottleneck_shape(model) == (1, channels, 64 // stride,
                                       128 // stride)
    assert sum(p.numel() for p in model.parameters()) == parameters
