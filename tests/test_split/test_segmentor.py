"""SplitSegmentor: head and tail, frozen, filled completely or refused."""
import copy

import pytest
import torch
from conftest import SIZE, preprocessor, teacher
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from seg_kd.analysis.comparison import combine
from seg_kd.engine.evaluate import last_stage
from seg_kd.errors import UserError
from seg_kd.registry import MODELS

HEAD = dict(type='BottleneckHead', encoder_channels=(8, ), decoder_channels=8)


def config(**changes) -> dict:
    return dict(
        dict(type='SplitSegmentor',
             teacher=teacher(),
             split='backbone.layer2',
             backbone=HEAD,
             data_preprocessor=preprocessor()), **changes)


def build(**changes) -> nn.Module:
    init_default_scope('mmseg')
    torch.manual_seed(0)
    return MODELS.build(config(**changes))


@pytest.fixture
def whole(teacher_checkpoint) -> nn.Module:
    """The teacher itself."""
    init_default_scope('mmseg')
    model = MODELS.build(teacher())
    model.load_state_dict(torch.load(teacher_checkpoint)['state_dict'],
                          strict=False)
    return model.eval()


class Truth(nn.Module):
    """In place of the head: the teacher's own first layers."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, images):
        x = self.network.stem(images)
        return self.network.layer2(self.network.layer1(
            self.network.maxpool(x)))


@torch.no_grad()
@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_a_perfect_head_makes_it_the_teacher(whole, teacher_checkpoint, mode):
    """In tensors and in predictions, whole and by windows."""
    cfg = dict(mode=mode, crop_size=(48, 64), stride=(32, 48))
    model = build(checkpoint=teacher_checkpoint, test_cfg=cfg).eval()
    model.backbone = Truth(whole.backbone)
    whole.test_cfg = model.test_cfg
    images = torch.randn(2, 3, 60, 90)
    torch.testing.assert_close(model(images), whole(images))
    for one, other in zip(model(images, mode='predict'),
                          whole(images, mode='predict')):
        torch.testing.assert_close(one.seg_logits.data, other.seg_logits.data)
    assert one.seg_logits.shape == (60, 90)


def test_channels_and_stride_are_found():
    for split, shape, stride in (('backbone.layer1', (8, 32, 64), 4),
                                 ('backbone[2]', (32, 16, 32), 8)):
        model = build(split=split)
        assert model.split_shape == shape
        assert model.backbone.stride == stride
        assert model.num_classes == model.out_channels == 4


def test_a_neck_belongs_to_the_tail():
    neck = dict(type='MultiLevelNeck',
                in_channels=[8, 16, 32, 64],
                out_channels=20,
                scales=[1, 1, 1, 1])
    head = dict(teacher()['decode_head'], in_channels=20)
    whole = build(teacher=dict(teacher(), neck=neck, decode_head=head),
                  split='backbone.stem')
    assert 'neck' in whole.teacher_tail()
    assert not any(p.requires_grad for p in whole.neck.parameters())
    assert whole(torch.randn(1, 3, *SIZE)).shape[:2] == (1, 4)


def in_training(part: nn.Module) -> bool:
    return any(m.training for m in part.modules())


def test_only_the_head_is_trained(teacher_checkpoint):
    model = build(checkpoint=teacher_checkpoint)
    assert {
        k.split('.')[0]
        for k, p in model.named_parameters() if p.requires_grad
    } == {'backbone'}
    before = copy.deepcopy(model.teacher_tail().state_dict())
    model.train()
    assert model.backbone.training
    assert not any(map(in_training, model.teacher_tail().values()))
    model.extract_feat(torch.randn(2, 3, *SIZE))
    model.train(False).train(True)
    assert not any(map(in_training, model.teacher_tail().values()))
    after = model.teacher_tail().state_dict()
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_the_tail_has_the_teachers_weights(teacher_checkpoint):
    model = build(checkpoint=teacher_checkpoint)
    model.init_weights()  # must leave them alone
    stored = torch.load(teacher_checkpoint)['state_dict']
    found = model.teacher_tail().state_dict()
    assert all(torch.equal(value, stored[key]) for key, value in found.items())
    assert {key
            for key in stored if key not in found} == {
                key
                for key in stored
                if key.startswith(('backbone.stem', 'backbone.layer1',
                                   'backbone.layer2'))
            }


def test_the_head_does_not_depend_on_the_teacher(teacher_checkpoint):
    one = build(checkpoint=teacher_checkpoint)
    other = build(checkpoint=teacher_checkpoint,
                  teacher=dict(teacher(), train_cfg=dict()))
    pairs = zip(one.backbone.parameters(), other.backbone.parameters())
    assert all(torch.equal(a, b) for a, b in pairs)


def test_a_checkpoint_that_does_not_fill_it(teacher_checkpoint, tmp_path):
    content = torch.load(teacher_checkpoint)
    del content['state_dict']['backbone.layer3.0.conv1.weight']
    del content['state_dict']['backbone.stem.0.weight']  # not of the tail
    torch.save(content, tmp_path / 'less.pth')
    with pytest.raises(UserError,
                       match='1 of .* weights are missing '
                       r'\(backbone.layer3.0.conv1.weight'):
        build(checkpoint=str(tmp_path / 'less.pth'))
    with pytest.raises(UserError, match='does not exist'):
        build(checkpoint=str(tmp_path / 'none.pth'))


def test_no_weights_no_training():
    model = build()
    with pytest.raises(UserError, match='has no weights.*HNDHook'):
        model.init_weights()
    with pytest.raises(UserError, match='from its teacher alone.*HNDHook'):
        model(torch.randn(2, 3, *SIZE), mode='loss')


class OtherHead(nn.Module):

    def __init__(self, out_channels, stride, spare=0, bare=False):
        super().__init__()
        self.conv = nn.Conv2d(3, out_channels + spare, 1, stride=stride)
        self.bare = bare

    def forward(self, x):
        return [self.conv(x)] if self.bare else self.conv(x)


if 'OtherHead' not in MODELS:
    MODELS.register_module(module=OtherHead)


def test_a_head_of_ones_own():
    build(backbone=dict(type='OtherHead'))
    with pytest.raises(UserError,
                       match=r'OtherHead gives \(1, 17, 16, 32\) '
                       r'where the teacher has \(1, 16, 16, 32\)'):
        build(backbone=dict(type='OtherHead', spare=1))
    with pytest.raises(UserError, match='OtherHead gives .*list'):
        build(backbone=dict(type='OtherHead', bare=True))


@pytest.mark.parametrize('changes, message', [
    (dict(split='backbone.layr2'), 'nearest are: backbone.layer2'),
    (dict(split='decode_head.bottleneck'), 'inside the backbone'),
    (dict(dry_size=(60, 90)), 'no whole stride; give another dry_size='),
    (dict(teacher='nobody.py'), 'does not exist'),
    (dict(teacher=dict(teacher(), type='CascadeEncoderDecoder', num_stages=1)),
     'CascadeEncoderDecoder cannot be split'),
])
def test_mistakes(changes, message):
    if 'Cascade' in message:
        changes['teacher']['decode_head'] = [changes['teacher']['decode_head']]
    with pytest.raises(UserError, match=message):
        build(**changes)


def test_teacher_by_file(tmp_path, teacher_checkpoint):
    Config(dict(model=teacher())).dump(str(tmp_path / 'psp.py'))
    build(teacher=str(tmp_path / 'psp.py'), checkpoint=teacher_checkpoint)


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.parametrize('data, layer, channels', [
    ('cityscapes', 'backbone.layer1', 256),
    ('camvid', 'backbone._blocks.3', 24),
    ('synthetic', 'backbone.layer1', 24),
])
def test_the_config_on_other_data(data, layer, channels):
    """The name of the data is all that changes."""
    if data == 'camvid':
        pytest.importorskip('efficientnet_lite_pytorch',
                            reason='needs the extra: seg_kd[teacher]')
    init_default_scope('mmseg')
    model = MODELS.build(last_stage(combine('hnd', data)).model)
    assert model.split_path == layer
    assert model.split_shape[0] == channels and model.backbone.stride == 4
