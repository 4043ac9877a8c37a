"""The share of data time in the log, against times that are known."""
import time
from types import SimpleNamespace

import pytest
from conftest import build_runner
from mmcv.transforms import BaseTransform
from mmengine.logging import MessageHub

from seg_kd.analysis.logs import read_scalars
from seg_kd.engine import DataShareHook
from seg_kd.registry import TRANSFORMS


def timed(waited: float, taken: float, iterations: int) -> SimpleNamespace:
    """A runner as IterTimerHook leaves it after so many more iterations."""
    hub = MessageHub.get_instance('data_share')
    for _ in range(iterations):
        hub.update_scalar('train/data_time', waited)
        hub.update_scalar('train/time', taken)
    return SimpleNamespace(message_hub=hub,
                           train_dataloader=SimpleNamespace(num_workers=3))


@pytest.fixture
def said(monkeypatch) -> list:
    lines = []
    monkeypatch.setattr('seg_kd.engine.hooks.print_log',
                        lambda text, *args, **kwargs: lines.append(text))
    return lines


def test_share_of_the_window(said):
    hook = DataShareHook(window=4)
    timed(9., 10., 3)  # before the window
    timed(1., 10., 2)
    runner = timed(2., 20., 2)
    hook.after_train_iter(runner, batch_idx=100)
    share = runner.message_hub.get_scalar('train/data_share').current()
    assert share == pytest.approx(.1)
    assert not said


def test_advice_is_given_once_and_not_for_the_start(said):
    hook, runner = DataShareHook(window=4), timed(3., 10., 4)
    hook.after_train_iter(runner, batch_idx=3)
    assert not said
    hook.after_train_iter(runner, batch_idx=8)
    hook.after_train_iter(runner, batch_idx=12)
    assert len(said) == 1
    assert '30% of the time' in said[0] and 'num_workers (now 3)' in said[0]


@TRANSFORMS.register_module()
class Sleep(BaseTransform):

    def transform(self, results):
        time.sleep(.5)  # a step of this student takes a tenth of it
        return results


def test_share_is_in_the_log_of_a_run(plain_config):
    plain_config.train_dataloader.dataset.pipeline.insert(
        0, dict(type='Sleep'))
    plain_config.train_cfg.max_iters = 3
    build_runner(plain_config).train()
    log = read_scalars(plain_config.work_dir)
    shares = [value for _, value in log['data_share']]
    assert len(shares) == 3 and min(shares) > .5
    # the validation behind the last iteration logs its own times
    waited, taken = (sum(value for _, value in log[name][:2])
                     for name in ('data_time', 'time'))
    assert shares[1] == pytest.approx(waited / taken, rel=1e-3)
