"""Students: the maps that configs tap, their sizes, the ImageNet names."""
import json
from pathlib import Path

import mmengine
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from seg_kd.registry import MODELS

STUDENTS = Path(__file__).parents[2] / 'configs/_base_/students'
# torchvision's counts of the same networks without their classifiers:
# 3,504,872 - 1,281,000 (linear) - 412,160 (last 1x1 conv), and 5,483,032 -
# 2,511,080 (two linear layers).
V2, V3 = 1_811_712, 2_971_952
FROM_SCRATCH = {'mobilenetv2_s16_half', 'mobilenetv2_deeplabv3plus_half'}
PACKAGED = {'efficientnet_lite0_s16'}  # its weights are a package
LITE0 = 2_958_848  # 4,652,008 - 1,281,000 - 412,160
HALF = 480_320  # width 0.5: 1,968,680 - 1,281,000 - 207,360
# Channels and strides of the backbone's maps, its parameters, the head's.
EXPECTED = {
    'mobilenetv2_s16': ([(24, 4), (32, 8), (96, 16),
                         (320, 16)], V2, 320 * 19 + 19),
    'mobilenetv2_s16_half': ([(16, 4), (16, 8), (48, 16),
                              (160, 16)], HALF, 160 * 19 + 19),
    'mobilenetv2_deeplabv3plus_half': ([(16, 4), (16, 8), (48, 16),
                                        (160, 16)], HALF, 254_147),
    'mobilenetv2_deeplabv3plus': ([(24, 4), (32, 8), (96, 8),
                                   (320, 8)], V2, 13_206_083),
    'mobilenetv2_pspnet': ([(24, 4), (32, 8), (96, 8),
                            (320, 8)], V2, 11_581_971),
    'efficientnet_lite0_s16': ([(24, 4), (40, 8), (112, 16),
                                (320, 16)], LITE0, 320 * 19 + 19),
    'mobilenetv3_lraspp': ([(16, 2), (24, 4), (960, 8)], V3, 312_595),
}


def count(module):
    return sum(p.numel() for p in module.parameters())


def load(name):
    return Config.fromfile(STUDENTS / f'{name}.py').model


def build(name):
    if name in PACKAGED:
        pytest.importorskip('efficientnet_lite_pytorch',
                            reason='needs pip install .[teacher]')
    model = load(name)
    model.backbone.init_cfg = None  # no download
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(model).eval()


def test_every_student_is_here():
    assert {path.stem for path in STUDENTS.glob('*.py')} == set(EXPECTED)


@pytest.mark.parametrize('name', EXPECTED)
def test_maps_and_parameters(name):
    model = build(name)
    # LR-ASPP pools 49 x 49 windows at stride 8.
    h, w = (392, 400) if name == 'mobilenetv3_lraspp' else (64, 128)
    with torch.no_grad():
        maps = model.backbone(torch.randn(1, 3, h, w))
        logits = model.decode_head(maps)
    channels, backbone, head = EXPECTED[name]
    assert [tuple(x.shape) for x in maps] == [(1, c, h // s, w // s)
                                              for c, s in channels]
    assert logits.shape[:2] == (1, 19)
    assert (count(model.backbone), count(model.decode_head)) == (backbone,
                                                                 head)


def test_paper_student_has_neither_aspp_nor_decoder():
    head = build('mobilenetv2_s16').decode_head
    assert [m for m in head.modules()
            if isinstance(m, torch.nn.Conv2d)] == [head.conv_seg]
    assert head.conv_seg.kernel_size == (1, 1)


@pytest.mark.parametrize('name',
                         sorted(EXPECTED.keys() - FROM_SCRATCH - PACKAGED))
def test_imagenet_weights_have_a_name_that_mmengine_knows(name):
    scheme, key = load(name).backbone.init_cfg.checkpoint.split('://')
    index = {'mmcls': 'mmcls', 'open-mmlab': 'openmmlab'}[scheme]
    hub = Path(mmengine.__file__).parent / 'hub' / f'{index}.json'
    assert key in json.loads(hub.read_text())
