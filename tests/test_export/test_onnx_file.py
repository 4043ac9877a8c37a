"""ONNX files and torch programs: what they give, and what they refuse."""
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import (CLASSES, PALETTE, SIZE, preprocessor, run_tool,
                      save_weights, student, teacher)
from mmengine.config import Config
from mmengine.registry import init_default_scope

from seg_kd.doctor.experiment import predicted
from seg_kd.engine.evaluate import load_student
from seg_kd.errors import UserError
from seg_kd.export.card import Card, resizes, set_size
from seg_kd.export.files import require_onnx, written_whole
from seg_kd.export.network import check_plain, deployed
from seg_kd.export.onnx_file import OnnxNetwork
from seg_kd.export.parity import compare, torch_run
from seg_kd.export.samples import Images, images_of, logits_of
from seg_kd.registry import MODELS

CARD = Card(CLASSES, PALETTE, 'NHWC', 'uint8', 'RGB', None, None, 'logits',
            False, [])


@pytest.fixture(scope='module')
def checkpoint(tmp_path_factory) -> str:
    return save_weights(small(), tmp_path_factory.mktemp('small'), seed=8)


@pytest.fixture
def config(plain_config) -> Config:
    plain_config.model = small()
    return plain_config


@pytest.fixture
def model(config, checkpoint):
    return load_student(config, checkpoint)[0]


def small() -> dict:
    """Two stages of a ResNet: the exporter's time grows with the layers."""
    head = dict(student()['decode_head'], in_channels=16, channels=16)
    return dict(student(),
                decode_head=head,
                backbone=dict(teacher()['backbone'],
                              num_stages=2,
                              out_indices=(0, 1),
                              strides=(1, 2),
                              dilations=(1, 1)))


def image_of(size) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (*size, 3), np.uint8)


def test_all_that_an_export_writes(config, checkpoint, model, tmp_path,
                                   monkeypatch, capsys):
    config.dump(str(tmp_path / 'plain.py'))
    assert run_tool('export', [
        'plain.py', checkpoint, '--onnx', 'out/s.onnx', '--torch-export',
        'out/s.pt2', '--with-preprocessing', '--int8', 4
    ], monkeypatch, tmp_path) == 0
    shown = capsys.readouterr().out
    assert {p.name
            for p in (tmp_path / 'out').iterdir()
            } == {'s.onnx', 's.pt2', 's.int8.onnx'}
    assert shown.count('of the pixels of 3 test images agree') == 2
    assert 'in 8 bits (' in shown and '3 val images' in shown
    assert 'takes images (N, H, W, 3), RGB, uint8' in shown

    network = OnnxNetwork(str(tmp_path / 'out/s.onnx'))
    card = network.card
    assert card == CARD
    image = image_of((45, 71))  # fits no stride
    expected = logits_of(model, [image])
    rgb = np.stack([image[..., ::-1]] * 3)
    given = network(rgb)
    torch.testing.assert_close(torch.from_numpy(given),
                               expected.expand(3, -1, -1, -1),
                               atol=1e-4,
                               rtol=1e-4)
    assert np.array_equal(network.labels(image, (90, 140)).shape, (90, 140))

    extra = {'card.json': ''}
    program = torch.export.load(str(tmp_path / 'out/s.pt2'), extra_files=extra)
    torch.testing.assert_close(program.module()(torch.from_numpy(rgb))[:1],
                               expected)
    assert Card.read(json.loads(extra['card.json']), '') == CARD

    eight = OnnxNetwork(str(tmp_path / 'out/s.int8.onnx'))
    assert eight.card == CARD
    same = eight(rgb).argmax(1) == given.argmax(1)
    assert same.mean() > 0.7  # of chance's 0.25
    types = {node.op_type for node in loaded(tmp_path / 'out/s.int8.onnx')}
    assert 'QuantizeLinear' in types


def loaded(path):
    return pytest.importorskip('onnx').load(str(path)).graph.node


def test_labels_of_one_size(config, checkpoint, model, tmp_path, monkeypatch,
                            capsys):
    """Normalized images in, labels out, 48x80 only."""
    config.dump(str(tmp_path / 'plain.py'))
    assert run_tool('export', [
        'plain.py', checkpoint, '--onnx', 's.onnx', '--output', 'argmax',
        '--size', 48, 80
    ], monkeypatch, tmp_path) == 0
    network = OnnxNetwork(str(tmp_path / 's.onnx'))
    resize = dict(type='Resize', scale=[80, 48], keep_ratio=False)
    norm = preprocessor()
    assert network.card == Card(CLASSES, PALETTE, 'NCHW', 'float32', 'RGB',
                                pytest.approx(norm['mean']),
                                pytest.approx(norm['std']), 'argmax', False,
                                [resize])
    assert network.session.get_inputs()[0].shape == ['batch', 3, 48, 80]
    image = image_of((48, 80))
    inputs = model.data_preprocessor(
        dict(inputs=[torch.from_numpy(image).permute(2, 0, 1)]))['inputs']
    expected = logits_of(model, [image]).argmax(1)
    assert (network(inputs.numpy()) == expected.numpy()).mean() > 0.999
    capsys.readouterr()
    assert run_tool('export', ['plain.py', checkpoint, '--onnx', 's.onnx'],
                    monkeypatch, tmp_path) == 2
    assert 's.onnx exists' in capsys.readouterr().err


# -- parts -----------------------------------------------------------------


def test_a_batch_is_what_the_preprocessor_makes(model):
    image = image_of((5, 7))
    norm = preprocessor()
    card = Card(CLASSES, PALETTE, 'NCHW', 'float32', 'RGB', norm['mean'],
                norm['std'], 'logits', False, [])
    expected = model.data_preprocessor(
        dict(inputs=[torch.from_numpy(image).permute(2, 0, 1)]))['inputs']
    assert np.array_equal(card.batch(image[None]), expected.numpy())
    assert np.array_equal(CARD.batch(image[None]), image[None, ..., ::-1])
    assert Card.read(card.metadata(), '') == card


def test_another_network_is_found_out(config, model):
    init_default_scope('mmseg')
    network = deployed(config, model, CLASSES, PALETTE, True, 'logits')
    images = images_of(config, 8)
    assert images.real and len(images.arrays) == 3
    found = compare(torch_run(network), network, images, fixed=False)
    assert found.same == 1. and found.error < 1e-4
    upside_down = torch_run(lambda x: network(x.flip(1)))
    with pytest.raises(UserError, match='not the student.*--size, may go'):
        compare(upside_down, network, images, fixed=False)
    broken = torch_run(lambda x: network(x) * float('nan'))
    with pytest.raises(UserError, match='not the student'):
        compare(broken, network, images, fixed=False)


def test_a_head_with_one_output(config):
    """Its logit is of the second class, chosen from a probability of 0.3."""
    init_default_scope('mmseg')
    config.model.decode_head.update(num_classes=2,
                                    out_channels=1,
                                    threshold=.3,
                                    loss_decode=dict(type='CrossEntropyLoss',
                                                     use_sigmoid=True))
    torch.manual_seed(0)
    model = MODELS.build(config.model).eval()
    head = model.decode_head.conv_seg
    torch.nn.init.normal_(head.weight, std=10.)
    images = images_of(config, 8)
    image = images.arrays[0]
    # half of the logits above -0.85, that of a probability of 0.3
    head.bias.data -= logits_of(model, [image]).median() + .85
    classes = CLASSES[:2], PALETTE[:2], True
    network = deployed(config, model, *classes, 'logits')
    found, = model.postprocess_result(logits_of(model, [image]))
    expected = found.pred_sem_seg.data[0].numpy()
    assert 0 < ((found.seg_logits.data > .3)
                & (found.seg_logits.data < .5)).float().mean()
    assert .3 < expected.mean() < .7

    given = torch.from_numpy(network.card.batch(image[None]))
    labels = deployed(config, model, *classes, 'argmax')(given)
    assert labels.dtype == torch.uint8
    assert np.array_equal(labels[0].numpy(), expected)
    inputs = [torch.from_numpy(image).permute(2, 0, 1)]
    normalized = model.data_preprocessor(dict(inputs=inputs))['inputs']
    assert np.array_equal(predicted(model, normalized)[0], expected)

    found = compare(torch_run(network), network, images, fixed=False)
    assert found.same == 1. and found.error < 1e-4
    for wrong in (lambda x: network(x).sigmoid(), lambda x: -network(x)):
        with pytest.raises(UserError, match='not the student'):
            compare(torch_run(wrong), network, images, fixed=False)


def test_noise_where_there_is_no_test_set(config):
    config.test_dataloader.dataset.data_root = 'nowhere'
    images = images_of(config, 8)
    assert not images.real and images.arrays[0].shape == (*SIZE, 3)
    assert isinstance(images, Images)


def test_what_the_images_go_through_before(config):
    pipeline = config.test_dataloader.dataset.pipeline
    pipeline.insert(1, dict(type='Resize', scale=(20, 10)))
    assert resizes(config) == [dict(type='Resize', scale=(20, 10))]
    set_size(config, (8, 6))
    assert resizes(config) == [
        dict(type='Resize', scale=(6, 8), keep_ratio=False)
    ]
    pipeline.insert(1, dict(type='RandomFlip', prob=1.))
    config.test_dataloader.dataset.pipeline = pipeline
    with pytest.raises(UserError, match='the test pipeline has RandomFlip'):
        resizes(config)


@pytest.mark.parametrize('change, words', [
    (dict(test_cfg=dict(mode='slide', crop_size=(32, 32), stride=(16, 16))),
     'model.test_cfg.mode=whole'),
    (dict(data_preprocessor=dict(test_cfg=dict(size_divisor=32))),
     'model.data_preprocessor.test_cfg=None'),
])
def test_what_is_no_plain_function(config, checkpoint, change, words):
    cfg = Config(dict(model=config.model))
    cfg.merge_from_dict(dict(model=change))
    model, _ = load_student(cfg, checkpoint)
    with pytest.raises(UserError, match=words):
        check_plain(cfg, model)


def test_eight_bits_are_of_an_onnx_file(tmp_path, monkeypatch, capsys):
    assert run_tool('export', ['x.py', 'x.pth', '--int8', 4, '--out', 'plain'],
                    monkeypatch, tmp_path) == 2
    assert 'give --onnx FILE as well' in capsys.readouterr().err


def test_the_extra_is_missing(monkeypatch):
    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'seg_kd\[export\]'"):
        require_onnx()


def test_a_file_is_written_whole_or_not_at_all(tmp_path):
    path = tmp_path / 'deep/file.txt'
    with written_whole(str(path)) as part:
        Path(part).write_text('first')
    with pytest.raises(ZeroDivisionError), written_whole(str(path)) as part:
        Path(part).write_text('second')
        1 / 0
    assert path.read_text() == 'first'
    assert [p.name for p in path.parent.iterdir()] == ['file.txt']
