"""The best checkpoint beside the last, and students alone."""
import logging
import os

from mmengine.dist import broadcast, master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.runner import IterBasedTrainLoop

from seg_kd.engine.processes import on_main
from seg_kd.hooks.student import NoStudent
from seg_kd.networks.checkpoint import (read_checkpoint, replacing,
                                        student_only, write_checkpoint)
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import HOOKS


class BestCheckpointHook(CheckpointHook):
    """MMEngine's, of which :class:`~seg_kd.engine.DistillRunner` makes this.

    A run that goes on knows its last checkpoint, so that a validation that is
    made up for finds all as it was.
    ``save_best='mIoU'`` says once that a validation has no such metric, where
    MMEngine's ends the run. And a new best writes no further whole
    checkpoint, unless that of this very iteration has to learn the score:
    gradients that are being accumulated would be missing in it.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        noted = runner.message_hub.runtime_info.get('last_ckpt')
        if runner._resume and noted:  # the folder may have been moved
            self.last_ckpt = os.path.join(self.out_dir,
                                          os.path.basename(noted))
            runner.message_hub.update_info('last_ckpt', self.last_ckpt)

    def save_now(self, runner, done: int) -> None:
        """Before a run ends early, after so many iterations.

        Within an epoch nothing is saved where epochs count: a run goes on
        from the beginning of one.
        """
        name = self.filename_tmpl.format(done)
        if not self.by_epoch and (self.last_ckpt is None
                                  or os.path.basename(self.last_ckpt) != name):
            self._save_checkpoint_with_step(
                runner, done, dict(epoch=runner.epoch, iter=done))

    def after_val_epoch(self, runner, metrics: dict) -> None:
        missing = [
            name for name in self.save_best or []
            if name not in metrics and name != 'auto'
        ]
        if not missing:
            super().after_val_epoch(runner, metrics)
            return
        self.save_best = None
        print_log(
            f'save_best={missing[0]!r}: the validation gives no such metric, '
            f'but {", ".join(metrics) or "none"}; no best checkpoint is kept',
            'current', logging.WARNING)

    def _save_best_checkpoint(self, runner, metrics: dict) -> None:
        last = self.last_ckpt
        done = runner.epoch if self.by_epoch else runner.iter
        if last and os.path.basename(last) != self.filename_tmpl.format(done):
            self.last_ckpt = None
        super()._save_best_checkpoint(runner, metrics)
        self.last_ckpt = last


@HOOKS.register_module()
class ValidationHook(Hook):
    """Validations that depend on the last checkpoint alone.

    One that was cut off is made up for when the run goes on: a checkpoint is
    written before the validation of its iteration. The file
    ``last_validation`` in the folder says which one has come to its end.
    In several processes each validates with the running statistics of the
    first, which are the ones that are saved, instead of its own.
    :class:`~seg_kd.engine.DistillRunner` adds this hook by itself.
    """

    priority = 'LOWEST'  # when all others have noted the results, too

    def before_train(self, runner) -> None:
        self.training = True
        done = runner.iter
        if done == 0:
            on_main(lambda: self._note(runner, 0))
        elif runner.val_loop is not None and on_main(lambda: is_due(
                runner.train_loop) and done > self._noted(runner)):
            print_log(
                f'The validation of iteration {done} was cut off, it is made '
                'up for', 'current')
            runner.val_loop.run()

    def before_val_epoch(self, runner) -> None:  # by now EMA's are in place
        for buffer in unwrap_model(runner.model).buffers():
            broadcast(buffer)

    def after_val(self, runner) -> None:
        if getattr(self, 'training', False):
            on_main(lambda: self._note(runner, runner.iter))

    def after_train(self, runner) -> None:
        self.training = False

    def _noted(self, runner) -> int:
        try:
            with open(self._path(runner), encoding='utf-8') as file:
                return int(file.read())
        except (FileNotFoundError, ValueError):
            return 0

    def _note(self, runner, done: int) -> None:
        if done != self._noted(runner):
            with replacing(self._path(runner)) as part, \
                    open(part, 'w', encoding='utf-8') as file:
                file.write(str(done))

    def _path(self, runner) -> str:
        return os.path.join(runner.work_dir, 'last_validation')


def is_due(loop) -> bool:
    """Does a training loop of MMEngine validate where it stands?"""
    loop._decide_current_val_interval()
    done, length = (loop.iter, loop.max_iters) if isinstance(
        loop, IterBasedTrainLoop) else (loop.epoch, loop.max_epochs)
    return done >= loop.val_begin and (done % loop.val_interval == 0
                                       or done == length)


@HOOKS.register_module()
class StudentCopyHook(Hook):
    """Keeps the student alone: no distillation parts, no optimizer.

    ``student_last.pth`` is made of the last checkpoint when the training
    ends, ``student_best.pth`` of each new best one. Both are for the config
    that ``seg-kd export`` writes, and for the training's own.
    """

    priority = 'LOWEST'  # after CheckpointHook

    def __init__(self) -> None:
        self.copied: dict[str, str] = {}

    def after_val_epoch(self, runner, metrics=None) -> None:
        self._copy(runner, 'best_ckpt')

    def after_train(self, runner) -> None:
        self._copy(runner, 'last_ckpt')

    @master_only
    def _copy(self, runner, kind: str) -> None:
        """From what MMEngine notes: ``best_ckpt``, of several metrics more."""
        if isinstance(unwrap_model(runner.model), NoStudent):
            return
        for key, path in list(runner.message_hub.runtime_info.items()):
            new = key.startswith(kind) and path and \
                self.copied.get(key) != path
            if new and os.path.isfile(path):
                whole = read_checkpoint(path)
                data = whole['meta'].get('dataset_meta', {})
                name = key.replace('_ckpt', '')
                write_checkpoint(
                    student_only(whole['state_dict'], data.get('classes'),
                                 data.get('palette')),
                    os.path.join(os.path.dirname(path), f'student_{name}.pth'))
                self.copied[key] = path
