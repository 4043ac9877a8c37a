"""All methods in one config: they compose, resume, and agree across ranks.

HND has a student of its own and stands beside them.
"""

import pytest
import torch
from conftest import TAPS, build_runner
from mmengine.config import Config
from processes import run_on_two_ranks

from seg_kd import hooks
from seg_kd.engine.records import latest_checkpoint
from seg_kd.hooks import DistillHook, TeacherHook

LEVELS = dict(student=['backbone[0]', 'backbone[1]'],
              teacher=['backbone[0]', 'backbone[3]'])
METHODS = {
    'KDHook': dict(temperature=4.),
    'FitNetHook': TAPS,
    'ATHook': TAPS,
    'FSPHook': LEVELS,
    'PKTHook': TAPS,
    'FTHook': dict(paraphraser=None, **TAPS),
    'ABHook': TAPS,
    'KAHook': dict(translator=None, **TAPS),
    'RKDHook': dict(max_instances=64, **TAPS),
    'VIDHook': TAPS,
    'CCKDHook': TAPS,
    'SPHook': TAPS,
    'CRDHook': TAPS,
    'PADHook': TAPS,
    'ReviewKDHook': LEVELS,
    'ICKDHook': TAPS,
    'DISTHook': {},
    'SRDHook': TAPS,
    'LogitStdHook': {},
    'CWDHook': TAPS,
    'BalancedHook': dict(width=16, **TAPS),
}


def test_all_are_here():
    shipped = {
        name
        for name in hooks.__all__
        if issubclass(getattr(hooks, name), DistillHook)
    }
    bases = {'DistillHook', 'AutoencoderHook', 'LogitHook'}
    earlier = {'TranslatorHook', 'ParaphraserHook'}  # stages before theirs
    controls = {'SoftenedLabelsHook'}
    assert shipped - bases - earlier - controls == {*METHODS, 'HNDHook'}
    assert len(METHODS) == 21


@pytest.fixture
def config(plain_config, teacher_hook) -> Config:
    """Every method at once, each at a weight of its own."""
    plain_config.custom_hooks = [teacher_hook] + [
        dict(type=name, weight=1e-3 * (i + 1), **settings)
        for i, (name, settings) in enumerate(METHODS.items())
    ]
    plain_config.train_cfg.max_iters = 4
    plain_config.default_hooks.checkpoint.interval = 2
    return plain_config


@pytest.fixture(params=['config', 'hnd_config'])
def each_config(request) -> Config:
    found = request.getfixturevalue(request.param)
    found.train_cfg.max_iters = 4
    found.default_hooks.checkpoint.interval = 2
    return found


def terms(runner):
    """Every logged term with its values."""
    logged = runner.message_hub.log_scalars
    return {
        key.removeprefix('train/'): history.data[0]
        for key, history in logged.items() if key.startswith('train/loss_')
    }


def test_they_compose(config):
    runner = build_runner(config)
    teacher = next(h for h in runner.hooks if isinstance(h, TeacherHook))
    runs = []
    teacher.network.backbone.register_forward_hook(
        lambda *args: runs.append(1))
    runner.train()
    assert len(runs) == 4  # one an iteration
    seen = terms(runner)
    for hook in runner.hooks:
        if isinstance(hook, DistillHook):
            own = [k for k in seen if k.startswith(f'loss_{hook.name}')]
            assert own, f'{hook.name} logs nothing'
            for key in own:
                assert len(seen[key]) == 4
                assert all(v != 0 for v in seen[key]), key
    state = runner.model.state_dict()
    assert all(v.isfinite().all() for v in state.values())


def test_resumed_together(config):
    whole = build_runner(config)
    whole.train()
    config.resume, config.load_from = True, f'{config.work_dir}/iter_2.pth'
    config.work_dir += '_resumed'
    resumed = build_runner(config)
    resumed.train()
    want, got = whole.model.state_dict(), resumed.model.state_dict()
    assert want.keys() == got.keys()
    for key, value in want.items():
        assert torch.equal(value, got[key]), key


@pytest.mark.filterwarnings("ignore:Detected call of `scheduler.step")
def test_resumed_with_ema_amp_and_accumulation(each_config):
    config = each_config
    config.optim_wrapper.update(type='BFloat16OptimWrapper',
                                accumulative_counts=2)
    config.custom_hooks.append(dict(type='EMAHook', momentum=0.1))
    build_runner(config).train()
    first = config.work_dir
    config.resume, config.load_from = True, f'{first}/iter_2.pth'
    config.work_dir += '_resumed'
    build_runner(config).train()
    want, got = (torch.load(latest_checkpoint(folder), weights_only=False)
                 for folder in (first, config.work_dir))
    for part in ('state_dict', 'ema_state_dict'):
        for key, value in want[part].items():
            assert torch.equal(value, got[part][key]), key
            assert value.isfinite().all(), key


@pytest.mark.parametrize('name', METHODS)
def test_weight_is_measured(plain_config, teacher_hook, name):
    plain_config.custom_hooks = [
        teacher_hook,
        dict(type=name, weight='auto', auto_iters=2, **METHODS[name])
    ]
    plain_config.train_cfg.max_iters = 3
    plain_config.val_cfg = plain_config.val_dataloader = None
    plain_config.val_evaluator = None
    runner = build_runner(plain_config)
    runner.train()
    hook = next(h for h in runner.hooks if isinstance(h, DistillHook))
    auto = runner.model.distill[f'{hook.name}_weight']
    assert auto.measured == 2 and auto.value() > 0


def test_ranks_end_alike(each_config, tmp_path):
    """torchrun on the CPU: weights, banks and queues of two processes.

    All terms in a static graph; HND with gradients that meet in every second
    iteration only.
    """
    config = each_config
    config.custom_hooks.append(dict(type='RankSaver'))
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    if config.model.type == 'SplitSegmentor':
        config.optim_wrapper.accumulative_counts = 2
        together = [False, True, False, True]
    else:
        config.model_wrapper_cfg = dict(static_graph=True)
        together = [True] * 4
    run_on_two_ranks(config, RANK_SAVER, tmp_path)
    one, other = (torch.load(tmp_path / f'rank{i}.pth') for i in (0, 1))
    assert any('distill.crd' in key or 'tail.' in key for key in one)
    for key, value in one.items():
        if 'running_' not in key:  # batch norm's statistics are its rank's
            assert torch.equal(value, other[key]), key
    mine, others = (torch.load(tmp_path / f'gradients{i}.pth') for i in (0, 1))
    assert [a.equal(b) for a, b in zip(mine, others)] == together


RANK_SAVER = '''
import torch
from mmengine.hooks import Hook
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class RankSaver(Hook):
    """Saves what each rank ends with, and a gradient of each iteration."""

    def before_train(self, runner):
        self.gradients, wrapper = [], runner.optim_wrapper
        ask = wrapper.should_update

        def should_update():  # asked behind each backward
            weight = next(w for w in runner.model.parameters()
                          if w.grad is not None)
            self.gradients.append(weight.grad.clone())
            return ask()

        wrapper.should_update = should_update

    def after_train(self, runner):
        torch.save(self.gradients, f'gradients{runner.rank}.pth')
        torch.save(runner.model.module.state_dict(), f'rank{runner.rank}.pth')
'''
