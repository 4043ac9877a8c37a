"""SIGTERM: what is done is saved, wherever the next checkpoint would be."""
import os
import signal

import pytest
from mmengine.hooks import Hook

from seg_kd.engine.stages import run_stages
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class TerminatedHook(Hook):
    """Sends SIGTERM in the second iteration."""

    def before_train_iter(self, runner, batch_idx: int, **_) -> None:
        if runner.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)


@pytest.mark.filterwarnings("ignore:Detected call of `scheduler.step")
@pytest.mark.parametrize('counts, left', [(1, 2), (3, 3)])
def test_a_checkpoint_is_written_when_gradients_are_used(
        plain_config, tmp_path, capsys, counts, left):
    """Not at once where gradients are being summed up."""
    plain_config.default_hooks.checkpoint.interval = 6
    plain_config.optim_wrapper.accumulative_counts = counts
    plain_config.custom_hooks = [dict(type='TerminatedHook')]
    with pytest.raises(SystemExit) as end:
        run_stages(plain_config, str(tmp_path))
    assert end.value.code == 143
    assert [p.name for p in tmp_path.glob('*.pth')] == [f'iter_{left}.pth']
    assert f'SIGTERM: ended at iteration {left} of 6' in capsys.readouterr(
    ).err
