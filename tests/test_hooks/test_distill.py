"""The base hook: what a method of one's own needs, and its mistakes."""
import pytest
import torch
from conftest import TAPS, build_runner
from mmengine.config import Config
from torch import nn

from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook
from seg_kd.registry import HOOKS


class MSELoss(nn.Module):
    """A method of a user's: channels are filled in, several levels."""

    def __init__(self, student_channels, teacher_channels, scale=1.):
        super().__init__()
        self.channels = student_channels, teacher_channels
        self.connector = nn.Conv2d(student_channels[-1], teacher_channels[-1],
                                   1)
        self.scale, self.seen = scale, []

    def forward(self, student, teacher, mask=None):
        self.seen.append((student, teacher, mask))
        student = nn.functional.interpolate(self.connector(student[-1]),
                                            teacher[-1].shape[2:])
        return self.scale * (student - teacher[-1]).square().mean()


@HOOKS.register_module()
class MSEHook(DistillHook):
    loss_cls = MSELoss


@pytest.fixture
def config(ka_config):
    ka_config.pop('stages')
    ka_config.train_cfg.max_iters = 2
    ka_config.custom_hooks[1] = dict(
        type='MSEHook',
        student=['backbone[0]', 'backbone[1]'],
        teacher=['backbone[2]', 'decode_head.bottleneck'],
        scale=2.)
    return ka_config


def test_a_method_of_ones_own(config):
    runner = build_runner(config)
    loss = runner.model.distill['mse']
    before = loss.connector.weight.clone()
    runner.train()
    assert not torch.equal(loss.connector.weight, before)
    assert loss.channels == ([8, 32], [32, 12])
    assert loss.scale == 2
    student, teacher, mask = loss.seen[-1]
    assert [tuple(m.shape) for m in student + teacher] == [(2, 8, 16, 24),
                                                           (2, 32, 4, 6),
                                                           (2, 32, 8, 12),
                                                           (2, 12, 8, 12)]
    assert all(m.requires_grad for m in student)
    assert not any(m.requires_grad for m in teacher)
    assert mask.shape == (2, 64, 96) and mask.dtype == torch.bool
    assert not any(m._forward_hooks or m._forward_pre_hooks
                   for m in runner.model.modules())


def test_maps_are_float32_under_amp(config):
    config.optim_wrapper.type = 'BFloat16OptimWrapper'
    runner = build_runner(config)
    kinds = []
    runner.model.backbone.register_forward_hook(
        lambda m, a, out: kinds.append(out[1].dtype))
    runner.train()
    student, teacher, _ = runner.model.distill['mse'].seen[-1]
    assert {m.dtype for m in student + teacher} == {torch.float32}
    assert kinds[:2] == [torch.bfloat16] * 2  # then validation


def same_name(config):
    config.custom_hooks.append(config.custom_hooks[1])


def no_teacher(config):
    config.custom_hooks.pop(0)


def only_teacher(config):
    config.custom_hooks.pop(1)


def unknown_layer(config):
    config.custom_hooks[1].teacher = ['backbone[2]', 'decode_head.bottlenek']


def unknown_argument(config):
    config.custom_hooks[1].sclae = 1.


def frozen_student(config):
    config.model.backbone.frozen_stages = 6


def checkpointed_student(config):
    config.model.backbone.with_cp = True
    config.custom_hooks[1].student = [
        'backbone[0]', 'backbone.layer7.0.conv.1'
    ]


@pytest.mark.filterwarnings('ignore:.*use_reentrant')
@pytest.mark.filterwarnings('ignore:None of the inputs')
@pytest.mark.parametrize('mistake, message', [
    (same_name, "two hooks are named 'mse'"),
    (no_teacher, 'MSEHook needs a teacher'),
    (only_teacher, 'TeacherHook is alone'),
    (unknown_layer, 'nearest are: .*decode_head.bottleneck'),
    (unknown_argument, "MSELoss takes student_channels.*scale"),
    (frozen_student, r"'backbone\[0\]' has no gradient"),
    (checkpointed_student, 'has no gradient.*checkpointed'),
])
def test_mistakes_say_what_to_do(config, mistake, message):
    config = Config(config.to_dict())
    mistake(config)
    with pytest.raises(UserError, match=message):
        build_runner(config).train()


@pytest.mark.parametrize('name', ['a.b', 'my_loss'])
def test_names_that_would_break_the_log(name):
    with pytest.raises(UserError, match='cannot name a term'):
        MSEHook(**TAPS, name=name)
