"""Loader processes by the machine, and what the config says instead."""
import os

import pytest
import torch
from conftest import build_runner

from seg_kd.datasets import with_workers, workers


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """One with so many cores, with or without a GPU, and an environment."""

    def make(count, gpu=True, quota='max 100000', **environment):
        monkeypatch.setattr(os,
                            'sched_getaffinity',
                            lambda process: range(count),
                            raising=False)
        monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
        (tmp_path / 'cpu.max').write_text(quota)
        monkeypatch.setattr(workers, 'QUOTA', tmp_path / 'cpu.max')
        for name in ('OMP_NUM_THREADS', 'LOCAL_WORLD_SIZE'):
            monkeypatch.delenv(name, raising=False)
        for name, value in environment.items():
            monkeypatch.setenv(name, value)

    return make


@pytest.mark.parametrize('given, expected', [
    (dict(count=16), 14),
    (dict(count=64), 16),
    (dict(count=64, quota='400000 100000'), 4),
    (dict(count=64, quota='50000 100000'), 1),
    (dict(count=64, LOCAL_WORLD_SIZE='8'), 7),
    (dict(count=4, LOCAL_WORLD_SIZE='8'), 1),
    (dict(count=64, SLURM_NTASKS_PER_NODE='16'), 4),
    (dict(count=64, OMP_NUM_THREADS='1'), 2),
    (dict(count=64, OMP_NUM_THREADS='6'), 6),
    (dict(count=64, gpu=False), 2),
    (dict(count=1, gpu=False), 1),
])
def test_workers_by_the_cores(machine, given, expected):
    machine(**given)
    assert workers.default_workers() == expected


def test_torchruns_one_thread_confines_nobody(machine, monkeypatch):
    monkeypatch.setattr(workers, 'is_distributed', lambda: True)
    machine(64, OMP_NUM_THREADS='1', LOCAL_WORLD_SIZE='8')
    assert workers.default_workers() == 7


def test_what_is_named_stays(machine):
    machine(16)
    made = dict(num_workers=14, persistent_workers=True, pin_memory=True)
    assert with_workers(dict(batch_size=3)) == dict(batch_size=3, **made)
    evaluation = dict(sampler=dict(shuffle=False))
    assert with_workers(evaluation)['num_workers'] == 4
    none = dict(num_workers=0, pin_memory=False)
    assert with_workers(none) == dict(none, persistent_workers=False)
    given = dict(num_workers=9, persistent_workers=False, pin_memory=False)
    assert with_workers(given) == given


def test_a_run_takes_them(plain_config, monkeypatch):
    monkeypatch.setattr(workers, 'default_workers', lambda: 1)
    plain_config.train_dataloader.pop('num_workers')
    runner = build_runner(plain_config)
    loader = runner.build_dataloader(plain_config.train_dataloader)
    assert loader.num_workers == 1 and loader.persistent_workers
    assert not loader.pin_memory  # no GPU
    loader = runner.build_dataloader(plain_config.val_dataloader)
    assert loader.num_workers == 0
