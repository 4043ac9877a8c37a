"""FitNets' two stages, as the shipped config has them."""
from pathlib import Path

import torch
from conftest import forget_instances
from mmengine.config import Config

from seg_kd.engine.stages import run_stages

ROOT = Path(__file__).parents[2]
TAPS = dict(student='backbone[0]', teacher='backbone[2]')
ABOVE = ('backbone.layer6', 'backbone.layer7', 'decode_head')


def weights(path: Path) -> dict:
    state = torch.load(path, weights_only=False)['state_dict']
    return {
        k: v
        for k, v in state.items()
        if 'running' not in k and 'num_batches' not in k
    }


def test_two_stages(plain_config, teacher_hook, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    forget_instances()
    stages = Config.fromfile('configs/fitnet_deeplab.py').stages
    stages.features.train_cfg.max_iters = 1.
    stages.task.optim_wrapper = dict(optimizer=dict(lr=0.))
    plain_config.model.backbone.out_indices = (4, 6)  # the config's own hint
    plain_config.optim_wrapper.optimizer.weight_decay = 1e-2
    plain_config.custom_hooks = [teacher_hook, dict(type='FitNetHook', **TAPS)]
    plain_config.stages = stages
    run_stages(plain_config, str(tmp_path / 'work'))

    early, hint, last = (weights(tmp_path / 'work' / path)
                         for path in ('features/iter_3.pth',
                                      'features/iter_6.pth',
                                      'task/iter_6.pth'))
    still = {k for k, v in hint.items() if torch.equal(v, early[k])}
    assert still == {k for k in hint if k.startswith(ABOVE)}
    assert 'distill.fitnet.regressor.0.weight' in hint
    assert all(torch.equal(v, hint[k]) for k, v in last.items())
    assert not any(k.startswith('distill') for k in last)
