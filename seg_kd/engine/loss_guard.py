"""Ends a run whose losses or weights go bad, and keeps what shows why."""
import os
from typing import Any, NoReturn

import numpy as np
import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from seg_kd.engine.records import BROKEN, latest_checkpoint
from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import write_checkpoint
from seg_kd.networks.classes import heads
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class LossGuardHook(Hook):
    """Stops before bad weights reach a checkpoint: the last one stays good.

    At once where a loss, or a weight that would be saved, is infinite or NaN.
    Also where the loss has exploded: for ``patience`` iterations on end the
    sum was more than ``factor`` times its median over the ``window``
    iterations before them. The values have been read for the log already: no
    check waits for a GPU.

    ``broken_batch.pth`` in the folder of the stage then holds the batch, the
    weights with which the iteration began (a copy of them is kept for that)
    and the config; ``seg-kd doctor --replay FILE`` looks into it.
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
        self.batch: Any = None
        self.iteration = 0  # as the log counts them

    def before_train(self, runner) -> None:
        """Makes room for a copy of all that an iteration changes."""
        self._now = {
            name: tensor.detach()
            for name, tensor in tensors(runner.model).items()
            if tensor.is_floating_point()
        }
        self._before = {k: torch.empty_like(t) for k, t in self._now.items()}

    def before_train_iter(self, runner, batch_idx: int, data_batch=None):
        self.batch, self.iteration = data_batch, runner.iter + 1
        if self._now:
            torch._foreach_copy_(list(self._before.values()),
                                 list(self._now.values()))

    def after_train_iter(self, runner, batch_idx: int, data_batch,
                         outputs: dict) -> None:
        bad = [
            name for name, value in outputs.items()
            if 'loss' in name and not torch.as_tensor(value).isfinite().all()
        ]
        if bad:
            terms = [n for n in bad if n != 'loss']
            self._stop(
                runner, f'not finite: {", ".join(terms) or "the sum"} in the '
                'batch', (terms or bad)[0])
        if self.factor and self.every_n_train_iters(runner, self.patience):
            self._check_growth(runner, outputs)

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
        if self.batch is None:  # not in a training
            return
        bad = [
            name for name, finite in finite_parameters(runner.model).items()
            if not finite
        ]
        if bad:
            self._stop(
                runner, f'not finite: the weights, such as {bad[0]}, by the '
                'gradients in the batch', 'loss')

    def _stop(self, runner, what: str, culprit: str) -> NoReturn:
        """Saves what ``seg-kd doctor --replay`` takes, and ends the run.

        Raises:
            UserError: With the iteration, the terms and the images.
        """
        path = os.path.join(runner.work_dir, BROKEN)
        stage = runner.cfg.get('stage') or {}
        try:
            batch = batch_of(self.batch, ignored(runner.model))
            write_checkpoint(
                dict(config=runner.cfg.pretty_text,
                     stage=stage.get('name') or None,
                     iteration=self.iteration,
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
            f'iteration {self.iteration}: {what}{saved}; {good}. Lower the '
            'learning rate or the weight of the term, or set '
            'optim_wrapper.clip_grad=dict(max_norm=1.); then start again in '
            'another --work-dir')

    def _weights(self, model: nn.Module) -> dict[str, Tensor]:
        """The model's as the iteration began with them."""
        state = unwrap_model(model).state_dict()
        there = tensors(model)
        for name, before in self._before.items():
            # a buffer may have been replaced since
            same = there.get(name) is not None and \
                there[name].data_ptr() == self._now[name].data_ptr()
            if name in state and same:
                state[name] = before
        return {k: v.detach().cpu() for k, v in state.items()
                if isinstance(v, Tensor)}  # yapf: disable


def tensors(model: nn.Module) -> dict[str, Tensor]:
    model = unwrap_model(model)
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def finite_parameters(model: nn.Module) -> dict[str, bool]:
    """Whether each of them is; it waits once for a GPU."""
    named = dict(unwrap_model(model).named_parameters())
    if not named:
        return {}
    norms = torch._foreach_norm([p.detach() for p in named.values()])
    found = torch.stack([n.float() for n in norms]).isfinite().tolist()
    return dict(zip(named, found))


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
