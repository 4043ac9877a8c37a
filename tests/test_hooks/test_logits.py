"""Hooks on logits: where they tap, how the terms are called."""
import pytest
from conftest import build_runner

HOOKS = {
    'kd': dict(type='KDHook', weight=1., temperature=4.),
    'dist': dict(type='DISTHook', beta=2.),
    'logit_std': dict(type='LogitStdHook', grid='mask'),
    'other': dict(type='LogitStdHook', name='other')
}


@pytest.mark.parametrize('name', HOOKS)
def test_logits_by_default(plain_config, teacher_hook, name):
    plain_config.train_cfg.max_iters = 1
    plain_config.custom_hooks = [teacher_hook, HOOKS[name]]
    runner = build_runner(plain_config)
    runner.train()
    logged = runner.message_hub.log_scalars[f'train/loss_{name}']
    assert logged.data[0][0] > 0
    for key, value in HOOKS[name].items():
        if key not in ('type', 'name', 'weight'):
            assert getattr(runner.model.distill[name], key) == value
