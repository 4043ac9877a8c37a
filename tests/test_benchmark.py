"""tools/benchmark.py as a user calls it, and that it measures what it says."""
import copy
import json
import sys
import time
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import SIZE, TAPS, forget_instances, run_tool, teacher
from mmengine.config import Config, ConfigDict

import seg_kd.losses
from seg_kd import benchmark
from seg_kd.benchmark import (WORKS, data, ddp, inference, losses, relations,
                              scale, step, timing)
from seg_kd.engine.stages import run_stages
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.losses import _gram

TINY = (2, 8, 4, 6)


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


# -- losses ----------------------------------------------------------------

NAIVE = [name for name, case in WORKS.items() if case.naive]
PEERS = [name for name, case in WORKS.items() if case.peer]


def test_every_loss_has_a_row():
    assert list(WORKS) == sorted(WORKS)
    measured = {name: type(case.ours(4)) for name, case in WORKS.items()}
    for name, loss in measured.items():  # named as its file
        assert loss.__module__ == f'seg_kd.losses.{name.split()[0]}'
    exported = {name for name in seg_kd.losses.__all__ if 'Loss' in name}
    assert {loss.__name__ for loss in measured.values()} == exported


def test_losses(call, no_torchdistill):
    status, out, err, found = call('losses', '--size', *TINY, '--threads', 1,
                                   '--classes', 5)
    assert status == 0 and said(err) == list(WORKS)
    assert list(found['rows']) == list(WORKS)
    for name, row in found['rows'].items():
        assert f'| {name} ' in out
        assert row['ours min'] <= row['ours ms'] <= row['ours max']
        assert row['ours MiB'] > 0
        for key in ('ms', 'min', 'max', 'MiB', 'x time', 'x MiB'):
            assert (row[f'naive {key}'] is not None) == (name in NAIVE)
            assert row[f'peer {key}'] is None
    assert 'peer' not in out.split('no peers: torchdistill')[0]
    assert found['machine']['threads'] == 1
    assert f'torch {torch.__version__}' in out.splitlines()[-1]


@pytest.fixture
def no_torchdistill(monkeypatch):
    monkeypatch.setitem(sys.modules, 'torchdistill', None)
    monkeypatch.setitem(sys.modules, 'torchdistill.losses', None)


def test_trained_numbers(call):
    _, _, _, found = call('losses', 'fitnet', 'hnd', '--size', *TINY)
    assert {
        k: v['trained']
        for k, v in found['rows'].items()
    } == dict(fitnet=64, hnd=0)


def test_ratios_are_to_ours(call):
    row = call('losses', 'hnd', '--size', *TINY)[3]['rows']['hnd']
    assert (row['naive min'] / row['ours max'] <= row['naive x time'] <=
            row['naive max'] / row['ours min'])
    assert row['naive x MiB'] == row['naive MiB'] / row['ours MiB']


def test_chosen_methods_and_their_variants(call):
    _, out, _, found = call('losses', 'kd', 'sp', '--size', *TINY, '--chart',
                            'chart.png')
    assert list(found['rows']) == ['kd', 'kd full', 'sp', 'sp all']
    assert plt.imread('chart.png').std() > 0


def test_naive_is_left_out_where_it_does_not_fit(call, monkeypatch):
    monkeypatch.setattr(losses, 'MOST', 2 * (4 * 6)**2 - 1)
    status, out, _, found = call('losses', 'affinity', '--size', *TINY)
    assert status == 0
    assert 'affinity, naive: left out, a matrix of 0 GiB would not' in out
    assert found['rows']['affinity']['naive ms'] is None
    assert found['rows']['affinity']['ours ms'] > 0


def test_naive_is_left_out_where_it_takes_too_long(call):
    status, out, _, found = call('losses', 'hnd', '--size', *TINY, '--limit',
                                 0)
    assert status == 0 and 'hnd, naive: left out, one run took 0 s' in out
    assert found['notes'][-1] in out
    row = found['rows']['hnd']
    assert row['naive ms'] is row['naive MiB'] is row['naive x MiB'] is None
    assert row['ours ms'] > 0


def test_naive_is_left_out_where_memory_ends(call, monkeypatch):

    def fail(*_):
        raise RuntimeError('CUDA out of memory')

    case = WORKS['hnd']
    monkeypatch.setitem(WORKS, 'hnd', case._replace(naive=fail))
    found = call('losses', 'hnd', '--size', *TINY)[3]
    assert found['notes'][-1] == 'hnd, naive: left out, out of memory'
    assert found['rows']['hnd']['naive ms'] is None
    monkeypatch.setattr(losses, 'peak_mib', fail)  # of ours, then
    with pytest.raises(RuntimeError):
        call('losses', 'hnd', '--size', *TINY)


@pytest.fixture
def on(request):
    """Value and gradient of a form of the loss, in float64."""
    torch.manual_seed(0)
    case = WORKS[request.param]
    loss = case.ours(8).double().eval()  # CRD's memories stay as they are
    student, teacher, extra = doubled(case.given(losses.Size(2, 8, 7, 10, 5)))
    maps = student if isinstance(student, list) else [student]

    def evaluate(call):
        torch.manual_seed(1)  # of the random instances and negatives
        value = losses.total(call(case, loss)(student, teacher, **extra))
        return value, torch.autograd.grad(value, maps)

    return evaluate


def doubled(x):
    if isinstance(x, dict):
        return {k: doubled(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return [doubled(v) for v in x]
    if not x.is_floating_point():
        return x
    return x.detach().double().requires_grad_(x.requires_grad)


def ours(case, loss):
    return loss


@pytest.mark.parametrize('on', NAIVE, indirect=True)
def test_naive_is_the_same_loss(on):
    value, gradients = on(ours)
    other, others = on(lambda case, loss: partial(case.naive, loss))
    torch.testing.assert_close(other, value, rtol=1e-6, atol=0)
    for a, b in zip(others, gradients):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-9)


# Of torchdistill: whole-map norms in KA's terms, rows of length 1 in the L1
# norm in SP, norms not squared in FSP, banks of its own in CRD.
OTHERS = {'adaptation', 'affinity', 'crd image', 'fsp', 'ka', 'sp', 'sp all'}


@pytest.mark.parametrize('on, same', [(k, k not in OTHERS) for k in PEERS],
                         indirect=['on'])
def test_peer_has_the_same_gradient_but_for_a_factor(on, same):
    td = pytest.importorskip('torchdistill.losses.mid_level')
    peer, own = (on(call)[1]
                 for call in (lambda case, loss: partial(case.peer, td, loss),
                              ours))
    for a, b in zip(peer, own):  # of AT and AB a factor for each layer
        cosine = torch.cosine_similarity(a.flatten(), b.flatten(), dim=0)
        assert cosine > 1 - 1e-5 if same else .1 < cosine < 1 - 1e-5


def test_peers_get_columns(call, monkeypatch):

    class KDLoss(torch.nn.Module):

        def __init__(self, student_module_path, student_module_io,
                     teacher_module_path, teacher_module_io, temperature,
                     alpha):
            super().__init__()

        def forward(self, student, teacher):
            return (student['x']['output'] - teacher['x']['output']).sum()

    monkeypatch.setattr(losses.peers, 'torchdistill',
                        lambda: SimpleNamespace(KDLoss=KDLoss))
    _, out, _, found = call('losses', 'kd', '--size', *TINY)
    assert 'peer x time' in out and 'no peers' not in out
    assert found['rows']['kd']['peer ms'] > 0


@pytest.mark.parametrize('size', [TINY, (1, 64, 16, 32)])
def test_only_near_is_found_in_float64(size, monkeypatch):
    seen = []

    def spy(grams):
        seen.append(nearly_equal(grams))
        return seen[-1]

    nearly_equal = _gram.nearly_equal
    monkeypatch.setattr(_gram, 'nearly_equal', spy)
    for name, near in [('affinity', False), ('affinity near', True)]:
        works, _ = losses.forms(WORKS[name], losses.Size(*size, 5), None)
        works['ours']()
        assert seen == size[0] * [near]
        seen.clear()


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
    """Notes the weights, once they are initialised."""
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
    for arguments, words in [
        (('losses', '--size', 2, 8, 4, 0), 'argument --size'),
        (('losses', 'kdd', '--size', *TINY), "no loss is called 'kdd'"),
        (('losses', 'reviewkd', '--size', 1, 8, 4, 4), 'take larger ones'),
    ]:
        status, _, err, _ = call(*arguments)
        assert status == 2 and words in err


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


# -- scale -----------------------------------------------------------------


def test_scale(call, config):
    _, out, err, found = call('scale', config, '--heights', 48, 64,
                              '--batches', 1, 2, '--hooks', 1, 2,
                              '--positions', 16, 32, 64, '--naive', 32,
                              '--channels', 8, '--chart', 'chart.png')
    rows = found['rows']
    assert said(err) == [name for name in rows if 'exponent' not in name]
    assert list(rows)[:8] == [
        '4608 pixels', '8192 pixels', 'pixels: exponent', '1 images',
        '2 images', 'images: exponent', '1 x hooks', '2 x hooks'
    ]
    assert list(rows)[8:12] == [
        'affinity 16', 'affinity 32', 'affinity 64', 'affinity: exponent'
    ]
    assert rows['8192 pixels'] == rows['1 images'] == rows['1 x hooks']
    for name in ('student alone', 'teacher alone', 'step'):
        row = rows['2 images']
        assert (row[f'{name} min'] <= row[f'{name} ms'] <= row[f'{name} max'])
    assert rows['affinity 32']['naive x MiB'] > 1
    assert rows['affinity 64']['naive ms'] is None
    assert 'affinity, naive: left out beyond 32 positions' in out
    # memory is no matter of load: naive holds a matrix, ours does not
    assert rows['affinity: exponent']['naive MiB'] > 1.5
    assert rows['affinity: exponent']['ours MiB'] < 1.1
    assert plt.imread('chart.png').std() > 0


def test_exponents_by_hand():
    rows = {
        f'a {n}': {
            'ours ms': 3. * n**2,
            'ours min': 1.,
            'naive MiB': None if n > 1 else 5.,
            'naive x MiB': 2.
        }
        for n in (1, 2, 4)
    }
    scale.add_exponents(rows, 'a')
    assert rows['a: exponent'] == {
        'ours ms': pytest.approx(2),
        'ours min': None,
        'naive MiB': None,
        'naive x MiB': None
    }


def test_what_naive_would_hold():
    rows = {f'sp {n}': {'naive MiB': m} for n, m in [(2, 64.), (8, None)]}
    notes = relations.foresee(rows, 'sp', [8, 2])
    assert notes[0].endswith('at 8, square growth makes it 1 GiB')


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
