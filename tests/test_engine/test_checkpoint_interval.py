"""Checkpoints and accumulated gradients: iterations against iterations."""
import pytest
from mmengine.hooks import CheckpointHook

from seg_kd.engine.runner import check_checkpoint_hooks
from seg_kd.errors import UserError


def hook(interval, by_epoch):
    return [CheckpointHook(interval=interval, by_epoch=by_epoch)]


def test_epochs_are_not_taken_for_iterations():
    check_checkpoint_hooks(hook(1, True), 2, epoch=4)
    check_checkpoint_hooks(hook(4, False), 2, epoch=3)
    with pytest.raises(UserError, match='every 3 iterations would lose'):
        check_checkpoint_hooks(hook(3, False), 2, epoch=4)
    with pytest.raises(UserError, match='every 9 iterations would lose'):
        check_checkpoint_hooks(hook(3, True), 2, epoch=3)
