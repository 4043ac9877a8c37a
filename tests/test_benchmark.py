"""tools/benchmark.py as a user calls it, and that it measures what it says."""
import json

import pytest
import torch
from conftest import SIZE, run_tool
from mmengine.config import Config

from seg_kd import benchmark
from seg_kd.losses import AffinityLoss, affinity
from seg_kd.stages import run_stages

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


def step(*arguments):
    return ('step', *arguments, '--size', *SIZE)


@pytest.fixture
def config(ka_config, tmp_path):
    """The tiny experiment, without its data."""
    ka_config.train_dataloader.dataset.data_root = 'nowhere'
    ka_config.dump(str(tmp_path / 'ka.py'))
    return 'ka.py'


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
def test_peak_is_what_is_held_at_once():

    def work():
        for _ in range(3):
            torch.empty(2, 2**18)  # 2 MiB, gone again
        kept = torch.empty(2**18)
        return kept, torch.empty(2**19)

    assert benchmark.peak_mib(work) == 3


# -- losses ----------------------------------------------------------------


def test_losses(call):
    status, out, err, found = call('losses', '--size', *TINY, '--threads', 1)
    assert status == 0 and err == ''
    assert list(found['rows']) == [
        'naive', 'AffinityLoss, far', 'AffinityLoss, near', 'AdaptationLoss',
        'MSE'
    ]
    assert found['rows']['naive']['time / naive'] == 1
    assert found['rows']['MSE']['time / MSE'] == 1
    for name, row in found['rows'].items():
        assert f'| {name} ' in out
        assert row['min ms'] <= row['median ms'] <= row['max ms']
        assert row['peak MiB'] > 0
    assert found['machine']['threads'] == 1
    assert f'torch {torch.__version__}' in out.splitlines()[-1]


def test_naive_is_left_out_where_it_does_not_fit(call, monkeypatch):
    monkeypatch.setattr(benchmark, 'MOST', 2 * (4 * 6)**2 - 1)
    status, out, _, found = call('losses', '--size', *TINY)
    assert status == 0 and 'would not fit' in out
    assert 'naive' not in found['rows']
    assert found['rows']['MSE']['peak / naive'] is None


def test_naive_is_the_same_loss():
    torch.manual_seed(0)
    student, teacher = torch.randn(2, *TINY)
    torch.testing.assert_close(benchmark.naive_affinity(student, teacher),
                               AffinityLoss()(student, teacher))


@pytest.mark.parametrize('size', [TINY, (1, 64, 16, 32)])
def test_only_near_is_found_in_float64(size, monkeypatch):
    seen = []

    def spy(grams):
        seen.append(nearly_equal(grams))
        return seen[-1]

    nearly_equal = affinity.nearly_equal
    monkeypatch.setattr(affinity, 'nearly_equal', spy)
    works = benchmark.loss_works(size)
    for name, near in [('AffinityLoss, far', False),
                       ('AffinityLoss, near', True)]:
        works[name]()
        assert seen == size[0] * [near]
        seen.clear()


# -- the step --------------------------------------------------------------


def test_step_without_data_and_translator(call, config):
    status, out, err, found = call(*step(config))
    assert status == 0 and err == ''
    assert found['title'].endswith('random weights: translator')
    assert found['title'] in out
    assert list(found['rows']) == [
        'floor', 'student', 'teacher', 'together', 'ka', 'ka.translator',
        'ka.adapter_feature', 'ka.adaptation', 'ka.adapter_affinity',
        'ka.affinity'
    ]
    assert found['rows']['floor']['time / floor'] == 1


def test_step_without_any_checkpoint(call, config):
    status, out, _, _ = call(*step(config), '--cfg-options',
                             'custom_hooks.0.checkpoint=none.pth',
                             'stages.0.custom_hooks.0.checkpoint=none.pth')
    assert status == 0 and 'random weights: teacher, translator' in out


def test_step_after_training(call, ka_config, tmp_path, teacher_checkpoint):
    ka_config.train_cfg.max_iters = 1
    ka_config.dump(str(tmp_path / 'ka.py'))
    run_stages(Config.fromfile(str(tmp_path / 'ka.py')), str(tmp_path / 'run'))
    status, out, _, _ = call(*step('ka.py'), '--work-dir', 'run',
                             '--checkpoint', teacher_checkpoint)
    assert status == 0 and 'random weights' not in out


@pytest.fixture
def built(ka_config, tmp_path):
    runner, _ = benchmark.build_runner(ka_config, None, 'none', str(tmp_path))
    return runner, benchmark.step_works(runner, (2, *SIZE))


def test_a_step_is_complete_but_for_the_rate(built):
    """Each weight gets its gradient, and none moves."""
    runner, works = built
    model, learning = runner.model, set()
    for name, weight in model.named_parameters():
        if weight.requires_grad:
            weight.register_hook(lambda _, name=name: learning.add(name))
    before = {k: w.clone() for k, w in model.named_parameters()}
    works['together']()
    assert learning == {
        k
        for k in before if not k.startswith('distill.ka.translator')
    }
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name])
        assert weight.grad is None


def test_alone_means_alone(built):
    """The student alone runs no teacher, the teacher no student."""
    runner, works = built
    ran = []
    teacher = next(h for h in runner.hooks if hasattr(h, 'network')).network
    for name, network in [('student', runner.model), ('teacher', teacher)]:
        network.backbone.register_forward_hook(
            lambda *_, name=name: ran.append(name))
    last = teacher.decode_head.conv_seg
    last.register_forward_hook(lambda *_: ran.append('past the taps'))
    for name, expected in [('student', []), ('teacher', ['teacher']),
                           ('together', ['teacher', 'student']), ('ka', [])]:
        works[name]()
        assert ran == expected, name
        ran.clear()


def test_mistakes_are_one_line(call, config, ka_config, tmp_path):
    ka_config.custom_hooks = ka_config.pop('stages')[:0]
    ka_config.dump(str(tmp_path / 'plain.py'))
    for arguments, words in [
        (step('none.py'), 'does not exist'),
        (step('plain.py'), 'no TeacherHook'),
        ((*step(config), '--checkpoint', 'none.pth'), 'none.pth does not'),
        (('step', config, '--size', 8, 8, '--batch', 1), 'larger'),
    ]:
        status, _, err, _ = call(*arguments)
        assert status == 2 and words in err and len(err.splitlines()) == 1
    status, _, err, _ = call('losses', '--size', 2, 8, 4, 0)
    assert status == 2 and 'argument --size' in err
