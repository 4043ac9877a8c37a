"""Options that make the teacher faster: what it teaches stays the same."""
from contextlib import nullcontext

import pytest
import torch
from conftest import TAPS, build_runner, teacher
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from seg_kd.errors import UserError
from seg_kd.hooks import TeacherHook
from seg_kd.teacher.precision import CastWeights
from seg_kd.teacher.side_stream import SideStream
from seg_kd.teacher.teacher import Step

FITNET = dict(type='FitNetHook', **TAPS)


@pytest.fixture
def config(plain_config, teacher_hook):
    plain_config.custom_hooks = [teacher_hook, FITNET]
    plain_config.train_cfg.max_iters = 2
    plain_config.default_hooks.pop('checkpoint')
    plain_config.val_cfg = None
    plain_config.val_dataloader = plain_config.val_evaluator = None
    return plain_config


def trained(config, **options):
    """A runner after training, and the teacher's maps of each iteration."""
    config.custom_hooks[0].update(options)
    runner, seen = build_runner(config), []
    runner.model.distill.fitnet.register_forward_pre_hook(
        lambda module, args: seen.append((runner.distiller.steps[
            'teacher'].maps[TAPS['teacher']].clone(), args[1].clone())))
    runner.train()
    return runner, seen


def teacher_of(runner):
    return runner.distiller.teachers['teacher']


def norms(runner):
    network = teacher_of(runner).network
    return [m for m in network.modules() if isinstance(m, _BatchNorm)]


@pytest.mark.parametrize('options, message', [
    (dict(teacher_mode='train'), "'eval' or 'bn_train'"),
    (dict(precise='half'), 'no precise=; did you mean precision'),
    (dict(precision='half'), "'bfloat16', 'float16'.*, not 'half'"),
    (dict(compile='inductor'), "True, False or a dict .*, not 'inductor'"),
    (dict(compile=dict(mode='reduce-overhead'),
          own_stream=True), 'leave out own_stream'),
])
def test_mistakes(options, message):
    with pytest.raises(UserError, match=message):
        TeacherHook(teacher(), 'x', **options)


def test_no_float16_on_a_cpu(config):
    config.custom_hooks[0].precision = 'float16'
    with pytest.raises(UserError, match="precision='bfloat16'"):
        build_runner(config)


def test_folded_by_default_and_the_same(config):
    plain, maps = trained(config, fold_bn=False)
    folded, same_maps = trained(config, fold_bn=True)
    assert len(maps) == 2 and norms(plain) and not norms(folded)
    for (expected, _), (seen, _) in zip(maps, same_maps):
        assert (seen - expected).abs().max() <= 1e-5 * expected.abs().max()
    config.custom_hooks[0].pop('fold_bn')
    assert not norms(build_runner(config))
    config.custom_hooks[0].teacher_mode = 'bn_train'
    assert len(norms(build_runner(config))) == len(norms(plain))


@pytest.mark.parametrize('student', ['OptimWrapper', 'BFloat16OptimWrapper'])
@pytest.mark.parametrize('precision', [None, 'float32', 'bfloat16'])
def test_precision_is_its_own(config, student, precision):
    config.optim_wrapper.type = student
    _, seen = trained(config, precision=precision)
    expected = precision or ('float32'
                             if student == 'OptimWrapper' else 'bfloat16')
    assert len(seen) == 2
    for kept, given in seen:
        assert kept.dtype == getattr(torch, expected)
        assert given.dtype == torch.float32


def test_compiled_is_the_same(config, capfd):
    torch._dynamo.reset()
    plain, _ = trained(config)
    compiled, _ = trained(config, compile=dict(backend='eager'))
    assert 'compiled are backbone, ' in ''.join(capfd.readouterr())
    want, got = plain.model.state_dict(), compiled.model.state_dict()
    for key, value in want.items():
        assert torch.equal(got[key], value), key
    torch._dynamo.reset()


def test_no_gradients_of_a_compiled_teacher(config):
    config.custom_hooks = [
        dict(config.custom_hooks[0], compile=True),
        dict(type='ATHook', mode='gradient', **TAPS)
    ]
    with pytest.raises(UserError, match='compile= do not go together'):
        build_runner(config)


@pytest.mark.parametrize('student', [True, False])
@pytest.mark.parametrize('own', [None, True, False])
def test_memory_format_is_its_own(config, student, own):
    config.channels_last = student
    config.custom_hooks[0].channels_last = own
    runner = build_runner(config)
    network = teacher_of(runner).network
    for model, expected in ((runner.model, student),
                            (network, student if own is None else own)):
        weight = next(m.weight for m in model.backbone.modules()
                      if isinstance(m, nn.Conv2d) and m.kernel_size == (
                          3, 3) and m.weight.shape[1] > 1)
        assert weight.is_contiguous(
            memory_format=torch.channels_last) == expected


def test_weights_are_cast_once(config, monkeypatch):
    """Bit for bit as autocast does it, and the network stays as it is."""
    config.optim_wrapper.type = 'BFloat16OptimWrapper'
    config.custom_hooks.append(dict(type='ATHook', mode='gradient', **TAPS))
    once, maps = trained(config)
    source = teacher_of(once)
    copies = [copy for _, copy in source.cast._copies.values()]
    layers = [
        m for m in source.network.modules()
        if isinstance(m, (nn.Conv2d, nn.Linear))
    ]
    assert 0 < len(copies) <= 2 * len(layers)
    assert {copy.dtype for copy in copies} == {torch.bfloat16}
    assert {p.dtype for p in source.network.parameters()} == {torch.float32}
    monkeypatch.setattr('seg_kd.teacher.teacher.CastWeights',
                        lambda network: lambda device: nullcontext())
    each_step, same_maps = trained(config)
    for (expected, _), (seen, _) in zip(maps, same_maps, strict=True):
        assert torch.equal(expected, seen)
    want, got = each_step.model.state_dict(), once.model.state_dict()
    assert all(torch.equal(got[key], value) for key, value in want.items())


def test_new_weights_are_cast_anew():
    layer = nn.Conv2d(1, 1, 1, bias=False).requires_grad_(False)
    cast, image = CastWeights(layer), torch.ones(1, 1, 1, 1)
    kept = layer.weight
    for value in (2., 3.):
        layer.weight.fill_(value)
        with torch.autocast('cpu', torch.bfloat16), cast(image.device):
            first = layer.weight
            assert layer(image).item() == value
        with torch.autocast('cpu', torch.bfloat16), cast(image.device):
            assert layer.weight is first  # not cast again
        with cast(image.device):  # no autocast
            assert layer.weight is kept
    assert layer.weight is kept


class FakeStream:
    """Notes who waits for whom, and what is running."""

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def wait_stream(self, other):
        self.notes.append(f'{self.name} waits for {other.name}')

    def __enter__(self):
        self.notes.append(f'{self.name} begins')

    def __exit__(self, *error):
        self.notes.append(f'{self.name} ends')


class FakeTensor:

    def __init__(self, name, notes):
        self.name, self.notes = name, notes

    def record_stream(self, stream):
        self.notes.append(f'{self.name} is used by {stream.name}')


@pytest.fixture
def notes(monkeypatch):
    """Of a GPU that is not there."""
    found = []
    current = FakeStream('main', found)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'Stream',
                        lambda: FakeStream('side', found))
    monkeypatch.setattr(torch.cuda, 'current_stream', lambda: current)
    monkeypatch.setattr(torch.cuda, 'stream', lambda stream: stream)
    return found


def test_who_waits_for_whom(notes):
    side = SideStream(alone=0)
    images, maps = FakeTensor('images', notes), FakeTensor('map', notes)
    for _ in range(2):
        with side.behind([images]):
            notes.append('teacher')
        notes.append('student')
        side.join([maps])
        side.join([maps])  # the second term
    assert notes == [
        'side waits for main', 'images is used by side', 'side begins',
        'teacher', 'side ends', 'student', 'main waits for side',
        'map is used by main'
    ] * 2


def test_nothing_runs_beside_it_at_first(notes):
    """cuDNN times algorithms in the first iterations."""
    side, seen = SideStream(alone=2), []
    for _ in range(3):
        notes.clear()
        with side.behind([]):
            pass
        notes.append('student')
        side.join([FakeTensor('map', notes)])
        seen.append(notes[3:-1])
    at_once = ['main waits for side', 'student', 'main waits for side']
    assert seen == [at_once, at_once, ['student', 'main waits for side']]


def test_no_stream_unless_it_is_wanted(config):
    assert teacher_of(build_runner(config)).side_stream is None


class Ahead:
    """A stream that is never there, as far as others can tell."""

    def __init__(self, notes):
        self.notes = notes

    behind = nullcontext

    def join(self, maps):
        self.notes.append(len(list(maps)))


def test_terms_wait_for_the_teacher(config):
    """The student has run by the time that the first term reads a map."""
    notes, hooks = [], [FITNET, dict(FITNET, name='second')]
    config.custom_hooks = [config.custom_hooks[0], *hooks]
    config.train_cfg.max_iters = 1
    runner = build_runner(config)
    source = teacher_of(runner)
    source.network.backbone.register_forward_hook(
        lambda *_: notes.append('teacher'))
    runner.model.backbone.register_forward_hook(
        lambda *_: notes.append('student'))
    source.side_stream = Ahead(notes)
    runner.train()
    assert notes == ['teacher', 'student', 1, 1]


def test_gradients_wait_for_the_teacher_too():
    step = Step(side_stream=Ahead(notes := []))
    step._maps = dict(a=torch.zeros(1))
    step._gradients = {('b', 'a'): torch.zeros(1)}
    assert step.gradients and notes == [2]
