"""tools/benchmark.py as a user calls it, and that it measures what it says."""
import copy
import json
import time
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import SIZE, TAPS, forget_instances, run_tool, teacher
from mmengine.config import Config, ConfigDict

from seg_kd import benchmark
from seg_kd.benchmark import data, ddp, inference, step, timing
from seg_kd.engine.stages import run_stages
from seg_kd.hooks import DistillHook, TeacherHook


@pytest.fixture
def call(monkeypatch, tmp_path, capfd):
    """Runs the tool in ``tmp_path``: status, what it printed, its JSON."""

    def run(*arguments):
        argv = [*arguments, '--runs', 2, '--json', 'out.json']
        status = run_tool('benchmark', argv, monkeypatch, tmp_path)
        path = tmp_path / 'out.json'
        content = json.loads(path.read_text()) if status == 0 else None
        return status, *capfd.readouterr(), content

    return run


def said(err):
    """The parts that a benchmark announced, and nothing else."""
    parts = [line.split(': ', 1) for line in err.splitlines()]
    numbers = [f'{k} of {len(parts)}' for k in range(1, len(parts) + 1)]
    assert [number for number, _ in parts] == numbers
    return [name for _, name in parts]


def a_step(*arguments):
    return ('step', *arguments, '--size', *SIZE)


@pytest.fixture
def config(ka_config, tmp_path):
    """The tiny experiment, without its data."""
    ka_config.train_dataloader.dataset.data_root = 'nowhere'
    ka_config.dump(str(tmp_path / 'ka.py'))
    return 'ka.py'


@pytest.fixture
def built(ka_config, tmp_path):
    """Its runner, made to be measured: images, and further arguments."""

    def make(*configs, sources=(), images=(2, *SIZE), runs=1, **settings):
        forget_instances()
        sources = sources or [
            benchmark.Source(c) for c in configs or [ka_config]
        ]
        return benchmark.build_runner(sources, images, step.WARM_UP + runs + 1,
                                      str(tmp_path), **settings)

    return make


# -- measuring -------------------------------------------------------------


def test_works_take_turns_after_a_warm_up():
    calls = []
    works = {name: lambda name=name: calls.append(name) for name in 'ab'}
    times = benchmark.in_turn(works, 3)
    assert ''.join(calls) == 5 * 'ab'
    assert {
        name: len(taken)
        for name, taken in times.items()
    } == dict(a=3, b=3)


def test_summary_by_hand():
    times = dict(a=[1., 8., 6.], b=[2., 4., 1.])
    assert benchmark.summary(times, ['b', 'none'])['a'] == {
        'median ms': 6.,
        'min ms': 1.,
        'max ms': 8.,
        'time / b': 2.,  # of 0.5, 2 and 6: not 6 / 2
        'time / none': None
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason='of the CPU')
def test_clock_sums_the_runs_of_a_part(monkeypatch):
    times = iter([0., 1., 5., 7., 7., 10.])
    monkeypatch.setattr(timing, 'seconds', lambda: next(times))
    clock = benchmark.Clock()
    add = clock.timed('a', lambda x, y: x + y)
    assert [add(1, y=2), add(3, 4)] == [3, 7]
    clock.watch('b', layer := torch.nn.Identity())
    layer(torch.zeros(1))
    assert clock.read() == dict(a=3e3, b=3e3)
    assert clock.read() == {}


@pytest.mark.skipif(torch.cuda.is_available(), reason='of the CPU')
def test_peak_is_what_is_held_at_once():

    def work():
        for _ in range(3):
            torch.empty(2, 2**18)  # 2 MiB, gone again
        kept = torch.empty(2**18)
        return kept, torch.empty(2**19)

    assert benchmark.peak_mib(work) == 3


@pytest.mark.skipif(torch.cuda.is_available(), reason='of the CPU')
def test_processor_time_counts_no_waiting(monkeypatch, call, config):
    monkeypatch.setattr(timing, 'seconds', timing.seconds)  # to be restored
    _, out, _, found = call('inference', config, '--size', *SIZE, '--cpu-time')
    assert found['machine']['times'] == 'processor'
    assert out.splitlines()[-1].endswith('times processor')
    waited = benchmark.in_turn(dict(sleep=partial(time.sleep, .2)), 1, 0)
    assert waited['sleep'][0] < 100


# -- the step --------------------------------------------------------------


def test_step_without_data_and_translator(call, config):
    status, out, err, found = call(*a_step(config), '--chart', 'chart.png')
    assert status == 0
    assert said(err) == [*2 * ['warm-up'], *2 * ['step'], 'memory']
    assert found['title'] == (
        'one step on 2x64x96; noise (data folder nowhere is missing); '
        'random weights: translator')
    assert found['title'] in out
    rows = found['rows']
    assert list(rows) == [
        'floor', 'student alone', 'teacher alone', 'step', 'teacher',
        'student forward', 'ka', '- ka.translator', '- ka.adapter_feature',
        '- ka.adaptation', '- ka.adapter_affinity', '- ka.affinity',
        'backward', 'optimizer', 'other'
    ]
    assert rows['floor']['time / floor'] == 1
    assert all(row['min ms'] <= row['median ms'] <= row['max ms']
               for row in rows.values())
    for name in ('student alone', 'teacher alone', 'step'):
        assert rows[name]['MiB'] > 0
        assert rows[name]['images / s'] == 2e3 / rows[name]['median ms']
    assert plt.imread('chart.png').std() > 0


def test_step_on_data(call, ka_config, tmp_path):
    ka_config.dump(str(tmp_path / 'ka.py'))
    _, out, err, found = call(*a_step('ka.py'))
    assert len(
        said(err)) == 5 and 'noise' not in out and 'data0, 0 workers' in out
    rows = found['rows']
    assert rows['data']['median ms'] > 0
    assert 'data' not in call(*a_step('ka.py'), '--no-data')[3]['rows']
    parts = [
        row['share'] for name, row in rows.items()
        if row['share'] is not None and name[0] != '-'
    ]
    assert sum(parts) == pytest.approx(1, abs=.1)  # of medians


def test_parts_add_up():
    run = dict.fromkeys(['teacher', 'student forward', 'backward'], 2.)
    run.update({
        'data': 3.,
        'ka': 4.,
        'optimizer': 1.,
        'step': 16.,
        '- ka.affinity': 3.
    })
    run.update({'student alone': 5., 'teacher alone': 3.})
    hook = SimpleNamespace(name='ka')
    rows = step.table_of(step.in_order([run], [hook]), {}, 2)
    assert {
        k: row['median ms']
        for k, row in rows.items()
    } == {
        **run, 'floor': 8.,
        'other': 5.
    }
    assert rows['step']['time / floor'] == 2
    assert rows['step']['images / s'] == 125
    assert rows['ka']['share'] == 4 / 19
    assert rows['floor']['share'] is rows['ka']['images / s'] is None


def test_step_without_any_checkpoint(call, config):
    status, out, _, _ = call(*a_step(config), '--cfg-options',
                             'custom_hooks.0.checkpoint=none.pth',
                             'stages.0.custom_hooks.0.checkpoint=none.pth')
    assert status == 0 and 'random weights: teacher, translator' in out


def test_step_after_training(call, ka_config, tmp_path, teacher_checkpoint):
    ka_config.train_cfg.max_iters = 1
    ka_config.dump(str(tmp_path / 'ka.py'))
    run_stages(Config.fromfile(str(tmp_path / 'ka.py')), str(tmp_path / 'run'))
    status, out, _, _ = call(*a_step('ka.py'), '--work-dir', 'run',
                             '--checkpoint', teacher_checkpoint)
    assert status == 0 and 'random weights' not in out


def test_a_step_is_complete_but_for_the_rate(built):
    """Each weight gets its gradient, and none moves."""
    runner = built(data=False).runner
    model, learning = runner.model, set()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            weight.register_hook(lambda _, name=name: learning.add(name))
    before = {}
    runner.train_loop.run_iter = partial(run_after, before, model,
                                         runner.train_loop.run_iter)
    step.measure(runner)
    assert learning == {
        k
        for k in before if not k.startswith('distill.ka.translator')
    }
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.grad is None


def run_after(before, model, run_iter, batch):
    """Notes the weights, once they are initialized."""
    if not before:
        before.update((k, w.clone()) for k, w in model.named_parameters())
    run_iter(batch)


def test_alone_means_alone(built):
    """The student alone runs no teacher, the teacher no student."""
    runner = built(data=False).runner
    names = [k for k, _ in step.own_student(runner.model).named_parameters()]
    assert names and not any('distill' in name for name in names)
    ran = []
    floor = step.floor_of(runner)
    source = next(h for h in runner.hooks if isinstance(h, TeacherHook))
    source.network.backbone.register_forward_hook(
        lambda *_: ran.append('teacher'))
    source.network.decode_head.conv_seg.register_forward_hook(
        lambda *_: ran.append('past the taps'))
    runner.model.register_forward_hook(lambda *_: ran.append('distilled'))
    source.teacher.taps.attach()
    batch = next(iter(runner.train_dataloader))
    for name, expected in [('student alone', []),
                           ('teacher alone', ['teacher'])]:
        floor[name](batch)
        assert ran == expected, name
        ran.clear()


@pytest.mark.parametrize('data', [False, True])
def test_a_finer_view_is_measured(built, ka_config, data):
    """Of noise and of data, where the cache's teacher has none in a batch."""
    ka_config.custom_hooks[0].update(scale=2., cache=data)
    ka_config.train_dataloader.dataset.pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs')
    ]
    runner = built(data=data).runner
    floor = step.floor_of(runner)
    source = next(h for h in runner.hooks if isinstance(h, TeacherHook))
    seen = []
    source.network.backbone.register_forward_pre_hook(
        lambda module, args: seen.append(args[0].shape))
    batch = next(iter(runner.train_dataloader))
    for work in floor.values():
        work(batch)
    assert ('finer' in batch['data_samples'][0]) != data
    assert seen == [(2, 3, 2 * SIZE[0], 2 * SIZE[1])]
    if not data:
        images = torch.zeros(2, 3, *SIZE)
        assert source.teacher.seen(images, batch['data_samples']).shape == \
            seen[0]


def test_floor_is_in_the_precision_of_the_step(built, ka_config):
    ka_config.optim_wrapper.type = 'BFloat16OptimWrapper'
    runner = built(data=False).runner
    floor = step.floor_of(runner)
    source = next(h for h in runner.hooks if isinstance(h, TeacherHook))
    source.teacher.taps.attach()
    batch = next(iter(runner.train_dataloader))
    seen = []
    source.network.backbone.register_forward_hook(
        lambda module, args, maps: seen.append(maps[-1].dtype))
    for work in floor.values():
        work(batch)
    assert seen == [torch.bfloat16]


def test_crop_is_set_in_the_data(built, ka_config):
    pipeline = ka_config.train_dataloader.dataset.pipeline
    pipeline.insert(2, dict(type='RandomCrop', crop_size=(8, 8)))
    made = built(images=(3, 32, 48))
    batch = next(iter(made.runner.train_dataloader))
    assert {x.shape for x in batch['inputs']} == {(3, 32, 48)}
    assert len(batch['inputs']) == 3 and made.data
    nested = dict(transforms=[dict(height=1, width=2)])
    data.set_crop(nested, (4, 6))
    assert nested == dict(transforms=[dict(height=4, width=6)])


def test_images_without_labels_do_not_come_on_top(built, ka_config):
    ka_config.train_dataloader.unlabelled = dict(img_path='val/images')
    made = built(images=(3, *SIZE))
    batch = next(iter(made.runner.train_dataloader))
    assert len(batch['inputs']) == 3 and made.data


@pytest.fixture
def kd_config(plain_config, teacher_hook):
    config = copy.deepcopy(plain_config)
    config.pop('stages', None)  # where it is that of another fixture
    config.custom_hooks = [teacher_hook, dict(type='KDHook')]
    return config


def names(runner):
    return [h.name for h in runner.hooks if isinstance(h, DistillHook)]


def test_hooks_of_several_configs_and_often(built, ka_config, kd_config):
    kd_config.custom_hooks[1] = ConfigDict(type='SPHook', **TAPS)
    runner = built(ka_config, kd_config, times=2, data=False).runner
    assert names(runner) == ['ka', 'sp', 'kahook1', 'sphook1']
    times, _ = step.measure(runner)
    assert {'ka', 'sphook1', '- kahook1.affinity'} <= times.keys()


def test_the_stage_that_is_measured(built, ka_config):
    ka_config.stages.append(ConfigDict(name='task', custom_hooks=[]))
    assert names(built(data=False).runner) == ['ka']  # the last that distils
    ka_config.stages.insert(1, ka_config.stages[1].copy())
    ka_config.stages[1].update(name='sp',
                               custom_hooks={'1': dict(type='SPHook', **TAPS)})
    source = benchmark.Source(ka_config, stage='sp')
    runner = built(sources=[source], data=False).runner
    assert names(runner) == ['sp']


def test_crd_on_images_without_data(built, kd_config):
    kd_config.custom_hooks[1] = ConfigDict(type='CRDHook',
                                           instances='image',
                                           **TAPS)
    times, _ = step.measure(built(kd_config, data=False).runner)
    assert times['crd'][0] > 0


def test_a_student_without_task(built, kd_config):
    kd_config.model = dict(type='SplitSegmentor',
                           teacher=teacher(),
                           split='backbone[0]',
                           backbone=dict(type='BottleneckHead',
                                         bottleneck_channels=4),
                           data_preprocessor=kd_config.model.data_preprocessor,
                           test_cfg=dict(mode='whole'))
    kd_config.custom_hooks[1] = ConfigDict(type='HNDHook')
    times, _ = step.measure(built(kd_config, data=False).runner)
    assert times['hnd'][0] > 0 and times['student alone'][0] > 0


def test_mistakes_are_one_line(call, config, kd_config, tmp_path):
    kd_config.dump(str(tmp_path / 'kd.py'))
    kd_config.custom_hooks[0].model.backbone.depth = 34
    kd_config.dump(str(tmp_path / 'other.py'))
    kd_config.custom_hooks = []
    kd_config.dump(str(tmp_path / 'plain.py'))
    for arguments, words in [
        (a_step('none.py'), 'does not exist'),
        (a_step('plain.py'), 'no TeacherHook'),
        (a_step('kd.py:task'), "no stage 'task'"),
        (a_step('kd.py', 'kd.py'), "two hooks are named 'kd'"),
        (a_step('kd.py', 'other.py'), 'another teacher'),
        (a_step(f'{config}:translator'), 'trains no student'),
        ((*a_step(config), '--checkpoint', 'none.pth'), 'none.pth does not'),
        (('step', config, '--size', 8, 8, '--batch', 1), 'larger'),
        (('inference', 'kd.py', 'kd.py'), 'takes one config'),
    ]:
        status, _, err, _ = call(*arguments)
        *progress, line = err.splitlines()
        assert status == 2 and words in line
        begun = ['1 of 5: warm-up'] if words == 'larger' else []
        assert progress == begun


# -- inference -------------------------------------------------------------


def test_inference(call, config):
    _, out, err, found = call('inference', config, '--size', *SIZE, '--chart',
                              'chart.png')
    assert err == '' and found['title'] in out
    assert list(found['rows']) == ['teacher', 'student']
    for row in found['rows'].values():
        assert row['images / s'] == 1e3 / row['median ms']
        assert row['MiB'] > 0
    assert plt.imread('chart.png').std() > 0


def test_inference_of_a_student_alone(call, plain_config, tmp_path):
    plain_config.dump(str(tmp_path / 'plain.py'))
    rows = call('inference', 'plain.py', '--size', *SIZE)[3]['rows']
    assert list(rows) == ['student']


def test_flops_by_hand():

    class Convolution(torch.nn.Conv2d):

        def forward(self, x, mode):
            return super().forward(x)

    counted = inference.giga_flops(Convolution(3, 5, 3, padding=1),
                                   torch.zeros(1, 3, 4, 6))
    assert counted == pytest.approx(2 * 5 * 3 * 9 * 4 * 6 / 1e9)


# -- processes -------------------------------------------------------------


def test_distilling_adds_no_collective(ka_config):
    """Two processes: all that they say is the gradients, in buckets."""
    found = ddp.launch(2, [benchmark.Source(ka_config)], (2, *SIZE), 1)
    for name in ddp.WORKS:
        assert found['buckets'][name] >= 1
        assert found['collectives'][name] == dict(
            allreduce=found['buckets'][name])
        assert len(found['times'][name]) == 1


def test_ddp_by_hand(monkeypatch, call, config):
    """In halves, one process and two in turn; here none is started."""
    started = []

    def launch(count, sources, images, runs):
        started.append((count, images, runs))
        times = dict(zip(ddp.WORKS, ([10. * count], [40.])))
        said = {name: dict(allreduce=2, allgather=count) for name in ddp.WORKS}
        return dict(times=times,
                    collectives=said,
                    buckets=dict.fromkeys(ddp.WORKS, 2))

    monkeypatch.setattr(ddp, 'launch', launch)
    _, out, _, found = call('ddp', config, '--size', *SIZE, '--chart',
                            'chart.png')
    assert started == 2 * [(1, (2, *SIZE), 1), (2, (2, *SIZE), 1)]
    alone, distilled = found['rows'].values()
    assert alone['1: images / s'] == alone['2: images / s'] == 200
    assert (alone['efficiency'], distilled['efficiency']) == (.5, 1)
    assert (distilled['collectives'], distilled['buckets']) == (4, 2)
    assert 'collectives with distillation: 2 allgather, 2 allreduce' in out
    assert plt.imread('chart.png').std() > 0
