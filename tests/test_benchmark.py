"""tools/benchmark.py as a user calls it, and that it measures what it says."""
import json
import sys
from functools import partial
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch
from conftest import SIZE, run_tool
from mmengine.config import Config

import seg_kd.losses
from seg_kd import benchmark
from seg_kd.benchmark import WORKS, losses
from seg_kd.losses import affinity
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
    assert status == 0 and err == ''
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

    nearly_equal = affinity.nearly_equal
    monkeypatch.setattr(affinity, 'nearly_equal', spy)
    for name, near in [('affinity', False), ('affinity near', True)]:
        works, _ = losses.forms(WORKS[name], losses.Size(*size, 5), None)
        works['ours']()
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
    for arguments, words in [
        (('losses', '--size', 2, 8, 4, 0), 'argument --size'),
        (('losses', 'kdd', '--size', *TINY), "no loss is called 'kdd'"),
        (('losses', 'reviewkd', '--size', 1, 8, 4, 4), 'take larger ones'),
    ]:
        status, _, err, _ = call(*arguments)
        assert status == 2 and words in err
