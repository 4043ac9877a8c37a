"""Who it was, when a run goes bad: a layer, a term, the teacher."""
import math
from functools import partial

import pytest
import torch
from conftest import TAPS, build_runner
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.optim.optimizer import amp_optimizer_wrapper as amp
from torch import nn

from seg_kd.engine import loss_guard
from seg_kd.engine.culprits import bad_weights
from seg_kd.engine.records import latest_checkpoint
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook
from seg_kd.registry import HOOKS, MODELS


@HOOKS.register_module()
class SpoilBuffer(Hook):
    """Makes a buffer infinite, as very large maps do."""

    def __init__(self, name, at):
        self.name, self.at = name, at

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if runner.iter == self.at:
            dict(runner.model.named_buffers())[self.name][0] = math.inf


def test_running_statistics_are_saved_finite_only(plain_config):
    plain_config.default_hooks.checkpoint.interval = 1
    layer = 'backbone.conv1.bn.running_var'
    plain_config.custom_hooks = [dict(type='SpoilBuffer', name=layer, at=1)]
    runner = build_runner(plain_config)
    with pytest.raises(UserError,
                       match=f'iteration 2: .*running statistics.* {layer}'
                       '.* good checkpoint is .*iter_1.pth'):
        runner.train()
    state = torch.load(latest_checkpoint(runner.work_dir),
                       weights_only=False)['state_dict']
    assert all(v.isfinite().all() for v in state.values())


def test_what_may_be_infinite_and_what_not():
    model = nn.Sequential(nn.BatchNorm2d(2), nn.Linear(2, 2), nn.Identity())
    model[2].register_buffer('log_z', torch.full((2, ), math.nan))
    model[2].register_parameter('none', nn.Parameter(torch.zeros(0)))
    model[1].weight.data[0] = 1e30  # whose square is infinite
    assert bad_weights(model) == []
    model[0].running_var[1] = math.nan
    model[1].bias.data[0] = -math.inf
    assert set(bad_weights(model)) == {'0.running_var', '1.bias'}


# -- float16 ---------------------------------------------------------------


class Steep(torch.autograd.Function):
    """0, with a gradient that no scale makes finite."""

    @staticmethod
    def forward(ctx, x):
        return x.sum() * 0.

    @staticmethod
    def backward(ctx, gradient):
        return torch.full((2, 32, 4, 6), math.inf) * gradient


@HOOKS.register_module()
class SteepHook(DistillHook):
    """Overflows in the first so many iterations."""

    class SteepLoss(nn.Module):

        def __init__(self, iterations):
            super().__init__()
            self.left = iterations

        def forward(self, student, teacher, mask=None):
            if student.requires_grad:
                self.left -= 1
            return Steep.apply(student) if self.left >= 0 else student.mean()

    loss_cls = SteepLoss


@pytest.fixture
def half(plain_config, teacher_hook, monkeypatch):
    """In float16, on a CPU; the first iterations have steps left out."""
    monkeypatch.setattr(amp, 'is_cuda_available', lambda: True)
    monkeypatch.setattr(amp, 'GradScaler', partial(torch.amp.GradScaler,
                                                   'cpu'))
    monkeypatch.setattr(loss_guard, 'SKIPPED', 3)
    plain_config.optim_wrapper.type = 'AmpOptimWrapper'
    plain_config.optim_wrapper.optimizer.lr = 1e-3
    plain_config.default_hooks.checkpoint.interval = 6
    plain_config.val_cfg = plain_config.val_dataloader = None
    plain_config.val_evaluator = None

    def config(iterations, **wrapper):
        plain_config.optim_wrapper.update(wrapper)
        plain_config.custom_hooks = [
            teacher_hook,
            dict(type='CWDHook', **TAPS),
            dict(type='SteepHook', iterations=iterations, **TAPS)
        ]
        return build_runner(plain_config)

    return config


@pytest.mark.filterwarnings('ignore:Detected call of')
def test_steps_left_out_are_no_failure(half):
    runner = half(iterations=3)
    first = runner.model.state_dict()['decode_head.conv_seg.bias'].clone()
    runner.train()
    assert runner.iter == 6
    last = runner.model.state_dict()['decode_head.conv_seg.bias']
    assert not torch.equal(first, last)
    assert runner.optim_wrapper.loss_scaler.get_scale() == 2.**13


@pytest.mark.filterwarnings('ignore:Detected call of')
@pytest.mark.parametrize('wrapper, at', [({}, 4), (dict(loss_scale=512.), 4),
                                         (dict(accumulative_counts=2), 7)])
def test_a_row_of_them_names_its_term(half, wrapper, at):
    runner = half(iterations=99, **wrapper)
    runner.train_loop._max_iters = 12
    with pytest.raises(UserError,
                       match=f'iteration {at}: no step for 3 .* loss_steep '
                       'overflows float16') as caught:
        runner.train()
    text = str(caught.value)
    assert 'cwd' not in text and 'loss_ce' not in text
    assert 'BFloat16OptimWrapper' in text and '\n' not in text


# -- the teacher -----------------------------------------------------------


@MODELS.register_module()
class Huge(BaseModule):
    """1e4 times what it gets: too much for float16 some layers on."""

    def __init__(self, factor=1e4):
        super().__init__()
        self.factor = factor
        self.first = nn.Conv2d(3, 4, 1)
        self.second = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.second(self.first(x) * self.factor)
        return (x, )


def huge(config, teacher_hook, tmp_path, factor, **more):
    model = teacher_hook['model']
    model['backbone'] = dict(type='Huge', factor=factor)
    model['decode_head'].update(in_index=0, in_channels=4)
    torch.manual_seed(0)
    built = MODELS.build({**model, '_scope_': 'mmseg'})
    torch.save(dict(state_dict=built.state_dict()), tmp_path / 'huge.pth')
    teacher_hook.update(checkpoint=str(tmp_path / 'huge.pth'), **more)
    taps = dict(student='backbone[1]', teacher='backbone[0]')
    config.custom_hooks = [teacher_hook, dict(type='CWDHook', **taps)]
    return build_runner(config)


def test_a_teacher_that_overflows_in_half_precision(plain_config, teacher_hook,
                                                    tmp_path):
    runner = huge(plain_config, teacher_hook, tmp_path, 1e5)
    teacher, = runner.distiller.teachers.values()
    images = torch.randn(2, 3, 64, 96)
    assert teacher.not_finite(images) is None
    with torch.autocast('cpu', torch.float16):
        wrong, advice = teacher.not_finite(images)
    assert 'overflows in backbone.second, in mixed precision' in wrong
    assert "precision='float32'" in advice
    assert teacher.precision is None


@pytest.mark.parametrize('cache', [False, True])
def test_a_teacher_that_overflows_by_its_weights(plain_config, teacher_hook,
                                                 tmp_path, cache):
    plain_config.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')
    ]
    runner = huge(plain_config, teacher_hook, tmp_path, 1e39, cache=cache)
    with pytest.raises(UserError) as caught:
        runner.train()
    text = str(caught.value)
    assert 'the teacher is not finite from backbone.first' in text or \
        'the teacher is not finite from backbone.second' in text
    assert 'huge.pth' in text and 'learning rate' not in text
    assert '\n' not in text
