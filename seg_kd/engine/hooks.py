"""Hooks that every run of :class:`~seg_kd.engine.DistillRunner` has."""
import logging
import random
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np
import torch
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import Tensor

from seg_kd.errors import UserError
from seg_kd.networks.auto_weight import AutoWeight
from seg_kd.networks.checkpoint import DISTILL, weights
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class SeedHook(Hook):
    """Seeds the generators before each iteration from (seed, iteration, rank).

    What an iteration draws (dropout, say) then depends on nothing that came
    before it: not on validation, not on whether the run was cut off and
    resumed, not on the number of loader workers. So no generator state has to
    be saved. :class:`~seg_kd.engine.DistillRunner` adds this hook by itself.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, **_) -> None:
        key = (runner.seed, runner.iter, runner.rank)
        seed = int(np.random.SeedSequence(key).generate_state(1)[0])
        random.seed(seed)
        np.random.seed(seed)
        torch.manual_seed(seed)


@HOOKS.register_module()
class LoadHook(Hook):
    """Fits the ``distill.*`` weights of a ``load_from`` to the model.

    Where the other weights fit in part, a warning says how many do, and which
    layers do not; where none fits, or one is NaN, the run is refused.

    Of the distillation parts, what both have is taken over, so a method goes
    on with the parts that an earlier stage trained under the same name. What
    only one has is no error: the checkpoint's is left out, the model's starts
    afresh, and the log says so in one line. A weight that was measured
    (:class:`AutoWeight`) belongs to its stage and is measured again.
    :class:`~seg_kd.engine.DistillRunner` adds this hook by itself.
    """

    priority = 'VERY_HIGH'  # before EMAHook, which reads the same weights

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:  # then it is the checkpoint of this very run
            return
        model = unwrap_model(runner.model)
        parts = getattr(model, 'distill', {})
        measured = tuple(f'{DISTILL}{name}.' for name, part in parts.items()
                         if isinstance(part, AutoWeight))
        whole = model.state_dict()
        own = {k: w for k, w in whole.items() if k.startswith(DISTILL)}
        state = checkpoint.get('state_dict', checkpoint)
        found = {key for key in state if key.startswith(DISTILL)}
        kept = {k for k in found & own.keys() if not k.startswith(measured)}
        for key in found - kept:
            del state[key]
        check_fit(whole, state, runner._load_from)
        state.update({key: own[key] for key in own.keys() - kept})
        report(kept=kept, left_out=found - kept, new=own.keys() - kept)


def check_fit(model: Mapping[str, Tensor], state: Mapping[str, Any],
              path: str) -> None:
    """Says which weights of a network a checkpoint does not have.

    Args:
        model: The network's state dict.
        state: The checkpoint's.
        path: Of the checkpoint.

    Raises:
        UserError: It has none of them, or one is not finite.
    """
    counter = 'num_batches_tracked'  # which older checkpoints lack
    own = {
        key: weight
        for key, weight in model.items()
        if not key.startswith(DISTILL) and not key.endswith(counter)
    }
    given = weights(dict(state_dict=state))
    fit = [k for k in own if k in given and given[k].shape == own[k].shape]
    if own and not fit:
        first = ', '.join(list(given)[:3]) or 'nothing'
        raise UserError(
            f'load_from {path}: none of its {len(given)} tensors fits the '
            f'model, which begins with {next(iter(own))}; it has {first}: is '
            'it the checkpoint of another network?')
    bad = [k for k in fit if not given[k].isfinite().all()]
    if bad:
        raise UserError(
            f'load_from {path}: {len(bad)} weights are NaN or infinite, such '
            f'as {bad[0]}; take a checkpoint from before the training went '
            'bad')
    missing = own.keys() - set(fit)
    if missing:
        print_log(
            f'load_from {path}: {len(fit)} of {len(own)} tensors of the model '
            f'fit; not those of {", ".join(parts_of(missing, own))}, which '
            'start afresh', 'current', logging.WARNING)


def parts_of(some: Set[str], every: Iterable[str], most: int = 6) -> list[str]:
    """The largest parts of a model whose names are all among ``some``."""
    found: list[str] = []
    for key in every:
        names = key.split('.')
        above = ['.'.join(names[:k + 1]) for k in range(len(names))]
        if key in some and not set(above) & set(found):
            found.append(
                next(part for part in above
                     if all(other in some for other in every
                            if f'{other}.'.startswith(f'{part}.'))))
    more = [f'{len(found) - most} more'] if len(found) > most else []
    return found[:most] + more


def report(**parts: Any) -> None:
    """One line on the modules in ``model.distill``, if there are any."""
    said = []
    for word, keys in parts.items():
        names = sorted({key.split('.')[1] for key in keys})
        if names:
            said.append(f'{word.replace("_", " ")}: {", ".join(names)}')
    if said:
        print_log(f'load_from, distillation parts {"; ".join(said)}',
                  'current')


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
                f'{runner.train_dataloader.num_workers}), whose default '
                "OMP_NUM_THREADS bounds; dict(type='Cached', "
                'transforms=[...]) around what loads the images of a small '
                'data set, and with folder=, which keeps them on disk, those '
                'of a large one (Cityscapes: decoded_images=FOLDER); images '
                'stored smaller', 'current', logging.WARNING)
