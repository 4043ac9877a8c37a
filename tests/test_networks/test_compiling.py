"""A compiled network: the same maps, read and stopped as before."""
import copy

import pytest
import torch
from conftest import teacher
from mmengine.registry import init_default_scope
from torch._dynamo.testing import CompileCounter

from seg_kd.errors import UserError
from seg_kd.networks.compiling import compile_untapped
from seg_kd.networks.taps import Taps
from seg_kd.registry import MODELS

IMAGE = torch.randn(1, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture(autouse=True)
def nothing_compiled_before():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope='module')
def segmentor():
    init_default_scope('mmseg')
    torch.manual_seed(1)
    network = MODELS.build(teacher())
    network.init_weights()
    return network.requires_grad_(False).eval()


def tapped(network, *paths):
    taps = Taps(copy.deepcopy(network), paths)
    taps.shapes(IMAGE)
    return taps


@pytest.mark.parametrize('paths, parts, graphs', [
    (['backbone[2]'], ['backbone', 'decode_head'], 1),
    (['backbone.layer2'], [
        'backbone.stem', 'backbone.layer1', 'backbone.layer2',
        'backbone.layer3', 'backbone.layer4', 'decode_head'
    ], 3),
    (['decode_head.bottleneck.activate:input', 'backbone[3]'], [
        'backbone', 'decode_head.conv_seg', 'decode_head.psp_modules',
        'decode_head.bottleneck.conv', 'decode_head.bottleneck.bn'
    ], 4),
])
def test_the_same_maps_and_no_more_is_run(segmentor, paths, parts, graphs):
    plain, taps = tapped(segmentor, *paths), tapped(segmentor, *paths)
    counter = CompileCounter()
    assert compile_untapped(taps, dict(backend=counter)) == parts
    with torch.no_grad():
        expected = plain.attach().run(IMAGE)
        for _ in range(2):
            maps = taps.attach().run(IMAGE)
            taps.detach()
            for path, kept in expected.items():
                torch.testing.assert_close(maps[path], kept)
    assert counter.frame_count == graphs


@pytest.mark.parametrize('options, message', [
    (dict(backend='nothing'), "Invalid backend: 'nothing'"),
    (dict(speed=11), "unexpected keyword argument 'speed'"),
    (dict(mode='fast'), 'Unrecognized mode=fast'),
])
def test_options_that_torch_refuses(segmentor, options, message):
    with pytest.raises(UserError, match=message):
        compile_untapped(tapped(segmentor, 'backbone[2]'), options)
