"""Folded batch norms: the same maps, fewer layers."""
import copy

import pytest
import torch
from conftest import teacher
from mmcv.cnn import ConvModule
from mmengine.registry import init_default_scope
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from seg_kd.models import EfficientNetLite
from seg_kd.networks.folding import fold_batch_norm
from seg_kd.networks.taps import Taps
from seg_kd.registry import MODELS

BN = dict(type='BN')


def image(seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, 3, 32, 48, generator=generator)


def with_statistics(network):
    """In eval mode; batch norms scale and shift by all that they have."""
    torch.manual_seed(1)
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.running_mean.normal_()
            module.running_var.uniform_(.5, 2.)
            if module.affine:
                nn.init.normal_(module.weight, 1., .3)
                nn.init.normal_(module.bias)
    return network.requires_grad_(False).eval()


def left_after_folding(network, *paths):
    """How many of the batch norms that run are left; no map has changed."""
    taps = Taps(network, paths)
    taps.shapes(image(0))
    plain, ran = taps.attach().run(image(1)), norms_that_run(taps)
    taps.detach()
    count = fold_batch_norm(taps, image(0))
    taps.attach()
    left = norms_that_run(taps)
    assert left == ran - count
    assert not any(p.requires_grad for p in network.parameters())
    for path, kept in taps.run(image(1)).items():
        worst = (kept - plain[path]).abs().max() / plain[path].abs().max()
        assert worst <= 1e-5, path
    return left


def norms_that_run(taps):
    ran = []
    handles = [
        module.register_forward_pre_hook(lambda *_: ran.append(1))
        for module in taps.model.modules() if isinstance(module, _BatchNorm)
    ]
    taps.run(image(1))
    for handle in handles:
        handle.remove()
    return len(ran)


@pytest.fixture(scope='module')
def segmentor():
    init_default_scope('mmseg')
    return with_statistics(MODELS.build(teacher()))


@pytest.mark.parametrize('left, paths', [
    (0, ['decode_head.conv_seg']),
    (0, ['decode_head.bottleneck', 'backbone[1]']),
    (0, ['decode_head.bottleneck.activate:input']),
    (0, ['decode_head.bottleneck.conv']),
    (1, ['decode_head.bottleneck.conv', 'decode_head.conv_seg']),
    (1, ['decode_head.bottleneck.conv:input', 'decode_head.conv_seg']),
    (1, ['decode_head.bottleneck.bn:input', 'decode_head.conv_seg']),
    (1, ['decode_head.conv_seg', 'backbone.layer2.0.downsample.1']),
    (1, ['backbone.layer1.0.conv2', 'backbone[0]']),
    (2, ['backbone.stem.0', 'backbone.stem.4:input', 'backbone[3]']),
])
def test_every_tapped_map_is_the_same(segmentor, left, paths):
    assert left_after_folding(copy.deepcopy(segmentor), *paths) == left


def test_efficientnet_lite():
    pytest.importorskip('efficientnet_lite_pytorch')
    network = nn.Sequential(EfficientNetLite('lite0', 16, pretrained=False))
    assert left_after_folding(with_statistics(network), '0[3]') == 0


class Reused(nn.Module):
    """One convolution, two norms."""

    def __init__(self):
        super().__init__()
        self.conv, self.first = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)
        self.second = nn.BatchNorm2d(3)

    def forward(self, x):
        return self.second(self.conv(self.first(self.conv(x))))


class Residual(nn.Module):
    """What the norm receives is used beside it too."""

    def __init__(self):
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x):
        x = self.conv(x)
        return x + self.bn(x)


def block(**settings):
    return ConvModule(3, 3, 3, norm_cfg=BN, **settings)


def test_a_tapped_container_of_a_convolution():
    layers = nn.Sequential(nn.Sequential(nn.Conv2d(3, 4, 1)),
                           nn.BatchNorm2d(4), nn.ReLU(inplace=True))
    network = with_statistics(nn.Sequential(layers, nn.Conv2d(4, 4, 1)))
    assert left_after_folding(network, '0.0', '1') == 1


@pytest.mark.parametrize('left, layer', [
    (0, block()),
    (0, block(groups=3, padding=1, padding_mode='reflect')),
    (0, nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, affine=False))),
    (1, block(order=('norm', 'conv', 'act'))),
    (1, nn.Sequential(block(), block(order=('conv', 'act', 'norm')))),
    (1, block(with_spectral_norm=True)),
    (2, nn.Sequential(block(), Reused())),
    (1, Residual()),
])
def test_only_what_a_norm_alone_receives(left, layer):
    network = with_statistics(nn.Sequential(layer))
    assert left_after_folding(network, '0') == left
