"""Processes of their own, without the many seconds that imports take.

Each is a fork of one process that has imported everything and done nothing.
"""
import faulthandler
import multiprocessing
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing import connection
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from seg_kd import cli

FOLDER = Path(__file__).parent
multiprocessing.set_forkserver_preload(['seg_kd.register', 'pytest'])


def printed_by(script: str, seconds: int) -> str:
    """What a script beside this file prints, from a Python of its own."""
    done = subprocess.run([sys.executable, FOLDER / script],
                          capture_output=True,
                          text=True,
                          timeout=seconds,
                          env={
                              **os.environ, 'PYTHONPATH': str(FOLDER.parent)
                          })
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout


def together(target: Callable[..., Any], *calls: tuple) -> None:
    """Calls ``target`` with the arguments of each call, at the same time.

    A process each. Where one fails the others are ended.
    """
    fork = multiprocessing.get_context('forkserver')
    each = [fork.Process(target=limited, args=(target, *c)) for c in calls]
    for process in each:
        process.start()
    while not any(process.exitcode for process in each) and (left := [
            process.sentinel for process in each if process.is_alive()
    ]):
        connection.wait(left)
    failed = [process.exitcode for process in each if process.exitcode]
    for process in each:
        process.terminate()
        process.join()
    assert not failed, failed


def limited(target: Callable[..., Any], *arguments: Any) -> None:
    """Calls it; where it hangs, it says where, and fails."""
    faulthandler.dump_traceback_later(300, exit=True, file=sys.__stderr__)
    target(*arguments)


def command(folder: Path, log: str, environment: dict[str, str],
            arguments: list[str]) -> None:
    """``seg-kd`` in a folder; what it says is added to a file there."""
    os.chdir(folder)
    with open(log, 'a') as file:
        for stream in (1, 2):
            os.dup2(file.fileno(), stream)
    os.environ.update(environment)
    torch.set_num_threads(1)
    sys.path[:] = filter(None, sys.path)  # a console command has no ''
    sys.exit(cli.main(arguments))


def run_command(folder: Path, *arguments: str) -> str:
    """What ``seg-kd`` prints in a folder, in a process of its own."""
    log = folder / 'printed.log'
    log.unlink(missing_ok=True)
    try:
        together(command, (folder, log.name, {}, list(arguments)))
    except AssertionError as error:
        raise AssertionError(log.read_text()[-3000:]) from error
    return log.read_text()


def run_on_two_ranks(config: Config, saver: str, folder: Path) -> None:
    """Trains ``config`` as a launcher's two processes do, in ``folder``.

    ``saver`` is the source of a module with further hooks.
    """
    arguments = ['train', *written(config, saver, folder)]
    with socket.socket() as free:
        free.bind(('localhost', 0))
        port = str(free.getsockname()[1])
    ranks = [
        dict(RANK=rank,
             LOCAL_RANK=rank,
             WORLD_SIZE='2',
             MASTER_ADDR='localhost',
             MASTER_PORT=port) for rank in '01'
    ]
    logs = ['rank0.log', 'rank1.log']
    try:
        together(
            command,
            *((folder, log, rank, arguments)
              for log, rank in zip(logs, ranks)))
    except AssertionError as error:
        said = [(folder / log).read_text()[-3000:] for log in logs]
        raise AssertionError('\n'.join(said)) from error


def run_torchrun(config: Config, saver: str, folder: Path) -> None:
    """The same by torchrun itself, and ``tools/train.py``."""
    root = FOLDER.parent
    done = subprocess.run(
        [
            sys.executable, '-m', 'torch.distributed.run', '--standalone',
            '--nproc_per_node=2',
            str(root / 'tools/train.py'), *written(config, saver, folder)
        ],
        cwd=folder,
        env={
            **os.environ, 'PYTHONPATH':
            os.pathsep.join([str(folder), str(root)]),
            'OMP_NUM_THREADS': '1'
        },
        capture_output=True,
        text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def written(config: Config, saver: str, folder: Path) -> list[str]:
    """What to train, in files: the arguments that say so."""
    config.custom_imports = dict(imports=['rank_saver'],
                                 allow_failed_imports=False)
    config.pop('work_dir', None)  # then it is work_dirs/two_ranks
    config.dump(str(folder / 'two_ranks.py'))
    (folder / 'rank_saver.py').write_text(saver)
    return ['two_ranks.py', '--launcher', 'pytorch']
