"""A training stays as it began, however long, and leaves nothing behind.

``make soak`` runs 20,000 iterations and prints what it saw, ``make test`` runs
a few.
"""
import gc
import multiprocessing
import os
import signal
import statistics
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import watch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.visualization import Visualizer
from torch import nn

from seg_kd.engine import late
from seg_kd.engine.stages import run_stages
from seg_kd.registry import HOOKS

SOAK = int(os.environ.get('SOAK', 0))
ITERATIONS, WINDOWS = SOAK or 50, 10
MIB = 2**20


def handles() -> int:
    return len(os.listdir('/proc/self/fd'))


def memory() -> float:
    """That is resident, in MiB."""
    pages = int(Path('/proc/self/statm').read_text().split()[1])
    return pages * os.sysconf('SC_PAGE_SIZE') / MIB


def alive(kind: type) -> int:
    """Objects of a kind that somebody refers to."""
    gc.collect()
    return sum(issubclass(type(x), kind) for x in gc.get_objects())


@HOOKS.register_module()
class MeterHook(Hook):
    """What the process holds at the end of each window of iterations."""

    priority = 'VERY_LOW'
    seen: list[dict] = []

    def before_train(self, runner) -> None:
        self.seen.clear()
        self.times = []

    def before_train_iter(self, runner, **_) -> None:
        self.begun = time.process_time()

    def after_train_iter(self, runner, **_) -> None:
        self.times.append(1e3 * (time.process_time() - self.begun))
        if not self.every_n_train_iters(runner, ITERATIONS // WINDOWS):
            return
        logs = runner.message_hub.log_scalars.values()
        files = list(Path(runner.work_dir).glob('iter_*.pth'))
        self.seen.append(
            dict(iterations=runner.iter + 1,
                 ms=statistics.median(self.times),
                 memory=memory(),
                 handles=handles(),
                 threads=threading.active_count(),
                 tensors=alive(torch.Tensor),
                 log=max(len(h.data[0]) for h in logs),
                 files=len(files),
                 checkpoint=max(
                     (f.stat().st_size for f in files), default=0) / MIB))
        self.times.clear()


@pytest.fixture
def watched(ka_config) -> Config:
    """The second stage, with all that looks at a training."""
    config = watch(ka_config)
    config.pop('stages')
    config.custom_hooks[1].translator = None
    config.custom_hooks.append(dict(type='MeterHook'))
    every = ITERATIONS // (8 * WINDOWS if SOAK else WINDOWS)
    config.train_cfg.update(max_iters=ITERATIONS, val_interval=2 * every)
    config.param_scheduler[0].end = ITERATIONS
    config.default_hooks.checkpoint.interval = every
    config.default_hooks.logger.interval = every
    config.default_hooks.gradient_ratio.interval = every
    return config


def test_nothing_grows(watched, tmp_path, monkeypatch):
    if not SOAK:
        monkeypatch.setattr(late, 'KEPT', 15)
    run_stages(watched, str(tmp_path / 'run'))
    seen = MeterHook.seen
    assert len(seen) == WINDOWS
    if SOAK:
        print('\n' + ' '.join(f'{name:>10}' for name in seen[0]))
        for row in seen:
            print(' '.join(f'{value:10.5g}' for value in row.values()))
    settled = seen[3:]  # the first checkpoints and pictures are there
    for name in ('handles', 'threads', 'tensors', 'files'):
        assert len({row[name] for row in settled}) == 1, (name, seen)
    assert max(row['log'] for row in seen) < 2 * late.KEPT
    if SOAK:
        assert settled[-1]['memory'] < settled[0]['memory'] + 16
        assert settled[-1]['ms'] < 1.1 * settled[0]['ms']


def left() -> dict:
    """What a training could leave behind."""
    kinds = MMLogger, MessageHub, Visualizer
    return dict(
        handles=handles(),
        threads=threading.active_count(),
        tasks=len(os.listdir('/proc/self/task')),
        processes=multiprocessing.active_children(),
        instances=[len(kind._instance_dict) for kind in kinds],
        signals=[signal.getsignal(s) for s in (signal.SIGTERM, signal.SIGINT)],
        modules=alive(nn.Module),
        tensors=alive(torch.Tensor))


def test_a_second_training_in_one_process(ka_config, tmp_path):
    ka_config.train_dataloader.update(num_workers=1, persistent_workers=True)
    config = watch(ka_config)
    config.train_cfg.max_iters = 2
    after = []
    for name in ('first', 'second', 'third'):
        run_stages(Config(config.to_dict()), str(tmp_path / name))
        after.append(left())
    assert after[2] == after[1]
