"""A later stage goes on from an earlier one: weights, noise, resume."""
import json
from pathlib import Path

import pytest
import torch
from conftest import TAPS
from mmengine.hooks import Hook

from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.stages import run_stages
from seg_kd.registry import HOOKS

ALONE = dict(val_cfg=None, val_dataloader=None, val_evaluator=None)


@HOOKS.register_module()
class FirstWeights(Hook):
    """Saves what a stage starts from, but for EMA's copy."""

    def before_train(self, runner):
        if runner.iter == 0:
            torch.save(runner.model.state_dict(),
                       f'{runner.work_dir}/first.pt')


@HOOKS.register_module()
class BreakOff(Hook):
    """Ends the process, as it were, where ``flag`` exists."""

    def __init__(self, flag):
        self.flag = Path(flag)

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if self.flag.exists() and runner.iter == 4:
            self.flag.unlink()
            raise InterruptedError


@pytest.fixture
def flag(tmp_path):
    return tmp_path / 'flag'


@pytest.fixture
def ab_config(plain_config, teacher_hook, flag):
    """The boundaries with the task off; then the task and another method."""
    extra = [dict(type='FirstWeights'), dict(type='BreakOff', flag=str(flag))]
    plain_config.custom_hooks = [
        teacher_hook,
        dict(
            type='ABHook',
            student=['backbone[0]', 'backbone.layer7.0.conv.1.activate:input'],
            teacher=['backbone[1]', 'decode_head.bottleneck.activate:input'],
            weight=1.), *extra
    ]
    plain_config.stages = [
        dict(name='init', task=False, param_scheduler=None, **ALONE),
        dict(name='task',
             load_from='stage:init',
             custom_hooks={'1': dict(type='PADHook', **TAPS)})
    ]
    return plain_config


def last(folder):
    return torch.load(latest_checkpoint(str(folder)), weights_only=False)


def first(folder):
    return torch.load(folder / 'first.pt')


def student(state):
    return {k: v for k, v in state.items() if not k.startswith('distill.')}


def same(one, other):
    assert one.keys() == other.keys()
    return {k for k, v in one.items() if torch.equal(v, other[k])}


def texts(folder):
    return ''.join(p.read_text() for p in Path(folder).glob('*/*.log'))


def test_a_stage_with_the_task_off_then_the_task(ab_config, tmp_path, capsys):
    run_stages(ab_config, str(tmp_path))
    init, task = tmp_path / 'init', tmp_path / 'task'
    start, end = first(init), last(init)['state_dict']
    stayed = same(start, end)
    heads = {k for k in start if k.startswith('decode_head')}
    assert heads <= stayed
    weights = {k for k in stayed if k.endswith('conv.weight')}
    assert weights == {'backbone.layer7.0.conv.2.conv.weight'
                       }  # behind the tap
    assert not stayed & {k for k in start if k.startswith('distill.ab')}
    for line in scalars(init):
        assert 'decode.loss_ce' not in line and line['loss_ab'] > 0
        assert line['loss'] == pytest.approx(line['loss_ab'])

    again = first(task)
    assert len(same(student(end), student(again))) == len(student(again))
    moved = set(again) - same(again, last(task)['state_dict'])
    assert heads & moved and {k for k in moved if 'backbone' in k}
    text, shown = texts(task), capsys.readouterr()
    for noise in ('do not match', 'unexpected key', 'missing keys'):
        assert noise not in text + shown.out + shown.err
    assert 'distillation parts left out: ab; new: pad' in text
    assert not any(k.startswith('distill.ab') for k in again)


def scalars(folder):
    lines = next(folder.glob('*/vis_data/scalars.json')).read_text()
    return [json.loads(line) for line in lines.splitlines()]


@pytest.mark.parametrize('stage', ['init', 'task'])
def test_resumed_stages_equal_unbroken_ones(ab_config, tmp_path, flag, stage):
    run_stages(ab_config, str(tmp_path / 'whole'))
    broken = tmp_path / 'broken'
    if stage == 'task':  # the first one runs through
        stages = ab_config.stages
        ab_config.stages = stages[:1]
        run_stages(ab_config, str(broken))
        ab_config.stages = stages
    flag.touch()
    with pytest.raises(InterruptedError):
        run_stages(ab_config, str(broken))
    run_stages(ab_config, str(broken), resume=True)
    whole, resumed = (last(f / 'task') for f in (tmp_path / 'whole', broken))
    assert len(same(whole['state_dict'],
                    resumed['state_dict'])) == len(whole['state_dict'])


def test_parts_of_the_same_name_are_taken_over(ab_config, tmp_path):
    """PAD: regressor and head from the warm stage; a measured weight not."""
    pad = dict(type='PADHook', weight='auto', auto_iters=2, **TAPS)
    ab_config.custom_hooks[1] = pad
    ab_config.stages = [
        dict(name='warm', custom_hooks={'1': dict(pad, warm=True)}, **ALONE),
        dict(name='distill', load_from='stage:warm')
    ]
    run_stages(ab_config, str(tmp_path))
    end = last(tmp_path / 'warm')['state_dict']
    again = first(tmp_path / 'distill')
    different = set(end) - same(end, again)
    assert different == {
        f'distill.pad_weight.{k}'
        for k in ('pulls', 'measured')
    }
    assert again['distill.pad_weight.measured'] == 0
    assert 'distill.pad.head.0.weight' in again
    assert ('distillation parts kept: pad; left out: pad_weight; '
            'new: pad_weight') in texts(tmp_path / 'distill')
    moved = set(again) - same(again, last(tmp_path / 'distill')['state_dict'])
    assert {
        k
        for k in again if k.startswith(('distill.pad.reg', 'distill.pad.h'))
    } <= moved


def test_no_noise_from_the_average_either(ab_config, tmp_path, capsys):
    """EMA's copy is filled from the checkpoint by MMEngine, on its own."""
    ema = dict(type='EMAHook')
    ab_config.stages[1].custom_hooks = [
        ab_config.custom_hooks[0], ab_config.stages[1].custom_hooks['1'], ema
    ]
    run_stages(ab_config, str(tmp_path))
    assert 'do not match' not in capsys.readouterr().out
    assert 'ema_state_dict' in last(tmp_path / 'task')


def test_what_the_student_lacks_is_still_said(ab_config, tmp_path, capsys):
    """Only distillation parts may differ in silence."""
    ab_config.stages = ab_config.stages[:1]
    run_stages(ab_config, str(tmp_path / 'a'))
    path = latest_checkpoint(str(tmp_path / 'a/init'))
    content = torch.load(path, weights_only=False)
    del content['state_dict']['decode_head.conv_seg.bias']
    torch.save(content, path)
    ab_config.load_from = path
    run_stages(ab_config, str(tmp_path / 'b'))
    said = 'missing keys in source state_dict: decode_head.conv_seg.bias\n'
    assert said in capsys.readouterr().out
