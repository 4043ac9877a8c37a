"""The two halves of a split network: alone, checked, and measured."""
import json
import subprocess
import sys

import cv2
import numpy as np
import pytest
import torch
from conftest import SIZE, preprocessor, run_tool, teacher
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from seg_kd.errors import UserError
from seg_kd.registry import MODELS
from seg_kd.split import export as split

FILES = ['device.pt2', 'server.pt2', 'split.json']
ALONE = """
import sys, torch
device, server = (torch.export.load(f'{sys.argv[1]}/{name}.pt2').module()
                  for name in ('device', 'server'))
image = torch.load(sys.argv[1] + '/image.pt')
torch.save(server(device(image)), sys.argv[1] + '/logits.pt')
ours = ('seg_kd', 'mmseg', 'mmengine', 'mmcv')
assert not [m for m in sys.modules if m.split('.')[0] in ours]
"""


@pytest.fixture
def config(plain_config) -> Config:
    plain_config.model = dict(type='SplitSegmentor',
                              teacher=teacher(),
                              split='backbone.layer1',
                              backbone=dict(type='BottleneckHead',
                                            bottleneck_channels=3,
                                            encoder_channels=(8, 8),
                                            decoder_channels=8),
                              data_preprocessor=preprocessor())
    return plain_config


@pytest.fixture
def checkpoint(config, teacher_checkpoint, tmp_path) -> str:
    init_default_scope('mmseg')
    torch.manual_seed(0)
    model = MODELS.build(dict(config.model, checkpoint=teacher_checkpoint))
    path = str(tmp_path / 'hnd.pth')
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


def test_the_halves_run_alone(config, checkpoint, tmp_path):
    """In a process that imports torch only; 45x71 fits no stride."""
    out = tmp_path / 'out'
    report = split.export_split(config, checkpoint, str(out), size=(45, 71))
    assert sorted(p.name for p in out.iterdir()) == FILES
    assert json.loads((out / 'split.json').read_text()) == report

    image = torch.randint(0, 256, (3, 45, 71), dtype=torch.uint8)
    torch.save(image[None].float(), out / 'image.pt')
    subprocess.run(
        [sys.executable, '-c', ALONE, str(out)],
        check=True,
        cwd=tmp_path,
        capture_output=True)
    model = split.load_model(config, checkpoint)
    bgr = dict(inputs=[image.flip(0)])
    with torch.no_grad():
        expected = model.encode_decode(
            model.data_preprocessor(bgr)['inputs'], [dict(img_shape=(45, 71))])
    torch.testing.assert_close(torch.load(out / 'logits.pt'), expected)


def test_the_report(config, checkpoint, tmp_path, data_root):
    report = split.export_split(config, checkpoint, str(tmp_path / 'out'))
    height, width = SIZE
    model = split.load_model(config, checkpoint)
    assert report['split'] == 'backbone.layer1'
    image = report['image']
    assert image['size'] == [height, width] and image['file'] == '0.png'
    assert image['bytes_rgb'] == 3 * height * width
    picture = cv2.imread(str(data_root / 'val/images/0.png'))
    jpeg = cv2.imencode('.jpg', picture, [cv2.IMWRITE_JPEG_QUALITY, 95])[1]
    assert image['bytes_jpeg'] == len(jpeg)

    link, values = report['bottleneck'], 3 * 8 * 12
    assert link['shape'] == [1, 3, 8, 12]
    assert link['bytes'] == dict(float32=4 * values,
                                 float16=2 * values,
                                 uint8=values + 5)
    for name in ('rgb', 'jpeg'):
        for kind, count in link['bytes'].items():
            assert link[f'to_{name}'][kind] == pytest.approx(
                count / image[f'bytes_{name}'])

    device, server = report['halves'].values()
    encoder = sum(p.numel() for p in model.backbone.encoder.parameters())
    assert device['parameters'] == encoder
    assert device['parameters'] + server['parameters'] == sum(
        p.numel() for p in model.parameters())
    # Three 3x3 convolutions of stride 2, 3 -> 8 -> 8 -> 3 channels.
    macs = 9 * (24 * 32 * 48 + 64 * 16 * 24 + 24 * 8 * 12)
    assert device['flops'] == 2 * macs
    assert server['flops'] > device['flops']

    check = report['check']
    assert check['float32']['max_error'] <= 1e-5 * check['largest_logit']
    assert check['float32']['same_pixels'] == 1
    assert (check['float32']['max_error'] < check['float16']['max_error'] <
            check['uint8']['max_error'])


def test_without_data_there_is_no_jpeg(config, checkpoint, tmp_path):
    config.test_dataloader.dataset.data_root = str(tmp_path / 'nowhere')
    report = split.export_split(config, checkpoint, str(tmp_path / 'out'))
    assert report['image']['file'] is None
    assert report['image']['bytes_jpeg'] is None
    assert 'to_jpeg' not in report['bottleneck']


def test_eight_bits():
    torch.manual_seed(0)
    for x in (torch.randn(1, 3, 5, 7) * 4, torch.rand(1, 3, 5, 7) + 9,
              torch.zeros(1, 2, 2, 2)):
        sent = split.Quantized(x)
        assert sent.values.dtype is torch.uint8
        assert sent.bytes == x.numel() + 5
        assert (sent.restored() - x).abs().max() <= .51 * sent.scale
    assert split.Quantized(torch.zeros(2)).restored().eq(0).all()


@pytest.mark.parametrize('bgr_to_rgb', [True, False])
def test_the_device_takes_rgb(bgr_to_rgb):
    """Whatever order of channels the network was trained with."""
    model = nn.Module()
    model.data_preprocessor = MODELS.build(
        dict(preprocessor(), bgr_to_rgb=bgr_to_rgb, size=None))
    model.backbone = nn.Module()
    model.backbone.encoder = nn.Identity()
    image = torch.randint(0, 256, (3, 5, 7), dtype=torch.uint8)
    expected = model.data_preprocessor(dict(inputs=[image]))['inputs']
    rgb = image.flip(0)[None].float()
    torch.testing.assert_close(split.DeviceHalf(model)(rgb), expected)


def test_halves_that_differ_are_not_kept(config, checkpoint, tmp_path,
                                         monkeypatch):

    class Wrong(split.ServerHalf):

        def forward(self, sent):
            return super().forward(sent) * 1.01

    monkeypatch.setattr(split, 'ServerHalf', Wrong)
    with pytest.raises(UserError, match='are not the whole model.*nothing'):
        split.export_split(config, checkpoint, str(tmp_path / 'out'))
    assert list((tmp_path / 'out').iterdir()) == []


@pytest.mark.parametrize('value', [float('nan'), 1e-2])
def test_no_number_is_no_agreement(config, checkpoint, tmp_path, monkeypatch,
                                   value):

    class Wrong(split.DeviceHalf):

        def forward(self, image):
            return super().forward(image) + value

    monkeypatch.setattr(split, 'DeviceHalf', Wrong)
    with pytest.raises(UserError, match='are not the whole model'):
        split.export_split(config, checkpoint, str(tmp_path / 'out'))


def test_the_command(config, checkpoint, tmp_path, monkeypatch, capsys):
    config.dump(str(tmp_path / 'hnd.py'))

    def call(*arguments):
        status = run_tool('export_split', arguments, monkeypatch, tmp_path)
        return status, capsys.readouterr()

    cv2.imwrite(str(tmp_path / 'a.png'), np.zeros((9, 9, 3), np.uint8))
    status, shown = call('hnd.py', checkpoint, '--out', 'halves', '--size',
                         '32', '64', '--image', 'a.png')
    assert status == 0 and 'bottleneck of 1x3x4x8' in shown.out
    assert sorted(p.name for p in (tmp_path / 'halves').iterdir()) == FILES
    assert 'uint8 |   101 |' in shown.out

    (tmp_path / 'text.png').write_text('no image')
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    plain = Config.fromfile(str(tmp_path / 'hnd.py'))
    plain.model = teacher()
    plain.dump(str(tmp_path / 'plain.py'))
    for arguments, words in [
        (('none.py', checkpoint), 'does not exist'),
        (('hnd.py', 'none.pth'), 'does not exist'),
        (('hnd.py', 'empty.pth'), 'weights are missing'),
        (('plain.py', checkpoint), 'is not split'),
        (('hnd.py', checkpoint, '--image', 'text.png'), 'is not an image'),
        (('hnd.py', checkpoint, '--size', '8', '64'), '32 or more'),
    ]:
        status, shown = call(*arguments, '--out', 'bad')
        error = shown.err.splitlines()
        assert status == 2 and words in error[-1], shown.err
        assert error[-1].startswith('error: ') and 'Traceback' not in shown.err
    assert not (tmp_path / 'bad').exists()


def test_a_head_without_a_bottleneck(config, tmp_path):

    class PlainHead(nn.Conv2d):

        def __init__(self, out_channels, stride):
            super().__init__(3, out_channels, 1, stride=stride)

    if 'PlainHead' not in MODELS:
        MODELS.register_module(module=PlainHead)
    config.model.backbone = dict(type='PlainHead')
    init_default_scope('mmseg')
    path = str(tmp_path / 'plain.pth')
    torch.save(MODELS.build(config.model).state_dict(), path)
    with pytest.raises(UserError, match='PlainHead has no bottleneck'):
        split.export_split(config, path, str(tmp_path / 'out'))
