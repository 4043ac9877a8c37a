"""What a run sets by its device and by how its processes were started."""
import argparse
import os

import pytest
import torch
from conftest import build_runner
from mmengine.config import Config
from torch.nn.parallel import DistributedDataParallel

from seg_kd import cli
from seg_kd.engine import DistillRunner
from seg_kd.engine.optim import use_amp
from seg_kd.errors import UserError
from seg_kd.registry import MODEL_WRAPPERS


def wrappers(cfg):
    return cfg.optim_wrapper.type, cfg.stages.first.optim_wrapper.type


@pytest.mark.parametrize('gpu, bfloat16, expected', [
    (False, False, 'BFloat16OptimWrapper'),
    (True, True, 'BFloat16OptimWrapper'),
    (True, False, 'AmpOptimWrapper'),
])
def test_mixed_precision_by_device(monkeypatch, gpu, bfloat16, expected):
    """A V100 emulates bfloat16, which counts only where it is asked for."""
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    monkeypatch.setattr(
        torch.cuda,
        'is_bf16_supported',
        lambda including_emulation=True: including_emulation or bfloat16)
    cfg = Config(
        dict(optim_wrapper=dict(type='OptimWrapper'),
             stages=dict(first=dict(optim_wrapper=dict(type='OptimWrapper')),
                         second=None)))
    use_amp(cfg)
    assert wrappers(cfg) == (expected, expected)


@pytest.mark.parametrize('launcher, name', [
    ('mpi', 'OMPI_COMM_WORLD_LOCAL_RANK'),
    ('slurm', 'SLURM_LOCALID'),
])
def test_local_rank_is_that_of_the_launcher(monkeypatch, launcher, name):
    args = argparse.Namespace(launcher=launcher, local_rank=0)
    monkeypatch.delenv(name, raising=False)
    with pytest.raises(UserError, match=f'{name} is not set; start'):
        cli.local_rank(args)
    monkeypatch.setenv(name, '3')
    assert cli.local_rank(args) == '3'
    args = argparse.Namespace(launcher='pytorch', local_rank=2)
    assert cli.local_rank(args) == '2'


class Other(torch.nn.Module):
    """A wrapper that is not DDP."""


@pytest.mark.parametrize('gpu', [False, True])
def test_wrapper_keeps_the_defaults(monkeypatch, gpu):
    monkeypatch.setenv('CUDA_VISIBLE_DEVICES', '0')  # a logger looks there
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    runner = DistillRunner.__new__(DistillRunner)
    runner.cfg = Config(dict(find_unused_parameters=True))
    device = {} if gpu else dict(device_ids=None)
    assert runner._with_defaults(dict(static_graph=True)) == dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=True,
        static_graph=True,
        **device)
    given = dict(type=DistributedDataParallel,
                 broadcast_buffers=True,
                 find_unused_parameters=False)
    assert runner._with_defaults(given) == {**given, **device}
    MODEL_WRAPPERS.register_module(module=Other, force=True)
    assert runner._with_defaults(dict(type='Other')) == dict(type='Other')


def test_a_gpu_can_be_made_deterministic(plain_config, monkeypatch):
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    monkeypatch.setattr(torch.backends.cudnn, 'benchmark', True)
    monkeypatch.setattr(torch.backends.cudnn, 'deterministic', False)
    plain_config.randomness.deterministic = True
    try:
        build_runner(plain_config)
        assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'
        assert torch.backends.cudnn.deterministic
        assert not torch.backends.cudnn.benchmark
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_no_sync_bn_on_a_cpu(monkeypatch):
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    runner = DistillRunner.__new__(DistillRunner)
    runner.cfg, runner._hooks = Config(dict(sync_bn='torch')), []
    runner._distributed = True
    with pytest.raises(UserError, match='sync_bn needs GPUs'):
        runner.wrap_model(None, torch.nn.Identity())


def test_no_static_graph_with_accumulation(plain_config):
    plain_config.optim_wrapper.accumulative_counts = 3
    runner = build_runner(plain_config)
    runner.build_optim_wrapper(plain_config.optim_wrapper)
    runner.model.static_graph = True  # as DDP says it
    with pytest.raises(UserError, match='no static graph'):
        runner.build_optim_wrapper(plain_config.optim_wrapper)
