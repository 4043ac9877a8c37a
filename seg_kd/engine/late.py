"""Values of the log, read from a GPU when they are wanted, not when made."""
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from mmengine.hooks import RuntimeInfoHook
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.optim import OptimWrapperDict

from seg_kd.networks.transfer import Fetched, on_gpu
from seg_kd.registry import HOOKS

LONGEST = 1000  # iterations whose values wait to be joined to the others
KEPT = 10_000  # iterations of whose values the history is not lost


@HOOKS.register_module()
class LateInfoHook(RuntimeInfoHook):
    """MMEngine's, but it never waits for a GPU.

    MMEngine's reads each loss of an iteration by itself, at once. Here they
    come in one copy, which is looked at an iteration later, or when somebody
    asks: the log, a checkpoint, a hook that reads ``runner.message_hub``. The
    norm of clipped gradients is among them.

    And it bounds each history, which MMEngine copies in every iteration and
    into every checkpoint, to the last 10,000 to 20,000 values; a
    ``window_size`` of the log is at most that.
    :class:`~seg_kd.engine.DistillRunner` takes this hook for MMEngine's.
    """

    def before_train(self, runner) -> None:
        super().before_train(runner)
        wrappers = runner.optim_wrapper
        several = isinstance(wrappers, OptimWrapperDict)
        for wrapper in wrappers.values() if several else [wrappers]:
            if getattr(wrapper, 'clip_grad_kwargs', None):
                wrapper.clip_func = noted(wrapper.clip_func,
                                          wrapper.message_hub,
                                          f'train/{wrapper.grad_name}')

    def after_train_iter(self,
                         runner,
                         batch_idx: int,
                         data_batch=None,
                         outputs: Mapping[str, Any] | None = None) -> None:
        values = {f'train/{k}': v for k, v in (outputs or {}).items()}
        note(runner.message_hub, values)
        if self.every_n_train_iters(runner, KEPT):
            shorten(runner.message_hub)


def shorten(hub: MessageHub) -> None:
    """Leaves the last values of each history."""
    for name, history in hub.log_scalars.items():
        values, counts = (array[-KEPT:].copy() for array in history.data)
        hub.log_scalars[name] = type(history)(values, counts)


def noted(clip: Callable, hub: MessageHub, name: str) -> Callable:
    """The same function; it logs the norm that it returns, and returns none.

    MMEngine would read the norm at once.
    """

    def clipped(*args: Any, **kwargs: Any) -> None:
        norm = clip(*args, **kwargs)
        if norm is not None:
            note(hub, {name: norm})

    return clipped


def note(hub: MessageHub, values: Mapping[str, Any]) -> None:
    """Adds values to the history of each; those of a GPU when they come."""
    late = {
        name: value
        for name, value in values.items()
        if on_gpu(value) and value.numel() == 1
    }
    fetched = Fetched(late)
    for name, value in values.items():
        if name in late:
            late_history(hub, name).add(fetched, name)
        else:
            hub.update_scalar(name, value)


def settled(name: str) -> property:
    """An array of a history, in which all values have come when it is read."""

    def get(history: 'LateHistory') -> np.ndarray:
        if history._late:
            history._join()
        return getattr(history, name)

    def put(history: 'LateHistory', values: np.ndarray) -> None:
        setattr(history, name, values)

    return property(get, put)


class LateHistory(HistoryBuffer):
    """A history whose last values may still be on their way.

    Whoever reads it gets all of them. In a checkpoint it is MMEngine's own.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._late: list[tuple[Fetched, str]] = []
        super().__init__(*args, **kwargs)

    def add(self, fetched: Fetched, name: str) -> None:
        if self._late:  # an iteration old: the GPU has other work by now
            self._late[-1][0].numbers
        if len(self._late) == LONGEST:
            self._join()
        self._late.append((fetched, name))

    def _join(self) -> None:
        late, self._late = self._late, []
        found = [fetched.numbers[name] for fetched, name in late]
        self._logs = np.append(self._logs, found)[-self.max_length:]
        ones = np.ones(len(found), int)
        self._counts = np.append(self._counts, ones)[-self.max_length:]

    # MMEngine's names of its two arrays
    _log_history = settled('_logs')
    _count_history = settled('_counts')

    def __reduce__(self):
        return HistoryBuffer, (*self.data, self.max_length)


def late_history(hub: MessageHub, name: str) -> LateHistory:
    """The history of that name, which may have been MMEngine's so far."""
    found = hub.log_scalars.get(name)
    if not isinstance(found, LateHistory):
        hub._set_resumed_keys(name, True)
        found = LateHistory(*(found.data if found is not None else ([], [])))
        hub.log_scalars[name] = found
    return found
