"""benchmarks/: each naive form is the same loss, and the commands run."""
import json
import sys
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import matplotlib.pyplot as plt
import pytest
import torch

import seg_kd.losses
from seg_kd import cli
from seg_kd.losses import LogitLoss, MapLoss, RelationLoss, _gram

sys.path.insert(0, str(Path(__file__).parents[1] / 'benchmarks'))
import growth  # noqa: E402
import losses  # noqa: E402
import relations  # noqa: E402
import scale  # noqa: E402

TINY = (2, 8, 4, 6)
NAIVE = [name for name, case in losses.WORKS.items() if case.naive]
PEERS = [name for name, case in losses.WORKS.items() if case.peer]


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Runs a command in ``tmp_path``: status, what it printed, its JSON."""

    def run(command, *arguments):
        argv = [*arguments, '--runs', 1, '--json', 'out.json']
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, 'argv', ['x', *map(str, argv)])
        try:
            status = cli.run(command.main)
        except SystemExit as end:  # of argparse
            status = end.code
        if status:
            return status, *capsys.readouterr(), None
        return 0, *capsys.readouterr(), json.loads(
            (tmp_path / 'out.json').read_text())

    return run


def test_every_loss_has_a_row():
    assert list(losses.WORKS) == sorted(losses.WORKS)
    measured = {
        name: type(case.ours(4))
        for name, case in losses.WORKS.items()
    }
    for name, loss in measured.items():  # named as its file
        assert loss.__module__ == f'seg_kd.losses.{name.split()[0]}'
    exported = {name for name in seg_kd.losses.__all__ if 'Loss' in name}
    bases = {loss.__name__ for loss in (LogitLoss, MapLoss, RelationLoss)}
    assert {loss.__name__ for loss in measured.values()} == exported - bases


@pytest.fixture
def on(request):
    """Value and gradient of a form of the loss, in float64."""
    torch.manual_seed(0)
    case = losses.WORKS[request.param]
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


@pytest.mark.parametrize('size', [TINY, (1, 64, 16, 32)])
def test_only_near_is_found_in_float64(size, monkeypatch):
    seen = []

    def spy(grams):
        seen.append(nearly_equal(grams))
        return seen[-1]

    nearly_equal = _gram.nearly_equal
    monkeypatch.setattr(_gram, 'nearly_equal', spy)
    for name, near in [('affinity', False), ('affinity near', True)]:
        works, _ = losses.forms(losses.WORKS[name], losses.Size(*size, 5),
                                None)
        works['ours']()
        assert seen == size[0] * [near]
        seen.clear()


def test_losses(call, monkeypatch):

    class KDLoss(torch.nn.Module):

        def __init__(self, **kwargs):
            super().__init__()

        def forward(self, student, teacher):
            return (student['x']['output'] - teacher['x']['output']).sum()

    monkeypatch.setattr(losses.peers, 'torchdistill',
                        lambda: SimpleNamespace(KDLoss=KDLoss))
    _, out, err, found = call(losses, 'kd', 'fitnet', '--size', *TINY,
                              '--chart', 'chart.png')
    rows = found['rows']
    assert list(rows) == ['fitnet', 'kd', 'kd full']  # and its variants
    assert all(f'| {name} ' in out and f': {name}\n' in err for name in rows)
    assert rows['fitnet']['trained'] == 64 and rows['kd']['trained'] == 0
    for key in ('naive', 'peer'):
        row = rows['kd']
        assert (row[f'{key} min'] / row['ours max'] <= row[f'{key} x time'] <=
                row[f'{key} max'] / row['ours min'])
        assert row[f'{key} x MiB'] == row[f'{key} MiB'] / row['ours MiB']
    assert rows['fitnet']['naive ms'] is None
    assert plt.imread('chart.png').std() > 0


def test_what_is_left_out(call, monkeypatch):

    def fail(*_):
        raise RuntimeError('CUDA out of memory')

    monkeypatch.setattr(losses, 'MOST', 2 * (4 * 6)**2 - 1)
    case = losses.WORKS['kd']
    monkeypatch.setitem(losses.WORKS, 'kd', case._replace(naive=fail))
    arguments = 'affinity', 'at', 'kd', '--size', *TINY, '--limit', 0
    notes = call(losses, *arguments)[3]['notes']
    for note in ('affinity, naive: left out, a matrix of 0 GiB would not fit',
                 'at, naive: left out, one run took 0 s',
                 'kd, naive: left out, out of memory'):
        assert any(found.startswith(note) for found in notes)
    monkeypatch.setattr(losses, 'peak_mib', fail)  # of ours, then
    with pytest.raises(RuntimeError):
        call(losses, *arguments)


def test_mistakes_are_one_line(call):
    for arguments, words in [
        (('--size', 2, 8, 4, 0), 'argument --size'),
        (('kdd', '--size', *TINY), "no loss is called 'kdd'"),
        (('reviewkd', '--size', 1, 8, 4, 4), 'take larger ones'),
    ]:
        status, _, err, _ = call(losses, *arguments)
        assert status == 2 and words in err


def test_scale(call, ka_config, tmp_path):
    ka_config.train_dataloader.dataset.data_root = 'nowhere'
    ka_config.dump(str(tmp_path / 'ka.py'))
    _, out, _, found = call(scale, 'ka.py', '--heights', 48, 64, '--batches',
                            1, 2, '--hooks', 1, 2, '--positions', 16, 32, 64,
                            '--naive', 32, '--channels', 8, '--chart',
                            'chart.png')
    rows = found['rows']
    assert list(rows)[:12] == [
        '4608 pixels', '8192 pixels', 'pixels: exponent', '1 images',
        '2 images', 'images: exponent', '1 x hooks', '2 x hooks',
        'affinity 16', 'affinity 32', 'affinity 64', 'affinity: exponent'
    ]
    assert rows['8192 pixels'] == rows['1 images'] == rows['1 x hooks']
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
    growth.add_exponents(rows, 'a')
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
