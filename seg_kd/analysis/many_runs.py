"""Many runs of a comparison, several at a time, one thread each.

A run is known by its method, fold and seed. What has finished is not run
again, what was cut off goes on: :func:`~seg_kd.engine.stages.run_stages` sees
to that in the folder of each run.
"""
import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from typing import Any, NamedTuple

import torch

import seg_kd.register  # noqa: F401, a new process has registered nothing
from seg_kd.analysis.comparison import Comparison
from seg_kd.errors import UserError

SAY_EVERY = 30.  # seconds
TO_SAVE = 60.  # seconds, for what has lost its parent
KILLED = UserError(
    'a process was killed (out of memory?), and with it what ran '
    'beside it; the same command goes on')
STOPPED = UserError('it was stopped; the same command goes on')
NO_TEACHER = UserError('its teacher, the student alone, did not end')


class Run(NamedTuple):
    """One training of a comparison."""
    method: str
    fold: str | None
    seed: int

    def __str__(self) -> str:
        return ', '.join(
            filter(None, (self.method, self.fold, f'seed {self.seed}')))


Outcome = dict[str, Any] | Exception


def train_all(comparison: Comparison,
              runs: Sequence[Run],
              jobs: int = 1,
              minutes: float | None = None) -> Iterator[tuple[Run, Outcome]]:
    """Trains them and yields each as it ends, with what it came to.

    Args:
        comparison: What is the same for all.
        runs: In this order.
        jobs: How many at a time; from 2 on each is a process with one thread,
            and its output goes to ``<run>.log`` next to its folder.
        minutes: No run is started when they are over.

    Yields:
        A run, and its entry for a ledger or the exception that ended it.
    """
    end = time.monotonic() + 60 * (minutes or float('inf'))
    trained: set[tuple] = set()

    def ready(run: Run) -> bool:
        return comparison.learns_from(run) in (None, *trained)

    if jobs == 1:
        for run in runs:
            if time.monotonic() > end:
                return
            print(f'\n== {run} ==', flush=True)
            if not ready(run):
                yield run, NO_TEACHER
                continue
            try:
                yield run, comparison.train(*run)
                trained.add(run)
            except Exception as error:  # of one run: the others go on
                if not isinstance(error, UserError):
                    traceback.print_exc()
                yield run, error
        return
    os.environ['OMP_NUM_THREADS'] = os.environ['MKL_NUM_THREADS'] = '1'
    # One process imports everything, the others are forks of it; but a fork
    # cannot use a GPU that was looked for before, as imports do.
    gpu = torch.backends.cuda.is_built()
    multiprocessing.set_forkserver_preload([__name__])
    start = multiprocessing.get_context('spawn' if gpu else 'forkserver')
    new_pool = partial(ProcessPoolExecutor, jobs, start, end_with_parent)
    waiting, working, ended = list(runs), {}, 0
    started = time.monotonic()
    with contextlib.ExitStack() as pools:
        pool = pools.enter_context(new_pool())
        while working or (any(map(ready, waiting)) and time.monotonic() < end):
            while len(working) < jobs and time.monotonic() < end:
                run = next(filter(ready, waiting), None)
                if run is None:
                    break
                waiting.remove(run)
                working[pool.submit(train_apart, comparison, run)] = run
            done, _ = wait(working, SAY_EVERY, FIRST_COMPLETED)
            if any(isinstance(f.exception(), BrokenProcessPool) for f in done):
                done, _ = wait(working)  # all of them: the pool is lost
                pool = pools.enter_context(new_pool())
            for future in done:
                run, ended = working.pop(future), ended + 1
                outcome = future.exception() or future.result()
                if isinstance(outcome, dict):
                    trained.add(run)
                elif isinstance(outcome, BrokenProcessPool):
                    outcome = KILLED
                elif not isinstance(outcome, Exception):
                    outcome = STOPPED  # SystemExit, upon SIGTERM
                yield run, outcome
            if not done:
                shares = [comparison.share(run) for run in working.values()]
                print(progress(len(runs), ended, list(working.values()),
                               shares,
                               time.monotonic() - started),
                      flush=True)
    for run in waiting if time.monotonic() < end else ():
        yield run, NO_TEACHER


def end_with_parent() -> None:
    """For a process of the pool: it ends when the one that made it is killed.

    What it trains saves first, as upon SIGTERM.
    """

    def watch() -> None:
        multiprocessing.parent_process().join()
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(TO_SAVE)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def train_apart(comparison: Comparison, run: Run) -> dict[str, Any]:
    """One run of :func:`train_all`, in its own process and log."""
    torch.set_num_threads(1)
    path = f'{comparison.work_dir(*run)}.log'
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'a', encoding='utf-8', buffering=1) as log:
        with contextlib.redirect_stdout(log), contextlib.redirect_stderr(log):
            try:
                return comparison.train(*run)
            except UserError as error:
                raise UserError(f'{error} (see {path})') from None
            finally:
                sys.stdout.flush()


def progress(count: int, ended: int, working: Sequence[Run],
             shares: Sequence[float], seconds: float) -> str:
    """One line: how far all are, which run now, and how long it will take.

    Args:
        count: How many there are.
        ended: How many have ended.
        working: Those that run now.
        shares: How far each of those is, from 0 to 1.
        seconds: Since the start.
    """
    done = ended + sum(shares)
    left = 'time left unknown'
    if done > .01:
        minutes = round(seconds / done * (count - done) / 60)
        left = f'about {minutes // 60} h {minutes % 60:02} min left'
    now = '; '.join(f'{run} {100 * share:.0f} %'
                    for run, share in zip(working, shares))
    return f'{ended} of {count} runs have ended ({now}), {left}'
