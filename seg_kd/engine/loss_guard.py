"""Ends a run whose losses or weights go bad, and keeps what shows why."""
import math
import os
from collections import deque
from dataclasses import dataclass, field
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from seg_kd.engine import culprits
from seg_kd.engine.records import BROKEN, latest_checkpoint
from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import write_checkpoint
from seg_kd.networks.classes import heads
from seg_kd.networks.transfer import Fetched, on_gpu
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import HOOKS

SKIPPED = 50  # steps on end
LOWER = ('Lower the learning rate or the weight of the term, or set '
         'optim_wrapper.clip_grad=dict(max_norm=1.)')


@HOOKS.register_module()
class LossGuardHook(Hook):
    """Stops before bad weights reach a checkpoint: the last one stays good.

    At once where a loss, a weight or a running statistic of a normalization
    that would be saved is infinite or NaN. Also where the loss has exploded:
    for ``patience`` iterations on end the sum was more than ``factor`` times
    its median over the ``window`` iterations before them. And where float16
    leaves out one step after the other, 50 on end; one now and then is how
    the scale of the loss is found. On a GPU a loss is looked at when the next
    iteration has been enqueued, or something is to be validated or saved: so
    the GPU always has work.

    ``broken_batch.pth`` in the folder of the stage then holds the batch, the
    weights with which the iteration began (a copy of them is kept for that,
    on a GPU two) and the config; ``seg-kd doctor --replay FILE`` looks into
    it.
    :class:`~seg_kd.engine.DistillRunner` adds this hook where a config does
    not.

    Args:
        factor: None: a finite loss may grow as it likes.
        patience: In iterations.
        window: In iterations. The sum is not judged before ``patience`` of
            them.
    """

    priority = 'HIGH'

    def __init__(self,
                 factor: float | None = 1e4,
                 patience: int = 50,
                 window: int = 1000) -> None:
        if factor is not None and factor <= 1 or patience < 1:
            raise UserError('LossGuardHook(factor=) is more than 1, or None, '
                            f'and patience= at least 1, not {factor} and '
                            f'{patience}')
        self.factor, self.patience, self.window = factor, patience, window
        self.at = Iteration()  # the one that a stop is about
        self._skipped = 0  # iterations since the last step of the optimizer
        self._unread: deque[Iteration] = deque()
        self._handle: Any = None  # where a GradScaler may leave out steps

    def before_train(self, runner) -> None:
        """Makes room for copies of all that an iteration changes."""
        self._now = {
            name: tensor.detach()
            for name, tensor in tensors(runner.model).items()
            if tensor.is_floating_point()
        }
        self._unread.clear()
        self._room: deque[dict[str, Tensor]] = deque({
            k: torch.empty_like(t)
            for k, t in self._now.items()
        } for _ in range(1 + any(map(on_gpu, self._now.values()))))
        if hasattr(runner.optim_wrapper, 'loss_scaler'):
            self._skipped = 0
            self._handle = runner.optim_wrapper.optimizer \
                .register_step_post_hook(self._stepped)

    def before_train_iter(self, runner, batch_idx: int, data_batch=None):
        self._room.rotate()
        self.at = Iteration(runner.iter + 1, data_batch, self._room[0])
        if self._now:
            torch._foreach_copy_(list(self.at.weights.values()),
                                 list(self._now.values()))

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: dict) -> None:
        self.at.losses = losses = Fetched({
            name: largest(value)
            for name, value in outputs.items() if 'loss' in name
        })
        self._unread.append(self.at)
        self._check_finite(runner, leave=int(losses.late))
        if self.factor and self.every_n_train_iters(runner, self.patience):
            self._check_growth(runner, outputs)
        if self._handle is not None:
            self._skipped += 1
            counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
            if self._skipped > SKIPPED * counts:
                self._stop_skipping(runner)

    def _stepped(self, *_: Any) -> None:
        """GradScaler has called the optimizer: it knows what is finite."""
        self._skipped = -1  # of this iteration, which is counted next

    def _stop_skipping(self, runner) -> NoReturn:
        terms = culprits.overflowing(runner, self.at.batch) or ['loss']
        self._stop(
            runner, f'no step for {SKIPPED} iterations, as the gradient of '
            f'{", ".join(terms)} overflows float16, now in the batch',
            terms[0], 'Lower the weight of the term, or leave float16: '
            "optim_wrapper.type='BFloat16OptimWrapper' or 'OptimWrapper'")

    def _check_finite(self, runner, leave: int = 0) -> None:
        """Of all iterations but the last ones, which may not be there yet."""
        while len(self._unread) > leave:
            iteration = self._unread.popleft()
            bad = [
                name for name, value in iteration.losses.numbers.items()
                if not math.isfinite(value)
            ]
            if bad:
                self.at = iteration
                terms = [n for n in bad if n != 'loss']
                wrong, advice = culprits.bad_teacher(
                    runner, iteration.batch) or ('', LOWER)
                self._stop(
                    runner, f'not finite: {", ".join(terms) or "the sum"}'
                    f'{wrong and f", as {wrong},"} in the batch',
                    (terms or bad)[0], advice)

    def before_val(self, runner) -> None:
        self._check_finite(runner)

    def after_train(self, runner) -> None:
        self._check_finite(runner)
        if self._handle is not None:
            self._handle.remove()

    def _check_growth(self, runner, outputs: dict) -> None:
        scalars = runner.message_hub.log_scalars
        if 'train/loss' not in scalars:
            return
        values = scalars['train/loss'].data[0]
        values = np.abs(values[-self.patience - self.window:])
        recent, earlier = values[-self.patience:], values[:-self.patience]
        earlier = earlier[earlier > 0]  # before the first term starts
        if len(earlier) < self.patience:
            return
        usual = np.median(earlier)
        if recent.min() > self.factor * usual:
            terms = {
                name: abs(float(value))
                for name, value in outputs.items()
                if 'loss' in name and name != 'loss'
            }
            worst = max(terms, key=terms.__getitem__, default='loss')
            self._stop(
                runner,
                f'exploded: most of all {worst}, the loss has been over '
                f'{self.factor:g} times its median, {usual:.3g}, for '
                f'{self.patience} iterations, now in the batch', worst)

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        if self.at.batch is None:  # not in a training
            return
        self._check_finite(runner)
        bad = culprits.bad_weights(runner.model)
        if bad:
            measured = bad[0].endswith(culprits.STATISTICS)
            what = 'running statistics' if measured else 'weights'
            self._stop(
                runner, f'not finite: the {what}, such as {bad[0]}, by the '
                f'{"maps" if measured else "gradients"} in the batch', 'loss')

    def _stop(self,
              runner,
              what: str,
              culprit: str,
              advice: str = LOWER) -> NoReturn:
        """Saves what ``seg-kd doctor --replay`` takes, and ends the run.

        Raises:
            UserError: With the iteration, the terms and the images.
        """
        path = os.path.join(runner.work_dir, BROKEN)
        stage = runner.cfg.get('stage') or {}
        try:
            batch = batch_of(self.at.batch, ignored(runner.model))
            write_checkpoint(
                dict(config=runner.cfg.pretty_text,
                     stage=stage.get('name') or None,
                     iteration=self.at.number,
                     culprit=culprit,
                     batch=batch,
                     model=self._weights(runner.model)), path)
            images = [str(info.get('img_path')) for info in batch['metainfo']]
            saved = (f' of {", ".join(images)}; seg-kd doctor --replay {path} '
                     'shows where it comes from')
        except Exception as error:  # the stop is what counts
            saved = f'; the batch could not be saved: {error}'
        last = latest_checkpoint(runner.work_dir)
        good = f'the last good checkpoint is {last}' if last else \
            'there is no checkpoint yet'
        raise UserError(
            f'iteration {self.at.number}: {what}{saved}; {good}. {advice}; '
            'then start again in another --work-dir')

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's as the iteration began with them."""
        state = unwrap_model(model).state_dict()
        there = tensors(model)
        for name, before in self.at.weights.items():
            # a buffer may have been replaced since
            same = there.get(name) is not None and \
                there[name].data_ptr() == self._now[name].data_ptr()
            if name in state and same:
                state[name] = before
        return {k: v.detach().cpu() for k, v in state.items()
                if isinstance(v, Tensor)}  # yapf: disable


@dataclass(eq=False)
class Iteration:
    """What is kept of one, until its losses have been looked at.

    Attributes:
        number: As the log counts them, from 1.
        batch: As the loader gave it.
        weights: With which it began.
        losses: Their values, or where they are not numbers, the largest.
    """

    number: int = 0
    batch: Any = None
    weights: dict[str, Tensor] = field(default_factory=dict)
    losses: Fetched = field(default_factory=lambda: Fetched({}))


def largest(value: Any) -> Any:
    """One number that is finite if all are."""
    if isinstance(value, Tensor) and value.numel() != 1:
        return value.detach().abs().amax()
    return value


def tensors(model: nn.Module) -> dict[str, Tensor]:
    model = unwrap_model(model)
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def ignored(model: nn.Module) -> int:
    found = heads(unwrap_model(model))
    return next((head.ignore_index for head in found), 255)


def batch_of(batch: Any, ignore_index: int) -> dict[str, list]:
    """A batch of a loader, of tensors and plain types.

    Returns:
        ``inputs`` ``(C, H, W)``, ``labels`` ``(H, W)`` and ``metainfo`` of
        each image. An image without labels gets ``ignore_index``.
    """
    inputs = [image.cpu() for image in batch['inputs']]
    samples = list(batch.get('data_samples') or [])
    labels = [
        sample.gt_sem_seg.data[0].cpu() if 'gt_sem_seg' in sample else
        torch.full(image.shape[1:], ignore_index)
        for image, sample in zip(inputs, samples)
    ]
    infos = [plain_types(dict(sample.metainfo)) for sample in samples]
    return dict(inputs=inputs, labels=labels, metainfo=infos)


def plain_types(value: Any) -> Any:
    """Of what ``torch.load(weights_only=True)`` takes; the rest as text."""
    if isinstance(value, dict):
        return {str(k): plain_types(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(plain_types, value)) if type(value) in (
            list, tuple) else [plain_types(v) for v in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray):
        return value.tolist()
    if value is None or isinstance(value, (bool, int, float, str, Tensor)):
        return value
    return str(value)
