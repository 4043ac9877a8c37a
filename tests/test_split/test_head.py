"""BottleneckHead: sizes, what crosses the link, mistakes."""
import pytest
import torch

from seg_kd.errors import UserError
from seg_kd.split import BottleneckHead


@torch.no_grad()
@pytest.mark.parametrize('stride', [2, 4, 8, 16])
@pytest.mark.parametrize('height, width', [(64, 96), (45, 71), (33, 40)])
def test_the_map_has_the_teachers_size(stride, height, width):
    head = BottleneckHead(7, stride, bottleneck_channels=3).eval()
    images = torch.randn(2, 3, height, width)
    assert head(images).shape == (2, 7, -(-height // stride),
                                  -(-width // stride))
    assert head.encoder(images).shape == (2, 3, -(-height // 8),
                                          -(-width // 8))


@torch.no_grad()
def test_all_goes_through_the_bottleneck():
    head = BottleneckHead(7, 4, encoder_channels=(8, )).eval()
    images = torch.randn(1, 3, 50, 30)
    sent = head.encoder(images)
    assert sent.shape == (1, 12, 13, 8)
    assert torch.equal(head.decoder(sent, (13, 8)), head(images))


def test_every_parameter_learns():
    head = BottleneckHead(7, 4)
    head.init_weights()
    head(torch.randn(2, 3, 32, 48)).square().sum().backward()
    assert [k for k, p in head.named_parameters() if not p.grad.any()] == []


@pytest.mark.parametrize('settings', [
    dict(bottleneck_channels=0),
    dict(encoder_channels=(8, 0)),
    dict(decoder_channels=0),
])
def test_no_channels(settings):
    with pytest.raises(UserError, match='needs channels'):
        BottleneckHead(7, 4, **settings)
