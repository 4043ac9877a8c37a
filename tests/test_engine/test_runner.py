"""The engine, on a tiny experiment: both stages of knowledge adaptation."""
import json
import multiprocessing
import os
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import build_runner, save_weights, watch
from mmengine.config import Config
from mmengine.fileio import LocalBackend
from mmengine.hooks import Hook
from mmengine.model import BaseModule
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from processes import run_torchrun

from seg_kd.engine.advice import advised
from seg_kd.engine.records import COPY, RECORD, latest_checkpoint
from seg_kd.engine.runner import with_rates
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, FitNetHook, TeacherHook
from seg_kd.networks.checkpoint import read_checkpoint
from seg_kd.registry import DATASETS, HOOKS, MODELS


def final(work_dir, stage='distill'):
    path = latest_checkpoint(os.path.join(str(work_dir), stage))
    return torch.load(path, weights_only=False)


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def log_lines(work_dir):
    """What the logger wrote as JSON, one dict a line."""
    path = next(Path(work_dir).glob('*/vis_data/scalars.json'))
    return [json.loads(line) for line in path.read_text().splitlines()]


@HOOKS.register_module()
class Kill(Hook):
    """Ends the process, as it were, in the middle of an iteration."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, **kwargs):
        if runner.iter == self.at:
            raise InterruptedError


def test_both_stages(ka_config, tmp_path):
    run_stages(ka_config, str(tmp_path / 'ka'))
    translator = final(tmp_path / 'ka', 'translator')['state_dict']
    assert all(
        k.startswith(('distill.translator.', 'data_preprocessor'))
        for k in translator)
    state = final(tmp_path / 'ka')['state_dict']
    kept = {k.split('.')[0] for k in state}
    assert kept <= {'backbone', 'decode_head', 'distill', 'data_preprocessor'}
    for key, value in state.items():  # the encoder came along, unchanged
        if key.startswith('distill.ka.translator.'):
            old = key.replace('ka.translator', 'translator.encoder')
            assert torch.equal(value, translator[old])
    lines = [
        line for line in log_lines(tmp_path / 'ka/distill') if 'loss' in line
    ]
    assert len(lines) == 6
    for line in lines:
        terms = [
            v for k, v in line.items()
            if k.startswith(('loss_', 'decode.loss'))
        ]
        assert line['loss'] == pytest.approx(sum(terms), rel=1e-4)
        assert line['loss_ka_adaptation'] > 0
        assert line['loss_ka_affinity'] > 0
    assert 'translator_relative_error' in log_lines(tmp_path /
                                                    'ka/translator')[0]


def test_teacher_is_frozen_and_runs_once(ka_config, tmp_path):
    """Whatever the number of hooks, and no further than the tapped layer."""
    hook = dict(ka_config.custom_hooks[1], translator=None)
    ka_config.custom_hooks = [
        ka_config.custom_hooks[0], hook,
        dict(hook, name='second')
    ]
    ka_config.pop('stages')
    runner = build_runner(ka_config)
    source = next(h for h in runner.hooks if isinstance(h, TeacherHook))
    before = {k: v.clone() for k, v in source.network.state_dict().items()}
    calls = []
    source.network.backbone.register_forward_hook(
        lambda *a: calls.append('backbone'))
    source.network.decode_head.conv_seg.register_forward_hook(
        lambda *a: calls.append('conv_seg'))
    source.network.register_forward_pre_hook(
        lambda m, a: calls.append(m.training or torch.is_grad_enabled()))
    runner.train()
    assert calls == [False, 'backbone'] * 6
    assert_same(source.network.state_dict(), before)
    assert not any(p.requires_grad for p in source.network.parameters())
    owned = {id(p) for p in source.network.parameters()}
    groups = runner.optim_wrapper.optimizer.param_groups
    assert not owned & {id(p) for g in groups for p in g['params']}
    assert not any(m._forward_hooks or m._forward_pre_hooks
                   for m in runner.model.modules())


def test_student_starts_as_it_does_alone(ka_config):
    """Same seed, same first weights: a comparison of methods, not of luck."""
    ka_config.pop('stages')
    ka_config.custom_hooks[1].translator = None
    starts = []
    for hooks in ([], ka_config.custom_hooks):
        runner = build_runner(
            Config({
                **ka_config.to_dict(), 'custom_hooks': hooks
            }))
        runner._init_model_weights()
        starts.append({
            k: v
            for k, v in runner.model.state_dict().items()
            if not k.startswith('distill')
        })
    assert_same(*starts)


@pytest.mark.parametrize('stage', ['translator', 'distill'])
def test_resumed_run_equals_an_unbroken_one(ka_config, tmp_path, stage):
    """Bit for bit, with dropout and augmentation, at half the way."""
    watch(ka_config)
    run_stages(ka_config, str(tmp_path / 'whole'))
    broken = Config(ka_config.to_dict())
    index = ['translator', 'distill'].index(stage)
    hooks = broken.stages[index].get('custom_hooks', broken.custom_hooks)
    broken.stages[index].custom_hooks = [*hooks, dict(type='Kill', at=4)]
    with pytest.raises(InterruptedError):
        run_stages(broken, str(tmp_path / 'broken'))
    _forget_kill(tmp_path / 'broken' / stage / 'run.json')
    with pytest.raises(UserError, match='--resume'):
        run_stages(ka_config, str(tmp_path / 'broken'))
    run_stages(ka_config, str(tmp_path / 'broken'), resume=True)
    whole, resumed = final(tmp_path / 'whole'), final(tmp_path / 'broken')
    assert_same(whole['state_dict'], resumed['state_dict'])
    for one, other in zip(whole['optimizer']['state'].values(),
                          resumed['optimizer']['state'].values()):
        assert torch.equal(one['momentum_buffer'], other['momentum_buffer'])
    hubs = [c['message_hub']['runtime_info'] for c in (whole, resumed)]
    assert hubs[0]['best_score'] == hubs[1]['best_score']


def test_a_seed_that_was_drawn_is_that_of_the_resumed_run(
        plain_config, tmp_path):
    """Its order of images and its augmentation, as those of a given seed."""
    plain_config.pop('randomness')
    broken = Config(plain_config.to_dict())
    broken.custom_hooks = [dict(type='Kill', at=4)]
    with pytest.raises(InterruptedError):
        run_stages(broken, str(tmp_path / 'broken'))
    _forget_kill(tmp_path / 'broken/run.json')
    plain_config.custom_hooks = []
    run_stages(plain_config, str(tmp_path / 'broken'), resume=True)
    seed = json.loads((tmp_path / 'broken/run.json').read_text())['seed']
    plain_config.randomness = dict(seed=seed)
    run_stages(plain_config, str(tmp_path / 'whole'))
    whole, resumed = (torch.load(tmp_path / name / 'iter_6.pth',
                                 weights_only=False)
                      for name in ('whole', 'broken'))
    assert_same(whole['state_dict'], resumed['state_dict'])


def _forget_kill(path):
    """The settings of the run, as if it had been killed from outside."""
    record = json.loads(path.read_text())
    hooks = [
        h for h in record['settings']['custom_hooks'] if h['type'] != 'Kill'
    ]
    record['settings']['custom_hooks'] = hooks
    path.write_text(json.dumps(record))


@pytest.mark.filterwarnings("ignore:Detected call of `scheduler.step")
def test_ema_amp_and_accumulation(ka_config, tmp_path):
    """All at once, broken off and resumed, against an unbroken run."""
    watch(ka_config)
    ka_config.optim_wrapper.update(type='BFloat16OptimWrapper',
                                   accumulative_counts=3)
    ema = dict(type='EMAHook', momentum=0.1)
    for stage in (ka_config, ka_config.stages[0]):
        stage.custom_hooks = [*stage.custom_hooks, ema]
    run_stages(ka_config, str(tmp_path / 'whole'))
    broken = Config(ka_config.to_dict())
    broken.stages[1].custom_hooks = [
        *broken.custom_hooks, dict(type='Kill', at=4)
    ]
    with pytest.raises(InterruptedError):
        run_stages(broken, str(tmp_path / 'broken'))
    _forget_kill(tmp_path / 'broken/distill/run.json')
    run_stages(ka_config, str(tmp_path / 'broken'), resume=True)
    whole, resumed = final(tmp_path / 'whole'), final(tmp_path / 'broken')
    assert_same(whole['state_dict'], resumed['state_dict'])
    assert_same(whole['ema_state_dict'], resumed['ema_state_dict'])
    averaged = whole['state_dict']['decode_head.conv_seg.weight']
    trained = whole['ema_state_dict']['module.decode_head.conv_seg.weight']
    assert not torch.equal(averaged, trained)
    assert not any('teacher' in k for k in whole['ema_state_dict'])
    assert all(v.isfinite().all() for v in whole['state_dict'].values())


def test_checkpoints_that_a_resume_could_not_use(ka_config, tmp_path):
    ka_config.optim_wrapper.accumulative_counts = 2  # checkpoints every 3
    with pytest.raises(UserError, match='multiple of accumulative_counts'):
        run_stages(ka_config, str(tmp_path / 'a'))
    ka_config.default_hooks.checkpoint.max_keep_ckpts = 1
    with pytest.raises(UserError, match='set it to 2'):
        run_stages(ka_config, str(tmp_path / 'b'))


def test_two_processes_end_with_equal_weights(ka_config, tmp_path):
    """torchrun on the CPU: gloo, both stages, then every rank's weights."""
    watch(ka_config)
    for stage in (ka_config, ka_config.stages[0]):
        stage.custom_hooks = [*stage.custom_hooks, dict(type='RankSaver')]
    run_torchrun(ka_config, RANK_SAVER, tmp_path)
    for stage in ('translator', 'distill'):
        folder = tmp_path / 'work_dirs/two_ranks' / stage
        one, other = (torch.load(folder / f'rank{i}.pth') for i in (0, 1))
        assert_same(one['parameters'], other['parameters'])
        # each rank drew its own samples
        assert one['batch'] != other['batch']
    # and the last validation was that of the weights that are saved
    assert_same(one['buffers'], other['buffers'])
    assert any('running_mean' in name for name in one['buffers'])
    assert len(list(folder.glob('pictures/*.png'))) == 3
    lines = log_lines(folder)
    assert any('ka_gradient_ratio' in line for line in lines)


RANK_SAVER = '''
import os
import torch
from mmengine.hooks import Hook
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class RankSaver(Hook):
    """Saves what each rank ends with."""

    def after_train_iter(self, runner, batch_idx, data_batch, outputs):
        self.batch = [s.img_path for s in data_batch['data_samples']]

    def after_train(self, runner):
        parameters = {k: v.detach() for k, v in
                      runner.model.module.named_parameters()}
        assert any(k.startswith('distill.') for k in parameters)
        buffers = dict(runner.model.module.named_buffers())
        path = os.path.join(runner.work_dir, f'rank{runner.rank}.pth')
        torch.save(dict(parameters=parameters, buffers=buffers,
                        batch=self.batch), path)
'''


def test_schedule_is_counted_in_iterations(ka_config, tmp_path):
    hook = FitNetHook('a', 'b', name='x', start=10, end=20, warmup=4)
    factors = [hook.term.level(i) for i in (9, 10, 11, 13, 14, 19, 20)]
    assert factors == [0, 0.25, 0.5, 1, 1, 1, 0]
    ka_config.pop('stages')
    ka_config.custom_hooks[1].update(translator=None,
                                     start=1,
                                     end=5,
                                     warmup=2,
                                     name='late')
    ka_config.work_dir = str(tmp_path / 'work')
    build_runner(ka_config).train()
    values = [
        line['loss_late_affinity'] for line in log_lines(tmp_path / 'work')
        if 'loss' in line
    ]
    assert values[0] == values[5] == 0
    assert all(v > 0 for v in values[1:5])
    assert values[1] < 0.7 * values[2]


def test_rates_of_the_distillation_parts(ka_config):
    ka_config.pop('stages')
    ka_config.custom_hooks[1].translator = None
    ka_config.optim_wrapper.paramwise_cfg = dict(custom_keys=dict(distill=dict(
        lr_mult=10.)))
    runner = build_runner(ka_config)
    wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    rates = {
        id(p): g['lr']
        for g in wrapper.optimizer.param_groups
        for p in g['params']
    }
    for name, parameter in runner.model.named_parameters():
        expected = 0.5 if name.startswith('distill.') else 0.05
        assert rates[id(parameter)] == pytest.approx(expected), name


def test_a_rate_that_the_config_names_counts_before_the_terms_own():
    terms = SimpleNamespace(name='ka',
                            lr_mult=10.), SimpleNamespace(name='kd',
                                                          lr_mult=5.)
    given = {'distill.ka.': dict(lr_mult=2.)}
    wrapper = with_rates(dict(paramwise_cfg=dict(custom_keys=given)),
                         SimpleNamespace(terms=terms))
    assert wrapper['paramwise_cfg']['custom_keys'] == {
        **given, 'distill.kd.': dict(lr_mult=5.)
    }


def test_rates_by_layer_leave_none_to_a_term():
    terms = SimpleNamespace(name='fitnet', lr_mult=10.),
    by_layer = dict(constructor='LearningRateDecayOptimizerConstructor')
    with pytest.raises(UserError, match='no lr_mult of distill.fitnet'):
        with_rates(by_layer, SimpleNamespace(terms=terms))


def test_a_finished_stage_runs_again_only_when_its_settings_change(
        ka_config, tmp_path, capsys):
    work = tmp_path / 'ka'
    run_stages(ka_config, str(work))
    capsys.readouterr()
    times = {p: p.stat().st_mtime_ns for p in work.glob('*/*.pth')}
    run_stages(ka_config, str(work))
    assert 'finished, nothing to do' in capsys.readouterr().out
    assert times == {p: p.stat().st_mtime_ns for p in work.glob('*/*.pth')}
    ka_config.stages[1].custom_hooks = [
        ka_config.custom_hooks[0],
        dict(ka_config.custom_hooks[1], adaptation_weight=5.)
    ]
    run_stages(ka_config, str(work))
    assert 'the settings have changed (custom_hooks)' in capsys.readouterr(
    ).out
    first = work / 'translator/iter_6.pth'
    assert first.stat().st_mtime_ns == times[first]
    kept = list(work.glob('distill.before_*/iter_6.pth'))
    assert len(kept) == 1


def test_the_first_stage_changed_runs_the_second_again(ka_config, tmp_path,
                                                       capsys):
    work = tmp_path / 'ka'
    run_stages(ka_config, str(work))
    ka_config.stages[0].custom_hooks[1]['alpha'] = 1e-3
    run_stages(ka_config, str(work))
    assert len(list(work.glob('*.before_*'))) == 2
    assert 'have changed (an earlier stage' in capsys.readouterr().out


def test_a_folder_of_another_config_is_not_touched(ka_config, tmp_path):
    work = tmp_path / 'ka'
    run_stages(ka_config, str(work))
    other = Config(ka_config.to_dict())
    object.__setattr__(other, '_filename', 'other.py')
    files = sorted(work.rglob('*'))
    with pytest.raises(UserError, match="holds a run of the config 'config'"):
        run_stages(other, str(work))
    for name in (RECORD, COPY):
        (work / 'distill' / name).unlink()
    with pytest.raises(UserError, match='of another program'):
        run_stages(ka_config, str(work))
    assert [
        f for f in files
        if f.parent.name != 'distill' or f.name not in (RECORD, COPY)
    ] == sorted(work.rglob('*'))


@pytest.mark.parametrize('resume', [False, True])
def test_a_start_that_failed_does_not_lock_its_folder(plain_config, tmp_path,
                                                      capsys, resume):
    wrong = Config(plain_config.to_dict())
    wrong.custom_hooks = [dict(type='Kill', at=1)]
    wrong.optim_wrapper.optimizer.lr = 0.1
    work = str(tmp_path / 'run')
    with pytest.raises(InterruptedError):
        run_stages(wrong, work)
    run_stages(plain_config, work, resume)
    assert 'before its first checkpoint' in capsys.readouterr().out
    assert latest_checkpoint(work)


def test_a_training_that_fails_leaves_no_worker(plain_config):
    """The garbage collector would wait for each for seconds."""
    plain_config.train_dataloader.num_workers = 1
    plain_config.custom_hooks = [dict(type='Kill', at=1)]
    runner = build_runner(plain_config)
    before = multiprocessing.active_children()
    with pytest.raises(InterruptedError):
        runner.train()
    assert multiprocessing.active_children() == before


def test_a_run_with_its_best_checkpoint_only_is_kept(plain_config, tmp_path):
    plain_config.custom_hooks = [dict(type='Kill', at=2)]
    with pytest.raises(InterruptedError):
        run_stages(plain_config, str(tmp_path))
    (tmp_path / 'best_mIoU_iter_2.pth').touch()
    with pytest.raises(UserError, match='unfinished run'):
        run_stages(plain_config, str(tmp_path))


def test_a_stage_that_left_no_checkpoint_stops_the_next(ka_config, tmp_path):
    ka_config.default_hooks.checkpoint.update(interval=-1, save_last=False)
    with pytest.raises(UserError, match="'translator' left no checkpoint"):
        run_stages(ka_config, str(tmp_path))
    assert not (tmp_path / 'distill').exists()


def test_a_kill_while_writing_leaves_the_last_checkpoint(
        ka_config, tmp_path, monkeypatch):
    """Half of the second file of the last stage reaches the disk."""
    put, calls = LocalBackend.put, []

    def cut_off(self, content, path):
        calls.append(path)
        if len(calls) == 4:  # two of each stage
            put(self, content[:len(content) // 2], path)
            raise InterruptedError
        put(self, content, path)

    monkeypatch.setattr(LocalBackend, 'put', cut_off)
    with pytest.raises(InterruptedError):
        run_stages(ka_config, str(tmp_path / 'ka'))
    monkeypatch.undo()
    folder = tmp_path / 'ka/distill'
    assert latest_checkpoint(str(folder)) == str(folder / 'iter_3.pth')
    assert len(final(tmp_path / 'ka')['state_dict']) > 10
    run_stages(ka_config, str(tmp_path / 'ka'), resume=True)
    assert latest_checkpoint(str(folder)) == str(folder / 'iter_6.pth')


def test_a_run_that_keeps_its_best_is_resumed(plain_config, tmp_path):
    """Its checkpoints hold the score, a NumPy scalar."""
    plain_config.default_hooks.checkpoint.save_best = 'mIoU'
    plain_config.train_cfg.val_interval = 2
    run_stages(plain_config, str(tmp_path))
    record = json.loads((tmp_path / 'run.json').read_text())
    (tmp_path / 'run.json').write_text(json.dumps({**record, 'finished': 0}))
    (tmp_path / 'iter_6.pth').unlink()
    score = read_checkpoint(str(
        tmp_path / 'iter_3.pth'))['message_hub']['runtime_info']['best_score']
    assert isinstance(score, np.floating)
    run_stages(plain_config, str(tmp_path), resume=True)
    assert (tmp_path / 'iter_6.pth').exists()


def test_channels_last_computes_the_same(ka_config, tmp_path):
    ka_config.pop('stages')
    ka_config.train_cfg.max_iters = 1
    ka_config.custom_hooks[1].translator = None
    losses = []
    runner = build_runner(ka_config)
    start = str(tmp_path / 'start.pth')  # random fills follow the layout
    torch.save(runner.model.state_dict(), start)
    ka_config.load_from = start
    for wanted in (False, True):
        ka_config.channels_last = wanted
        ka_config.work_dir = str(tmp_path / str(wanted))
        runner = build_runner(ka_config)
        weight = runner.model.backbone.conv1.conv.weight
        assert weight.is_contiguous(
            memory_format=torch.channels_last) is wanted
        runner.train()
        losses.append(log_lines(ka_config.work_dir)[0]['loss'])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)


@MODELS.register_module()
class TwoLayers(BaseModule):
    """A backbone that dynamo has soon traced."""

    def __init__(self, width):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.Sequential(torch.nn.Conv2d(*channels, 3, 4, 1),
                                torch.nn.BatchNorm2d(channels[1]),
                                torch.nn.ReLU(inplace=True))
            for channels in ((3, 8), (8, width)))

    def forward(self, x):
        first = self.layers[0](x)
        return first, self.layers[1](first)


@pytest.mark.filterwarnings("ignore")  # of dynamo about mmseg
def test_compiled_step_is_the_same(ka_config, tmp_path):
    """torch.compile around the whole step, hooks and teacher included."""
    ka_config.pop('stages')
    ka_config.model.backbone = dict(type='TwoLayers', width=32)
    source = ka_config.custom_hooks[0]
    source.model.backbone = dict(type='TwoLayers', width=64)
    source.model.decode_head.in_index = 1
    source.checkpoint = save_weights(source.model, tmp_path)
    ka_config.train_cfg.max_iters = 2
    ka_config.custom_hooks[1].translator = None
    states = []
    for wanted in (False, dict(backend='eager')):
        ka_config.compile = wanted
        ka_config.work_dir = str(tmp_path / str(bool(wanted)))
        runner = build_runner(ka_config)
        runner.train()
        states.append(runner.model.state_dict())
        assert 'loss_ka_affinity' in log_lines(ka_config.work_dir)[1]
    assert_same(*states)


class Squares(torch.utils.data.Dataset):
    """A data set of a user's own: it takes nothing and says nothing."""

    def __len__(self):
        return 4

    def __getitem__(self, item):
        labels = torch.ones(1, 64, 96, dtype=torch.long)
        return dict(
            inputs=torch.zeros(3, 64, 96, dtype=torch.uint8),
            data_samples=SegDataSample(gt_sem_seg=PixelData(data=labels)))


DATASETS.register_module(module=Squares)


@pytest.mark.parametrize('loader', [
    dict(sampler=dict(type='InfiniteSampler')),
    dict(sampler=dict(type='DefaultSampler', shuffle=True),
         collate_fn=dict(type='pseudo_collate')),
])
def test_a_data_set_of_ones_own(ka_config, loader):
    ka_config.pop('stages')
    ka_config.custom_hooks[1].translator = None
    ka_config.train_dataloader = dict(dataset=dict(type='Squares'),
                                      batch_size=2,
                                      num_workers=0,
                                      **loader)
    ka_config.train_cfg.max_iters = 2
    build_runner(ka_config).train()


class Tap(torch.nn.Module):

    def __init__(self):
        super().__init__()
        raise TypeError('this is mine')


@HOOKS.register_module()
class TapHook(DistillHook):
    loss_cls = Tap


def test_an_error_of_a_users_own_keeps_its_place(ka_config):
    ka_config.pop('stages')
    ka_config.custom_hooks[1] = dict(type='TapHook',
                                     student='backbone[1]',
                                     teacher='decode_head.bottleneck')
    with pytest.raises(TypeError, match='^this is mine$') as caught:
        build_runner(ka_config)
    assert caught.traceback[-1].frame.f_locals['self'].__class__ is Tap


@pytest.mark.parametrize('said, advice', [
    ('Expected to have finished reduction in the prior iteration before '
     'starting a new one.', 'find_unused_parameters=True'),
    ('Expected more than 1 value per channel when training, got [1, 8, 1, 1]',
     'batch_size'),
    ('Target 3 is out of bounds.', 'prepare-data check'),
])
def test_what_torch_says_is_explained(said, advice):
    kind = IndexError if 'Target' in said else RuntimeError
    with pytest.raises(UserError, match=advice) as caught, advised():
        raise kind(said)
    assert said in str(caught.value.__cause__)
    with pytest.raises(RuntimeError, match='^else$'), advised():
        raise RuntimeError('else')


def test_a_loss_that_is_no_number_stops_the_run(ka_config, tmp_path):
    """Named, and before it reaches a checkpoint."""
    ka_config.stages[1]['optim_wrapper'] = dict(optimizer=dict(lr=1e30))
    with pytest.raises(UserError, match='not finite: .*(ka_|decode)'):
        run_stages(ka_config, str(tmp_path / 'ka'))
    assert latest_checkpoint(str(tmp_path / 'ka/distill')) is None
