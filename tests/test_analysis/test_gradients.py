"""The pull of a term at the student's map: linear in its weight."""
import pytest
from conftest import forget_instances
from mmengine.config import Config

from seg_kd.analysis.gradients import gradient_norms
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError


def test_a_weight_scales_its_own_gradient_alone(ka_config, tmp_path):
    work = str(tmp_path / 'ka')
    with pytest.raises(UserError, match='holds no checkpoint'):
        gradient_norms(ka_config, work)
    run_stages(ka_config, work)
    norms = []
    for weight in (50., 5.):
        forget_instances()
        cfg = Config(ka_config.to_dict())
        cfg.custom_hooks[1].adaptation_weight = weight
        norms.append(gradient_norms(cfg, work, batches=2)['backbone[1]'])
    first, second = norms
    assert set(first) == {
        'decode.loss_ce', 'loss_ka_adaptation', 'loss_ka_affinity'
    }
    assert all(value > 0 for value in first.values())
    assert first['loss_ka_adaptation'] == pytest.approx(
        10 * second['loss_ka_adaptation'], rel=1e-3)
    assert first['loss_ka_affinity'] == pytest.approx(
        second['loss_ka_affinity'], rel=1e-3)


def test_nothing_to_distil(plain_config, tmp_path):
    plain_config.train_cfg.max_iters = 1
    run_stages(plain_config, str(tmp_path / 'alone'))
    with pytest.raises(UserError, match='distils nothing'):
        gradient_norms(plain_config, str(tmp_path / 'alone'))
