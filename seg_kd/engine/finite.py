"""Stops a run whose loss is no number any more."""

import torch
from mmengine.hooks import Hook

from seg_kd.errors import UserError
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class FiniteLossHook(Hook):
    """Stops at the first loss that is infinite or NaN, and says which.

    Before a checkpoint is written, so the last one stays good.
    :class:`~seg_kd.engine.DistillRunner` adds this hook by itself. The values
    have been read for the log already: the check waits for no GPU.

    Raises:
        UserError: With the iteration and the terms.
    """

    priority = 'HIGH'

    def after_train_iter(self, runner, outputs: dict, **_) -> None:
        bad = [
            name for name, value in outputs.items()
            if 'loss' in name and not torch.as_tensor(value).isfinite().all()
        ]
        if bad:
            terms = ', '.join(n for n in bad if n != 'loss') or 'the sum'
            raise UserError(
                f'iteration {runner.iter + 1}: not finite: {terms}. Lower the '
                'learning rate or the weight of the term, or set '
                'optim_wrapper.clip_grad=dict(max_norm=1.); then start again '
                'in another --work-dir')
