"""Breaks a copy of the code, break by break, and sees whether tests notice.

    python tests/mutations/run.py [--only PATTERN] [--jobs N]

This process imports the libraries and nothing of ours. For each break it
forks a child, which imports our code from a copy of the tree and runs the
tests that the break names. The working tree is never written to.
"""
import argparse
import ast
import gc
import importlib
import os
import re
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from breaks import ROOT, Break, read

PARTS = 'seg_kd', 'tests', 'configs', 'tools', 'benchmarks', 'docs'
OURS = {'seg_kd', *(p.stem for p in (ROOT / 'tests').rglob('*.py'))}
LONGEST = 300.  # seconds; what hangs is noticed too
BAR = .95  # of the breaks must be noticed
NOTICED, PASSED = 1, 0  # exit statuses of pytest


@dataclass
class Run:
    """A child at work on a break, in a tree of its own."""
    process: int
    tree: Path
    log: Path
    begun: float
    what: Break | None = None


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0 if enough was noticed, and nothing was in the way."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--only',
                        default='',
                        help='breaks whose line has this pattern')
    parser.add_argument('--jobs', type=int, default=1, help='at a time')
    options = parser.parse_args(arguments)
    breaks = [
        one for one in read() if re.search(options.only, f'{one.place} {one}')
    ]
    if not breaks:
        parser.error(f'no break has {options.only!r} in its line')
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        trees = [copied(Path(folder) / str(k)) for k in range(options.jobs)]
        import_libraries()
        tests = sorted({test for one in breaks for test in one.tests})
        print(f'{len(breaks)} breaks; first the tests as they are', flush=True)
        for tree in trees:  # each gets its compiled files
            status = waited(start(tree, tests, []))
            if status != PASSED:
                print(f'They fail without a break:\n{tail(tree)}')
                return 1
        survived, failed = all_of(breaks, trees)
    caught = len(breaks) - len(survived) - len(failed)
    print(f'{len(breaks)} breaks in {time.monotonic() - begun:.0f} s: '
          f'{caught} were noticed, {len(survived)} were not, {len(failed)} '
          'could not be tried')
    for one in (*survived, *failed):
        print(f'  {one.place} {one}')
    return int(bool(failed) or caught < BAR * len(breaks))


def all_of(breaks: Sequence[Break],
           trees: Sequence[Path]) -> tuple[list[Break], list[Break]]:
    """Tries all of them; which nobody noticed, and which did not run."""
    waiting, free, running = list(breaks), list(trees), []
    survived: list[Break] = []
    failed: list[Break] = []
    while waiting or running:
        while waiting and free:
            one, tree = waiting.pop(0), free.pop()
            try:
                text = one.broken(ROOT)
            except ValueError as error:
                print(error, flush=True)
                failed.append(one)
                free.append(tree)
                continue
            put(tree / one.file, text)
            run = start(tree, one.tests, ['-x'])
            run.what = one
            running.append(run)
        for run in list(running):
            status = ended(run)
            if status is None:
                continue
            running.remove(run)
            free.append(run.tree)
            one = run.what
            shutil.copy2(ROOT / one.file, run.tree / one.file)
            said, where = verdict(status), ''
            if status == PASSED:
                survived.append(one)
            elif said.startswith('could not'):
                failed.append(one)
                where = f'\n{tail(run.tree)}'
            elif found := re.search(r'^(?:FAILED|ERROR) (\S+)',
                                    run.log.read_text(), re.MULTILINE):
                where = f' by {found[1].rpartition("/")[2]}'
            done = len(breaks) - len(waiting) - len(running)
            print(
                f'[{done}/{len(breaks)}] {one}: {said}{where} '
                f'({time.monotonic() - run.begun:.1f} s)',
                flush=True)
        time.sleep(.01)
    return survived, failed


def verdict(status: int) -> str:
    """What an exit status says; a child that was killed has hung."""
    if status == PASSED:
        return 'NOT NOTICED'
    if status in (NOTICED, -signal.SIGKILL):
        return 'noticed' if status == NOTICED else 'noticed, it hangs'
    return f'could not be tried, pytest ended with {status}'


# -- children --------------------------------------------------------------


def start(tree: Path, tests: Sequence[str], options: Sequence[str]) -> Run:
    """Runs tests of a tree in a child."""
    log = tree.with_suffix('.log')
    sys.stdout.flush()
    child = os.fork()
    if child:
        return Run(child, tree, log, time.monotonic())
    status = 99
    try:
        os.setpgrp()
        handle = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(handle, stream)
        gc.freeze()
        os.chdir(tree)
        sys.path[:0] = [str(tree), str(tree / 'tests')]
        os.environ['PYTHONPATH'] = str(tree)
        if '-x' in options:  # compiled files would outlive the break
            sys.dont_write_bytecode = True
            os.environ['PYTHONDONTWRITEBYTECODE'] = '1'
        pytest = importlib.import_module('pytest')
        status = pytest.main([
            *options, '-q', '-n0', '--no-header', '--tb=short',
            '-pno:cacheprovider', f'--basetemp={tree.with_suffix(".tmp")}',
            *tests
        ])
    finally:
        sys.stdout.flush()
        os._exit(status)


def ended(run: Run) -> int | None:
    """Its exit status, or None while it runs; what hangs is killed."""
    late = run.what and time.monotonic() - run.begun > LONGEST
    if late:
        os.killpg(run.process, signal.SIGKILL)
    done, status = os.waitpid(run.process, 0 if late else os.WNOHANG)
    return os.waitstatus_to_exitcode(status) if done else None


def waited(run: Run) -> int:
    while (status := ended(run)) is None:
        time.sleep(.05)
    return status


def tail(tree: Path) -> str:
    text = tree.with_suffix('.log').read_text(errors='replace')
    return '\n'.join(text.splitlines()[-25:])


# -- what a child finds ----------------------------------------------------


def copied(tree: Path) -> Path:
    """A copy of what tests need of the repository."""
    tree.mkdir()
    litter = shutil.ignore_patterns('__pycache__', 'work_dirs')
    for name in PARTS:
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=litter)
    for path in ROOT.iterdir():
        if path.is_file() and path.name != '.git':
            shutil.copy2(path, tree)
    return tree


def put(path: Path, text: str) -> None:
    """Writes a file that no compiled one is taken for.

    Those are known by time and size, and the time is in seconds.
    """
    before = path.stat().st_mtime
    path.write_text(text, encoding='utf-8')
    os.utime(path, (before + 10, before + 10))


def import_libraries() -> None:
    """All that our code and tests import at the top of a file, but ours."""
    torch.set_num_threads(1)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        for name in sorted(set(libraries())):
            try:
                importlib.import_module(name)
            except ImportError:  # an extra, or another system's
                pass


def libraries() -> Iterator[str]:
    for folder in ('seg_kd', 'tests'):
        for path in (ROOT / folder).rglob('*.py'):
            for node in ast.parse(path.read_text(encoding='utf-8')).body:
                names = []
                if isinstance(node, ast.Import):
                    names = [alias.name for alias in node.names]
                elif isinstance(node, ast.ImportFrom) and node.module:
                    names = [node.module]
                yield from (n for n in names if n.split('.')[0] not in OURS)


if __name__ == '__main__':
    sys.exit(main())
