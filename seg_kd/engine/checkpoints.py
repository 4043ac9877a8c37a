"""The best checkpoint beside the last, and students alone."""
import logging
import os

from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log

from seg_kd.hooks.student import NoStudent
from seg_kd.networks.checkpoint import (read_checkpoint, student_only,
                                        write_checkpoint)
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import HOOKS


class BestCheckpointHook(CheckpointHook):
    """MMEngine's, of which :class:`~seg_kd.engine.DistillRunner` makes this.

    ``save_best='mIoU'`` says once that a validation has no such metric, where
    MMEngine's ends the run. And a new best writes no further whole
    checkpoint, unless that of this very iteration has to learn the score:
    gradients that are being accumulated would be missing in it.
    """

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
