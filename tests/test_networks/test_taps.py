"""Maps read by layer path, from networks that were not written for it."""
import pytest
import torch
from torch import nn

from seg_kd.errors import UserError
from seg_kd.networks.taps import Taps, parse, resolve


class Net(nn.Module):
    """A backbone of two maps, an in-place ReLU, a head."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, stride=2, padding=1)
        self.relu = nn.ReLU(inplace=True)
        self.backbone = Pair()
        self.head = nn.Sequential(nn.Conv2d(8, 5, 1), nn.Dropout(0.5))
        self.unused = nn.Conv2d(3, 3, 1)
        self.ran_head = 0

    def forward(self, x):
        _, deep = self.backbone(self.relu(self.stem(x)))
        self.ran_head += 1
        return self.head(deep)


class Pair(nn.Module):

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(4, 8, 3, stride=2, padding=1)

    def forward(self, x):
        return x, self.conv(x)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net()


def test_paths():
    assert parse('backbone[3]') == ('backbone', 3)
    assert parse('decode_head.conv_seg') == ('decode_head.conv_seg', None)
    assert parse('decode_head.activate:input') == ('decode_head.activate',
                                                   None)
    with pytest.raises(UserError, match='not of the form'):
        parse('backbone[x]')


def test_maps_are_the_layers_own(net):
    image = torch.randn(2, 3, 9, 14)
    taps = Taps(net, ['backbone[0]', 'backbone[1]', 'head.0']).attach()
    maps = taps.run(image)
    taps.detach()
    shallow = net.relu(net.stem(image))
    torch.testing.assert_close(maps['backbone[0]'], shallow)
    torch.testing.assert_close(maps['backbone[1]'], net.backbone.conv(shallow))
    torch.testing.assert_close(maps['head.0'],
                               net.head[0](maps['backbone[1]']))
    assert not any(m._forward_hooks for m in net.modules())


@pytest.mark.parametrize('training', [True, False])
def test_input_is_kept_from_an_in_place_layer(net, training):
    net.train(training)
    net.head[1].p = 0.
    image = torch.randn(2, 3, 9, 14)
    untapped = net(image)
    before = net.stem(image)
    taps = Taps(net, ['relu:input', 'backbone[0]', 'head:input']).attach()
    output = net(image)
    maps = taps.take()
    taps.detach()
    assert torch.equal(output, untapped)
    assert torch.equal(maps['relu:input'], before)
    assert (before < 0).any()
    assert torch.equal(maps['backbone[0]'], before.relu())
    assert torch.equal(maps['head:input'], net.backbone.conv(before.relu()))
    assert not any(m._forward_pre_hooks for m in net.modules())


def test_gradients_pass_through_a_tapped_input(net):
    """Of a term at the map to what is before, and of the output to it."""
    taps = Taps(net, ['relu:input']).attach()
    net.head[1].p = 0.
    output = net(torch.randn(2, 3, 9, 14)).square().sum()
    kept = taps.take()['relu:input']
    gradient, = torch.autograd.grad(output, kept, retain_graph=True)
    assert torch.equal(gradient != 0, kept > 0)
    bias, = torch.autograd.grad(kept.sum(), net.stem.bias)
    assert (bias == 2 * 5 * 7).all()


def test_input_of_a_layer_that_runs_twice_is_the_last(net):
    """As the ReLU of a residual block: last it gets the sum."""
    net.forward = lambda x: net.relu(net.backbone.conv(net.relu(net.stem(x))))
    taps = Taps(net, ['relu:input'])
    image = torch.randn(1, 3, 9, 14)
    assert taps.shapes(image) == {'relu:input': (1, 8, 3, 4)}
    taps.attach()
    maps = taps.run(image)
    assert torch.equal(maps['relu:input'],
                       net.backbone.conv(net.stem(image).relu()))


def test_input_stops_the_forward(net):
    taps = Taps(net, ['head:input'])
    taps.shapes(torch.randn(1, 3, 9, 14))
    calls = []
    net.head[0].register_forward_hook(lambda *args: calls.append(args))
    taps.attach().run(torch.randn(1, 3, 9, 14))
    assert not calls


class Sum(nn.Module):

    def forward(self, a, b):
        return a + b


def test_inputs_of_a_layer_that_takes_several():
    net = nn.ModuleDict(dict(sum=Sum()))
    net.forward = net['sum'].__call__
    a, b = torch.randn(2, 1, 3, 2, 2)
    maps = Taps(net, ['sum[1]:input']).attach().run(a, b)
    assert torch.equal(maps['sum[1]:input'], b)
    with pytest.raises(UserError, match=r'receives 2 .* sum\[0\]:input to'):
        Taps(net, ['sum:input']).attach().run(a, b)


def test_shapes_then_stop_at_the_deepest_map(net):
    taps = Taps(net, ['backbone[1]', 'backbone[0]'])
    net.train()
    assert taps.shapes(torch.randn(1, 3, 9, 14)) == {
        'backbone[0]': (1, 4, 5, 7),
        'backbone[1]': (1, 8, 3, 4)
    }
    assert net.training and net.head.training
    assert net.ran_head == 1
    taps.attach()
    assert taps.run(torch.randn(1, 3, 9, 14))['backbone[1]'].shape[1] == 8
    assert net.ran_head == 1


@pytest.mark.parametrize('path, message', [
    ('bakcbone[1]', 'nearest are: .*backbone'),
    ('backbone[2]', r"returns 2 maps: .* backbone\[0\] to backbone\[1\]"),
    ('backbone', 'returns 2 maps'),
    ('head.0[1]', "single map: write 'head.0'"),
    ('stem', "overwritten in place .*':input' behind"),
    ('unused', 'did not run'),
    ('unused:input', 'did not run'),
    ('hed:input', 'nearest are: .*head'),
    ('head:inputs', 'not of the form'),
    ('', 'not of the form'),
])
def test_wrong_paths_say_what_to_do(net, path, message):
    with pytest.raises(UserError, match=message):
        Taps(net, [path]).attach().run(torch.randn(1, 3, 8, 8))


def test_what_is_no_map(net):
    net.add_module('pooled', nn.Flatten())
    taps = Taps(nn.Sequential(net, nn.Flatten()), ['1']).attach()
    with pytest.raises(UserError, match='not a feature map'):
        taps.run(torch.randn(1, 3, 8, 8))


def test_every_real_name_resolves(net):
    for name, module in net.named_modules():
        if name:
            assert resolve(net, name) is module


def test_a_layer_that_was_replaced_is_read():
    """As SyncBN takes the place of batch norm when a model is wrapped."""
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.ReLU())
    taps = Taps(model, ['1'])
    taps.shapes(torch.zeros(1, 3, 2, 2))
    model = nn.SyncBatchNorm.convert_sync_batchnorm(model).eval()
    seen = []
    model[1].forward = lambda x: seen.append(x) or x + 1
    maps = taps.run(torch.zeros(1, 3, 2, 2))
    assert torch.equal(maps['1'], seen[0] + 1)
