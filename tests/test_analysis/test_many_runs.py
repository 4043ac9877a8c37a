"""Runs one after the other, and two at a time in processes of their own."""
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from seg_kd.analysis.many_runs import Run, progress, train_all
from seg_kd.errors import UserError


@dataclass
class Pretended:
    """A comparison whose runs end at once."""
    folder: str

    def work_dir(self, method, fold, seed):
        return os.path.join(self.folder, f'{method}_seed{seed}')

    def train(self, method, fold, seed):
        print(f'training {method}')
        if method == 'bad':
            raise UserError('no such layer')
        if method == 'worse':
            raise MemoryError
        if method == 'stopped':
            raise SystemExit(143)
        if method in ('idle', 'endless'):
            Path(self.folder, method).write_text(str(os.getpid()))
            time.sleep(600 * (method == 'endless'))
        if method == 'killed':
            os.kill(os.getpid(), signal.SIGKILL)
        import torch
        return dict(method=method,
                    fold=fold,
                    seed=seed,
                    threads=torch.get_num_threads(),
                    process=os.getpid())

    def learns_from(self, run):
        return ('kd', None, run.seed) if run.method == 'early' else None

    def share(self, run):
        return .5


RUNS = [Run('kd', None, 0), Run('bad', 'a', 1), Run('worse', None, 2)]


@pytest.fixture
def pretended(tmp_path, monkeypatch):
    for name in ('OMP_NUM_THREADS', 'MKL_NUM_THREADS'):
        monkeypatch.setenv(name, '3')
    return Pretended(str(tmp_path / 'runs'))


def test_two_at_a_time_with_a_thread_and_a_log_each(pretended, tmp_path):
    found = dict(train_all(pretended, RUNS, jobs=2))
    assert found.keys() == set(RUNS)
    good, bad, worse = (found[run] for run in RUNS)
    assert good['threads'] == 1 and good['process'] != os.getpid()
    assert isinstance(bad, UserError) and isinstance(worse, MemoryError)
    log = tmp_path / 'runs' / 'bad_seed1.log'
    assert str(bad) == f'no such layer (see {log})'
    assert log.read_text() == 'training bad\n'


def test_one_after_the_other_in_this_process(pretended, capsys):
    (run, outcome), = train_all(pretended, RUNS[:1])
    assert outcome['process'] == os.getpid()
    assert '== kd, seed 0 ==' in capsys.readouterr().out


def test_of_one_after_the_other_one_may_fail(pretended, capsys):
    bad, worse, good = train_all(pretended, [RUNS[1], RUNS[2], RUNS[0]])
    assert isinstance(bad[1], UserError) and good[1]['method'] == 'kd'
    assert isinstance(worse[1], MemoryError)  # unforeseen: with its trace
    assert capsys.readouterr().err.count('Traceback') == 1


def test_a_killed_process_ends_no_later_run(pretended):
    runs = [Run('killed', None, 0), *(Run('kd', None, k) for k in range(4))]
    found = dict(train_all(pretended, runs, jobs=2))
    assert found.keys() == set(runs)
    assert 'a process was killed' in str(found[runs[0]])
    assert found[runs[-1]]['method'] == 'kd'


def test_what_learns_from_another_run_waits_for_it(pretended):
    runs = [Run('early', None, 0), Run('kd', None, 0)]
    ended = [run.method for run, _ in train_all(pretended, runs, 2)]
    assert ended == ['kd', 'early']


@pytest.mark.parametrize('jobs', [1, 2])
def test_what_never_gets_ready_is_said(pretended, jobs):
    """Its teacher did not end in this very call: an older one may be another.
    """
    runs = [Run('kd', None, 1), Run('early', None, 0)]
    *_, (run, outcome) = train_all(pretended, runs, jobs)
    assert run == runs[1] and 'the student alone, did not end' in str(outcome)


def test_a_run_that_is_stopped_ends_no_other(pretended):
    """SIGTERM in a process of a pool comes out of it as a SystemExit."""
    runs = [Run('stopped', None, 0), Run('kd', None, 0)]
    found = dict(train_all(pretended, runs, jobs=2))
    assert str(found[runs[0]]) == 'it was stopped; the same command goes on'
    assert found[runs[1]]['method'] == 'kd'


def test_no_process_outlives_its_parent(pretended):
    """Neither one that waits for a run nor one in the middle of it."""
    methods = 'idle', 'endless'
    code = ('from test_many_runs import Pretended, Run, train_all\n'
            f'runs = [Run(name, None, 0) for name in {methods}]\n'
            f'found = train_all(Pretended({pretended.folder!r}), runs, 2)\n'
            'print(next(found), flush=True)\n'
            'input()')
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    with subprocess.Popen([sys.executable, '-c', code],
                          env={
                              **os.environ, 'PYTHONPATH': path
                          },
                          stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE,
                          text=True) as parent:
        assert 'idle' in parent.stdout.readline()
        noted = [Path(pretended.folder, name) for name in methods]
        wait_for(lambda: all(p.exists() and p.read_text() for p in noted))
        processes = [int(p.read_text()) for p in noted]
        assert all(map(runs, processes)) and len(set(processes)) == 2
        parent.kill()
    wait_for(lambda: not any(map(runs, processes)))


def runs(process):
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(.1)


@pytest.mark.parametrize('jobs', [1, 2])
def test_nothing_starts_when_the_minutes_are_over(pretended, jobs):
    runs = [*RUNS, Run('early', None, 0)]  # nor is it said to lack anything
    assert not list(train_all(pretended, runs, jobs, minutes=1e-9))


def test_progress_says_what_is_left():
    text = progress(4, 1, RUNS[:2], [.5, .5], 3600.)
    assert text == ('1 of 4 runs have ended (kd, seed 0 50 %; bad, a, seed 1 '
                    '50 %), about 1 h 00 min left')
    assert 'unknown' in progress(4, 0, RUNS[:1], [0.], 10.)
