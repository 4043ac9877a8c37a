"""How a training ends that is told to: by SIGTERM, or by Ctrl-C."""
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NoReturn

import torch
from mmengine.dist import is_distributed, is_main_process
from mmengine.hooks import CheckpointHook, EMAHook, Hook

from seg_kd.engine.records import latest_checkpoint

TERMINATED = 128 + signal.SIGTERM  # the exit status, 143


class EndingHook(Hook):
    """Saves and leaves at the end of the iteration in which SIGTERM comes.

    SLURM sends it before it takes the machine away, torchrun to all ranks
    when one has ended. In a validation the weights are saved as they were
    before it; it is made up for when the run goes on. Nothing is saved within
    an epoch of ``EpochBasedTrainLoop``, which starts it again. A second
    signal ends the process at once.
    """

    priority = 'LOWEST'  # after CheckpointHook

    def __init__(self) -> None:
        self.asked = False
        self.runner = None  # while it trains
        self._group = None

    @contextmanager
    def listening(self) -> Iterator[None]:
        """While the block runs, signals come here.

        Raises:
            SystemExit: With status 143, upon SIGTERM.
            KeyboardInterrupt: With a line on where the training stands.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGTERM, self._hear)
        try:
            yield
        except KeyboardInterrupt as error:
            raise KeyboardInterrupt(self.place()) from error
        finally:
            signal.signal(signal.SIGTERM, before or signal.SIG_DFL)

    def _hear(self, number: int, frame) -> None:
        if self.runner is not None and not self.asked:
            self.asked = True
            return
        _say(self.place())
        if is_distributed():  # no orderly end of what others wait for
            os._exit(TERMINATED)
        raise SystemExit(TERMINATED)

    def before_train(self, runner) -> None:
        self.runner = runner
        if is_distributed() and self._group is None:
            # asks all, without a wait for a GPU
            self._group = torch.distributed.new_group(backend='gloo')

    def after_train(self, runner) -> None:
        self.runner = None

    def after_train_iter(self, runner, batch_idx: int, **_) -> None:
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if (runner.iter + 1) % counts == 0 and self._all_asked():
            self._save_and_leave(runner, runner.iter + 1)

    def before_val(self, runner) -> None:
        # batches that every rank has
        self._batches = -self._most(-len(runner.val_dataloader))

    def after_val_iter(self, runner, batch_idx: int, **_) -> None:
        if self.runner is None or batch_idx >= self._batches or \
                not self._all_asked():
            return
        for hook in runner.hooks:
            if isinstance(hook, EMAHook):  # gives the trained weights back
                hook.after_val_epoch(runner)
        self._save_and_leave(runner, runner.iter)

    def _all_asked(self) -> bool:
        """Whether any rank was, so that all leave at the same place."""
        return bool(self._most(self.asked))

    def _most(self, value: int) -> int:
        """The largest of all ranks."""
        if self._group is None:
            return value
        found = torch.tensor(int(value))
        torch.distributed.all_reduce(found,
                                     torch.distributed.ReduceOp.MAX,
                                     group=self._group)
        return int(found)

    def _save_and_leave(self, runner, done: int) -> NoReturn:
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook) and hasattr(hook, 'save_now'):
                hook.save_now(runner, done)
        _say(self.place(done))
        if is_distributed():  # gloo's threads would abort the process
            torch.distributed.destroy_process_group()
        raise SystemExit(TERMINATED)

    def place(self, done: int | None = None) -> str:
        """``' in stage distill at iteration 5 of 6, ...'``, for a line."""
        runner = self.runner
        if runner is None:
            return ''
        stage = (runner.cfg.get('stage') or {}).get('name')
        at = runner.iter if done is None else done
        last = latest_checkpoint(runner.work_dir)
        kept = f'the last checkpoint is {os.path.relpath(last)}' if last \
            else 'there is no checkpoint yet'
        return (f'{f" in stage {stage}" if stage else ""} at iteration {at} '
                f'of {runner.max_iters}, {kept}')


def _say(place: str) -> None:
    if is_main_process():
        print(f'SIGTERM: ended{place}; the same command with --resume goes on',
              file=sys.stderr,
              flush=True)
