"""How much of the training time is spent waiting for data."""
import logging

from mmengine.hooks import Hook
from mmengine.logging import print_log

from seg_kd.registry import HOOKS


@HOOKS.register_module()
class DataShareHook(Hook):
    """Logs ``data_share``, the part of the time that the data is waited for.

    From 0 to 1, over the last iterations, from the times that
    ``IterTimerHook`` measures. Where it is high, a warning says once what
    helps. :class:`~seg_kd.engine.DistillRunner` adds this hook by itself.

    Args:
        window: Iterations that a share is taken over.
        high: Share from which on there is advice.
    """

    def __init__(self, window: int = 50, high: float = .2) -> None:
        self.window, self.high, self.warned = window, high, False

    def after_train_iter(self, runner, batch_idx: int, **_) -> None:
        times = runner.message_hub.log_scalars
        if 'train/time' not in times:  # the config has no IterTimerHook
            return
        waited, taken = (times[f'train/{name}'].mean(self.window)
                         for name in ('data_time', 'time'))
        share = waited / taken
        runner.message_hub.update_scalar('train/data_share', share)
        # The first window also waits for the workers to start.
        started = batch_idx >= 2 * self.window
        if share > self.high and started and not self.warned:
            self.warned = True
            print_log(
                f'{share:.0%} of the time is spent waiting for data. What '
                'helps: more train_dataloader.num_workers (now '
                f'{runner.train_dataloader.num_workers}), images stored '
                "smaller, dict(type='Cached', transforms=[...]) around what "
                'loads the images of a small data set', 'current',
                logging.WARNING)
