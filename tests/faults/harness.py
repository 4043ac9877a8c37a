"""Trainings that end when they should not, and what is left of them.

A training runs in a child process, forked from one that has imported all: a
child costs a second, and a kill is a kill. In it every rename, unlink and
write of a file of the run is counted, and so is every iteration, of training
and of validation, and every map that the teacher's cache stores. A
:class:`Kill` sends a signal at one of these events, before or after it, or
when so many seconds have passed.
"""
import builtins
import gc
import json
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.figure  # noqa: F401
import mmengine.runner.loops as loops
import torch
import torch._dynamo  # noqa: F401, this and the above once for all children
from conftest import forget_instances
from mmengine.config import Config
from mmengine.fileio import LocalBackend

from seg_kd import cli
from seg_kd.analysis.logs import read_scalars
from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.stages import run_stages
from seg_kd.teacher.cache import map_store

# Numbers of the log that depend on the machine.
CLOCK = 'time', 'data_time', 'eta', 'data_share', 'memory'
ALL = -1  # the signal goes to all ranks, as that of SLURM


@dataclass
class Kill:
    """A signal at an event, or an error of the disk.

    Args:
        number: Of the event, counted from 0; or its name, for the first;
            None where it is a time that counts.
        how: The signal; an error's number, negative, such as -errno.ENOSPC.
        after: After it, or in the midst of it, rather than before.
        rank: Whose event it is, and who gets the signal; :data:`ALL`.
        seconds: From the start.
    """
    number: int | str | None = None
    how: int = signal.SIGKILL
    after: bool = False
    rank: int = 0
    seconds: float | None = None


@dataclass
class End:
    """How a process ended, and what it said.

    Args:
        status: Of its exit; negative for a signal, None where it hung.
        said: All it printed.
        seconds: Since the training began.
        orphans: Processes of its that live on, 10 s later.
    """
    status: int | None
    said: str
    seconds: float
    orphans: int = 0


class Events:
    """Counts what happens to the files of a run; kills at one of them."""

    def __init__(self, folder: str, kill: Kill | None) -> None:
        self.folder, self.kill = os.path.abspath(folder), kill
        self.seen: list[str] = []
        self.process = os.getpid()

    def _happens(self,
                 what: str,
                 work: Callable,
                 half: Callable = lambda: None) -> Any:
        if os.getpid() != self.process:  # a loader worker
            return work()
        number = len(self.seen)
        self.seen.append(what)
        due = self.kill is not None and self.kill.number in (number, what)
        if due and isinstance(self.kill.number, str):
            self.kill.number = number
        if due and (self.kill.how < 0 or not self.kill.after):
            self._strike()
        if due and self.kill.how == signal.SIGKILL:
            half()
        found = work()
        if due and self.kill.after:
            self._strike()
        return found

    def _strike(self) -> None:
        if self.kill.how < 0:
            raise OSError(-self.kill.how, os.strerror(-self.kill.how))
        os.kill(os.getpid(), self.kill.how)

    def _mine(self, path: Any) -> bool:
        return isinstance(
            path, (str, os.PathLike)) and os.path.abspath(path).startswith(
                self.folder)

    def tap(self) -> None:
        """From here on, in this process."""
        if self.kill is not None and self.kill.seconds is not None:
            clock = threading.Timer(self.kill.seconds, self._strike)
            clock.daemon = True
            clock.start()
        for call in ('replace', 'rename', 'remove', 'unlink', 'link'):
            self._tap(os, call, lambda p, *_: self._mine(p))
        self._tap(builtins,
                  'open',
                  lambda p, mode='r', *_: 'r' not in mode and self._mine(p))
        self._tap(loops.IterBasedTrainLoop, 'run_iter', name='train iteration')
        self._tap(loops.ValLoop, 'run_iter', name='validation iteration')
        self._tap(map_store, 'checksum', name='map stored')
        put = LocalBackend.put

        def cut_off(backend, content, path):
            """Half of a checkpoint is on the disk."""

            def half():
                put(backend, content[:len(content) // 2], path)
                os.kill(os.getpid(), signal.SIGKILL)

            self._happens(f'put {os.path.basename(path)}',
                          lambda: put(backend, content, path), half)

        LocalBackend.put = cut_off

    def _tap(self,
             owner: Any,
             call: str,
             counts: Callable = lambda *_: True,
             name: str = '') -> None:
        real = getattr(owner, call)

        def tapped(*args, **kwargs):
            if not counts(*args):
                return real(*args, **kwargs)
            file = os.path.basename(args[0]) if self._mine(args[0]) else ''
            what = name or f'{call} {file}'
            return self._happens(what, lambda: real(*args, **kwargs))

        setattr(owner, call, tapped)


def train(config: Config,
          folder: Path,
          resume: bool = False,
          kill: Kill | None = None,
          ranks: int = 1,
          before: Callable = lambda: None,
          wait: float = 300.) -> list[End]:
    """Runs a training, and waits for its end; of each rank how it ended.

    Args:
        config: Of the training.
        folder: Its work_dir. ``<folder>.events`` then lists the events.
        resume: As of the command.
        kill: What befalls it.
        ranks: Processes.
        before: Called in the child, before it trains.
        wait: Seconds; then it is killed, with status None.
    """
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    children, begun = {}, time.monotonic()
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            _child(
                config, folder, resume, kill
                if kill is not None and kill.rank in (rank, ALL) else None,
                rank, ranks, port, before)
        children[rank] = child
    ends: dict[int, End] = {}
    while len(ends) < ranks:
        late = time.monotonic() - begun > wait
        for rank in children.keys() - ends.keys():
            if late:
                os.kill(children[rank], signal.SIGKILL)
            done, status = os.waitpid(children[rank],
                                      0 if late else os.WNOHANG)
            if done:
                said = Path(f'{folder}.{rank}.log').read_text(errors='replace')
                ends[rank] = End(
                    None if late else os.waitstatus_to_exitcode(status), said,
                    time.monotonic() - begun)
        time.sleep(.02)
    until = time.monotonic() + 10
    for rank, end in ends.items():
        while (left := members(children[rank])) and time.monotonic() < until:
            time.sleep(.2)
        end.orphans = len(left)
    return [ends[rank] for rank in range(ranks)]


def members(group: int) -> list[int]:
    """The live processes of a process group."""
    found = []
    for path in Path('/proc').glob('[0-9]*/stat'):
        try:
            state, _, pgrp, *_ = path.read_text().rpartition(')')[2].split()
        except (OSError, ValueError):  # it has just ended
            continue
        if int(pgrp) == group and state not in 'ZX':
            found.append(int(path.parent.name))
    return found


def _child(config: Config, folder: Path, resume: bool, kill: Kill | None,
           rank: int, ranks: int, port: int, before: Callable) -> None:
    os.setpgrp()
    status, events = 99, Events(str(folder), kill)
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        log = os.open(f'{folder}.{rank}.log',
                      os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(log, stream)
        gc.freeze()  # nothing of the parent's is looked through again
        sys.stdout = open(1, 'w', buffering=1, closefd=False)
        sys.stderr = open(2, 'w', buffering=1, closefd=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        forget_instances()
        config = Config(config.to_dict())
        if ranks > 1:
            config.launcher = 'pytorch'
            os.environ.update(RANK=str(rank),
                              LOCAL_RANK=str(rank),
                              WORLD_SIZE=str(ranks),
                              MASTER_ADDR='127.0.0.1',
                              MASTER_PORT=str(port),
                              GLOO_SOCKET_IFNAME='lo')
        before()
        events.tap()
        status = cli.run(lambda: run_stages(config, str(folder), resume))
    except SystemExit as end:
        status = end.code
    except BaseException:
        traceback.print_exc()
    finally:
        Path(f'{folder}.{rank}.events').write_text(json.dumps(events.seen))
        sys.stdout.flush()
        os._exit(status)


def events_of(folder: Path, rank: int = 0) -> list[str]:
    """What happened in a training that came to its end."""
    return json.loads(Path(f'{folder}.{rank}.events').read_text())


# -- what is left ----------------------------------------------------------


def outcome(folder: Path) -> dict[str, Any]:
    """All of a training that must not depend on how often it was killed."""
    found: dict[str, Any] = {}
    records = sorted(folder.rglob('run.json'))
    assert records
    for record in records:
        stage = record.parent
        name = '' if stage == folder else stage.name
        assert json.loads(record.read_text())['finished']
        last = torch.load(latest_checkpoint(str(stage)), weights_only=False)
        hub = last['message_hub']['runtime_info']
        found[name] = dict(
            state=last['state_dict'],
            optimizer=last['optimizer'],
            schedulers=last.get('param_schedulers'),
            ema=last.get('ema_state_dict'),
            best=(hub.get('best_score'),
                  os.path.basename(hub.get('best_ckpt') or '')),
            students={
                path.name: torch.load(path)['state_dict']
                for path in sorted(stage.glob('student_*.pth'))
            },
            logs={
                key: value
                for key, value in read_scalars(str(stage)).items()
                if key not in CLOCK
            },
            litter=[p.name for p in stage.iterdir() if p.suffix == '.lock'])
    return found


def differences(one: Any, other: Any, path: str = '') -> list[str]:
    """Where two outcomes are not equal, bit for bit."""
    if isinstance(one, torch.Tensor):
        same = isinstance(other, torch.Tensor) and torch.equal(one, other)
        return [] if same else [path]
    if isinstance(one, dict) and isinstance(other, dict):
        keys = [k for k in one if k not in other]
        keys += [k for k in other if k not in one]
        return [f'{path}.{key} is in one only' for key in keys] + [
            line for key in one if key in other
            for line in differences(one[key], other[key], f'{path}.{key}')
        ]
    if isinstance(one, (list, tuple)) and len(one) == len(other):
        return [
            line for i, (a, b) in enumerate(zip(one, other))
            for line in differences(a, b, f'{path}[{i}]')
        ]
    return [] if one == other else [f'{path}: {one} != {other}']
