"""Checkpoints and accumulated gradients: iterations against iterations."""
import pytest
from mmengine.hooks import CheckpointHook

from seg_kd.engine.runner import check_checkpoint_hooks
from seg_kd.errors import UserError


def test_epochs_are_not_taken_for_iterations():
    check_checkpoint_hooks([CheckpointHook(interval=1, by_epoch=True)], 2)
    check_checkpoint_hooks([CheckpointHook(interval=4, by_epoch=False)], 2)
    with pytest.raises(UserError, match='every 3 iterations would lose'):
        check_checkpoint_hooks([CheckpointHook(interval=3, by_epoch=False)], 2)
