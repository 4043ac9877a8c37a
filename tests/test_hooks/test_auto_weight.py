"""weight='auto': what is measured, when it freezes, what a resume keeps."""
import pytest
import torch
from conftest import TAPS, build_runner
from torch import nn

from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook
from seg_kd.networks.auto_weight import AutoWeight, grad_norm, total
from seg_kd.registry import HOOKS


class MeanLoss(nn.Module):
    """Pulls every activation of the student alike."""

    def forward(self, student, teacher, mask=None):
        return student.mean()


@HOOKS.register_module()
class MeanHook(DistillHook):
    loss_cls = MeanLoss


@pytest.fixture
def config(ka_config):
    ka_config.pop('stages')
    ka_config.custom_hooks[1] = dict(type='MeanHook',
                                     weight='auto',
                                     auto_ratio=.5,
                                     auto_iters=3,
                                     **TAPS)
    return ka_config


def test_it_is_the_norm_over_all_maps():
    one, other = torch.randn(2, 3, requires_grad=True), torch.zeros(
        4, requires_grad=True)
    value = 3 * one.sum() + (2 * other).sum()
    want = (9 * 6 + 4 * 4)**.5
    torch.testing.assert_close(grad_norm(value, [one, other]),
                               torch.tensor(want))
    assert grad_norm(one.sum(), [other]) == 0  # unused
    assert grad_norm(torch.ones(()), [one]) == 0  # constant


def test_ratio_of_the_sums():
    auto = AutoWeight('term', ratio=.5, iterations=2)
    x = torch.ones(1, requires_grad=True)
    assert auto.value() == 0
    auto.measure(6 * x.sum(), 2 * x.sum(), [x])
    assert auto.value() == .5 * 6 / 2
    auto.measure(2 * x.sum(), 6 * x.sum(), [x])
    assert auto.value() == .5 * 8 / 8
    auto.measure(100 * x.sum(), 6 * x.sum(), [x])  # frozen
    assert auto.value() == .5


def test_total_is_what_is_minimised():
    losses = {
        'decode.loss_ce': torch.tensor([1., 3.]),
        'aux.loss_ce': [torch.tensor(1.), torch.tensor(2.)],
        'decode.acc_seg': torch.tensor(90.)
    }
    assert total(losses) == 5
    assert total({}) == 0


def test_the_term_pulls_as_hard_as_asked(config):
    runner = build_runner(config)
    runner.train()
    hub = runner.message_hub.log_scalars
    weights = hub['train/mean_weight'].data[0]
    assert len(weights) == 6
    assert len(set(weights[2:])) == 1 and len(set(weights[:3])) == 3
    auto = runner.model.distill['mean_weight']
    assert auto.measured == 3
    task, term = auto.pulls
    assert auto.value() == .5 * task / term == weights[-1]
    assert task > 0
    # the mean of m entries has a gradient of norm 1 / sqrt(m)
    torch.testing.assert_close(term, torch.tensor(3 / (2 * 32 * 4 * 6)**.5))


def test_logged_once_and_named(config, tmp_path):
    build_runner(config).train()
    log = next((tmp_path / 'work').glob('*/*.log')).read_text()
    assert log.count('mean: weight ') == 1
    assert '0.5 times the gradient of the task over 3 iterations' in log


def test_resumed_run_keeps_what_was_measured(config):
    config.train_cfg.max_iters = 3
    config.default_hooks.checkpoint.interval = 2
    config.custom_hooks[1].update(auto_iters=2)
    whole = build_runner(config)
    whole.train()
    config.resume = True
    config.load_from = f'{config.work_dir}/iter_2.pth'
    config.work_dir += '_resumed'
    resumed = build_runner(config)
    resumed.train()
    want, got = (r.model.distill['mean_weight'] for r in (whole, resumed))
    assert torch.equal(want.pulls, got.pulls) and got.measured == 2
    assert all(
        torch.equal(v,
                    resumed.model.state_dict()[k])
        for k, v in whole.model.state_dict().items())


def test_measured_from_the_start_of_the_term(config):
    config.custom_hooks[1].update(start=4, warmup=2)
    runner = build_runner(config)
    runner.train()
    assert runner.model.distill['mean_weight'].measured == 2
    terms = runner.message_hub.log_scalars['train/loss_mean'].data[0]
    assert not any(terms[:4]) and all(terms[4:])


def test_other_terms_are_no_task(config):
    config.train_cfg.max_iters = 1
    alone = build_runner(config)
    alone.train()
    config.custom_hooks.insert(
        1, dict(type='MeanHook', name='first', weight=1e3, **TAPS))
    both = build_runner(config)
    both.train()
    torch.testing.assert_close(both.model.distill['mean_weight'].pulls,
                               alone.model.distill['mean_weight'].pulls)


def test_nothing_to_compare_with(config):
    config.model.decode_head.loss_decode.loss_weight = 0.
    with pytest.raises(UserError, match='the gradient of the task'):
        build_runner(config).train()


@pytest.mark.parametrize('wrong, message', [
    (dict(weight='automatic'), "a number or 'auto'"),
    (dict(auto_ratio=0.), 'auto_ratio must be positive'),
    (dict(auto_iters=0), 'auto_iters at least 1'),
])
def test_mistakes(config, wrong, message):
    config.custom_hooks[1].update(wrong)
    with pytest.raises(UserError, match=message):
        build_runner(config)


def test_what_is_not_measured():
    auto = AutoWeight('term', iterations=1)
    x = torch.ones(1, requires_grad=True)
    auto.measure(0 * x.sum(), x.sum(), [x], torch.zeros(2, dtype=torch.bool))
    with torch.no_grad():
        auto.measure(x.sum(), x.sum(), [x])
    auto.eval().measure(x.sum(), x.sum(), [x])
    assert auto.measured == 0
    with pytest.raises(UserError, match='a map of the student'):
        auto.train().measure(torch.zeros(()), x.sum(), [])


def test_float16_rounds_no_gradient_away():
    x = torch.ones(8, dtype=torch.float16, requires_grad=True)
    for slope in (1e-8, 60.):  # the second would overflow, made larger
        norm = grad_norm((x.float() * slope).sum(), [x])
        assert norm.item() == pytest.approx(slope * 8**.5, rel=.1)
