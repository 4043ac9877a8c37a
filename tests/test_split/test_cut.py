"""Cuts: which layers are split points, and that the tail is the teacher's."""
import pytest
import torch
from conftest import SIZE, teacher
from mmengine.registry import init_default_scope
from torch import nn

from seg_kd.errors import UserError
from seg_kd.registry import MODELS
from seg_kd.split import cut

IMAGE = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))


def segmentor(**changes) -> nn.Module:
    """ResNetV1c with a PSP head, which reads the last map only."""
    config = teacher()
    config.update(changes)
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(config).eval()


def with_skip() -> nn.Module:
    """Its decoder reads the first map of the backbone, too."""
    head = dict(teacher()['decode_head'],
                type='DepthwiseSeparableASPPHead',
                dilations=(1, 2),
                c1_in_channels=8,
                c1_channels=4)
    return segmentor(decode_head=head)


@torch.no_grad()
@pytest.mark.parametrize('path, name, shape', [
    ('backbone.stem', 'backbone.stem', (8, 32, 48)),
    ('backbone.maxpool', 'backbone.maxpool', (8, 16, 24)),
    ('backbone.layer1', 'backbone.layer1', (8, 16, 24)),
    ('backbone.layer2.0', 'backbone.layer2.0', (16, 8, 12)),
    ('backbone[1]', 'backbone.layer2', (16, 8, 12)),
    ('backbone[-1]', 'backbone.layer4', (64, 8, 12)),
])
def test_the_tail_goes_on_as_the_whole(path, name, shape):
    """On another image, of another size and batch, than it was cut with."""
    images = torch.randn(2, 3, 56, 90)
    network, kept = segmentor(), []
    network.get_submodule(name).register_forward_hook(
        lambda module, args, output: kept.append(output.clone()))
    expected = network(images)
    given = kept[0]
    found, size, tail = cut.split(network, path, IMAGE)
    assert found == name and tuple(size[1:]) == shape
    assert torch.equal(network(given), expected)
    assert tail.source.given is None


def test_what_comes_before_is_gone():
    network = segmentor()
    whole = sum(p.numel() for p in network.parameters())
    before = [network.backbone.stem, network.backbone.layer1]
    before = sum(p.numel() for m in before for p in m.parameters())
    _, _, tail = cut.split(network, 'backbone.layer1', IMAGE)
    assert sum(p.numel() for p in network.parameters()) == whole - before
    assert not any(
        key.startswith(('backbone.stem', 'backbone.layer1'))
        for key in tail.state_dict())


def test_all_split_points():
    points = cut.Trace(segmentor(), IMAGE).split_points()
    assert points[-1] == 'backbone.layer4'
    assert [p for p in points if p.count('.') == 1] == [
        'backbone.stem', 'backbone.maxpool', 'backbone.layer1',
        'backbone.layer2', 'backbone.layer3', 'backbone.layer4'
    ]
    assert 'backbone.layer1.0' in points
    assert 'backbone.layer1.0.conv1' not in points  # the block's skip
    assert 'backbone.stem.1' not in points  # its ReLU works in place


def test_a_decoder_that_reads_an_early_map_bounds_them():
    points = cut.Trace(with_skip(), IMAGE).split_points()
    assert points[-1] == 'backbone.layer1'


class Functional(nn.Module):
    """A backbone whose forward does more than to call layers."""

    def __init__(self, change):
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1)
        self.last = nn.Conv2d(4, 64, 3, padding=1)
        self.shared, self.idle = nn.ReLU(), nn.ReLU()
        self.change = change

    def forward(self, x):
        return [
            self.last(self.shared(self.change(self.shared(self.first(x)))))
        ] * 4


def functional(change) -> nn.Module:
    network = segmentor()
    network.backbone = Functional(change)
    return network


def test_harmless_functions_before_the_cut():
    network = functional(lambda x: x * 2 + 1)
    given = network.backbone.first(IMAGE)
    expected = network(IMAGE)
    cut.split(network, 'backbone.first', IMAGE)
    assert torch.equal(network(given), expected)


def test_a_layer_that_runs_on_both_sides_of_the_cut():
    network, kept = functional(nn.Conv2d(4, 4, 1)), []
    network.backbone.change.register_forward_hook(
        lambda module, args, output: kept.append(output.clone()))
    expected = network(IMAGE)
    cut.split(network, 'backbone.change', IMAGE)
    assert torch.equal(network(kept[0]), expected)


@pytest.mark.parametrize('network, path, message', [
    (segmentor, 'backbone.layer9', r"no layer 'backbone.layer9'; the nearest"),
    (segmentor, 'backbone', r'one of backbone\[0\] to backbone\[3\]'),
    (segmentor, 'backbone[4]', r'one of backbone\[0\] to backbone\[3\]'),
    (segmentor, 'backbone:x', 'not of the form'),
    (segmentor, 'backbone.stem.1', 'stem.1.*overwrites its map in place'),
    (segmentor, 'backbone.layer1.1.conv2',
     'through a skip connection; .*backbone.layer1'),
    (segmentor, 'decode_head.bottleneck', 'inside the backbone; .*layer4'),
    (segmentor, 'auxiliary_head', "no layer 'auxiliary_head'"),
    (with_skip, 'backbone.layer2',
     'reads maps from before it.*the nearest.*: backbone.layer1, '),
    (with_skip, 'backbone[3]', 'reads maps from before it'),
    (lambda: functional(torch.relu), 'backbone.shared', 'runs 2 times'),
    (lambda: functional(torch.relu), 'backbone.idle', 'does not run'),
])
def test_what_cannot_be_one(network, path, message):
    with pytest.raises(UserError, match=message):
        cut.split(network(), path, IMAGE)


def test_a_way_that_autograd_does_not_see():
    """Then the tail's own output tells."""

    class Hidden(Functional):

        def forward(self, x):
            return [self.last(self.first(x) + x.detach().mean())] * 4

    network = segmentor()
    network.backbone = Hidden(None)
    with pytest.raises(UserError, match='something else than as a whole'):
        cut.split(network, 'backbone.first', IMAGE)


def test_a_forward_that_needs_a_whole_image():

    class Needs(Functional):

        def forward(self, x):
            height = x[:, :, 40:].shape[2]  # 0 on a single pixel
            return [self.last(self.first(x))[:, :, :1 // height + 8]] * 4

    network = segmentor()
    network.backbone = Needs(None)
    with pytest.raises(UserError, match='more than to call its layers'):
        cut.split(network, 'backbone.first', IMAGE)
