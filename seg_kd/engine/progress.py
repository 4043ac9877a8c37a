"""How far a training is: over all its stages, validations included."""
import time
from collections.abc import Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import LogProcessor

from seg_kd.registry import HOOKS, LOG_PROCESSORS


@HOOKS.register_module()
class ProgressHook(Hook):
    """Puts the seconds that the whole training has left in place of ``eta``.

    What an iteration takes is the mean of this run, checkpoints included;
    what a validation takes, the mean of those so far, and before the first
    nothing. Later stages (``stage.later`` of the config,
    :func:`~seg_kd.engine.stages.run_stages`) count as if theirs took as long.
    :class:`~seg_kd.engine.DistillRunner` adds this hook by itself.
    """

    priority = 'NORMAL'  # registered after IterTimerHook

    def __init__(self) -> None:
        self.first = self.validations = 0
        self.validated = 0.  # seconds of all validations
        self.since: float | None = None  # start of the present one

    def before_train(self, runner) -> None:
        self.first = runner.iter
        self.epoch = len(runner.train_dataloader)

    def before_train_iter(self, runner, **_) -> None:
        if runner.iter == self.first:  # the data is there by now
            # but for a validation that was made up for
            self.begun = time.monotonic() - self.validated

    def after_train_iter(self, runner, **_) -> None:
        runner.message_hub.update_info('eta',
                                       self.left(runner, runner.iter + 1))

    def before_val(self, runner) -> None:
        self.since = time.monotonic()

    def after_val_iter(self, runner, batch_idx: int, **_) -> None:
        if runner.iter > self.first:  # amid a training
            share = (batch_idx + 1) / len(runner.val_dataloader)
            runner.message_hub.update_info(
                'eta', self.left(runner, runner.iter, share))

    def after_val(self, runner) -> None:
        self.validated += time.monotonic() - self.since
        self.validations += 1
        self.since = None

    def left(self, runner, done: int, share: float = 1.) -> float:
        """Seconds.

        Args:
            runner: In a training.
            done: Iterations of this stage.
            share: Of the present validation, if there is one.
        """
        now = time.monotonic()
        present = 0. if self.since is None else now - self.since
        spent = now - self.begun - self.validated - present
        iteration = spent / max(1, done - self.first)
        count = self.validations or (self.since is not None) * share
        whole = self.validated or present
        validation = whole / count if count else 0.
        cfg = runner.cfg
        this = dict(train_cfg=cfg.get('train_cfg'),
                    validates=cfg.get('val_cfg') is not None)
        rest = [this, *(cfg.get('stage') or {}).get('later', [])]
        found = validation * (1 - share)
        for k, stage in enumerate(rest):
            train, start = stage['train_cfg'] or {}, done if k == 0 else 0
            found += iteration * max(0, iterations(train, self.epoch) - start)
            if stage['validates']:
                found += validation * validations(train, self.epoch, start)
        return found


def iterations(train_cfg: Mapping[str, Any], epoch: int) -> int:
    """Length of a stage; an epoch has ``epoch`` of them."""
    by_iteration = train_cfg.get('max_iters')
    return by_iteration or train_cfg.get('max_epochs', 0) * epoch


def validations(train_cfg: Mapping[str, Any], epoch: int, done: int) -> int:
    """How many there will be when so many iterations are done."""
    unit, usual = (1, 1000) if train_cfg.get('max_iters') else (epoch, 1)
    every = train_cfg.get('val_interval', usual) * unit
    first = max(done + 1, train_cfg.get('val_begin', 1) * unit)
    last = iterations(train_cfg, epoch)
    if first > last:
        return 0
    return last // every - (first - 1) // every + bool(last % every)


@LOG_PROCESSORS.register_module()
class StageLogProcessor(LogProcessor):
    """MMEngine's lines, that begin with the stage; ``eta`` among the numbers.

    :class:`~seg_kd.engine.DistillRunner` takes it where the config names no
    other type.
    """

    def get_log_after_iter(self, runner, *args: Any) -> tuple[dict, str]:
        numbers, text = super().get_log_after_iter(runner, *args)
        if 'eta' in runner.message_hub.runtime_info:
            numbers['eta'] = float(runner.message_hub.get_info('eta'))
        return numbers, stage_of(runner) + text

    def get_log_after_epoch(self, runner, *args: Any,
                            **more: Any) -> tuple[dict, str]:
        numbers, text = super().get_log_after_epoch(runner, *args, **more)
        return numbers, stage_of(runner) + text


def stage_of(runner) -> str:
    """``'Stage 2/3 distill  '``, or nothing where there is one stage."""
    stage = runner.cfg.get('stage') or {}
    if stage.get('of', 1) == 1:
        return ''
    return f'Stage {stage["number"]}/{stage["of"]} {stage["name"]}  '
