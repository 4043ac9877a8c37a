"""Which numbers a setting may have, by its name."""
import math
import os
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Limit:
    """A number, or a list of such, from ``low`` to ``high``."""

    low: float = 0.
    high: float = math.inf
    whole: bool = False
    above: bool = False  # more than ``low``
    texts: tuple[str, ...] = ()  # that may stand in its place

    def allows(self, value: Any) -> bool:
        if isinstance(value, (list, tuple)):
            return all(map(self.allows, value))
        if value is None or isinstance(value, dict):  # not what this is about
            return True
        if isinstance(value, str):
            return value in self.texts
        if isinstance(value, bool):
            return False
        if not isinstance(value, (int, float)):
            return True
        if not math.isfinite(value) or self.whole and not isinstance(
                value, int):
            return False
        return (self.low < value or not self.above and value == self.low) \
            and value <= self.high

    def __str__(self) -> str:
        kind = 'a whole number' if self.whole else 'a number'
        start = f'{"above" if self.above else "from"} {self.low:.10g}'
        end = f' to {self.high:.10g}'
        if math.isinf(self.high):
            end = '' if self.above else ' on'
        return ' or '.join([f'{kind} {start}{end}', *map(repr, self.texts)])


COUNT = Limit(1, 10**9, whole=True)
FEW = Limit(1, 2**16, whole=True)  # so that memory is not what says no
PART = Limit(0, 1)
FROM_0 = Limit(0, 10**9, whole=True)
WORKERS = Limit(0, max(64, 4 * (os.cpu_count() or 1)), whole=True)


def _each(names: str, limit: Limit) -> dict[str, Limit]:
    return dict.fromkeys(names.split(), limit)


# Of any class.
LIMITS = {
    **_each(
        'max_iters max_epochs val_interval accumulative_counts '
        'base_batch_size', COUNT),
    **_each(
        'batch_size channels in_channels num_classes size crop_size '
        'prefetch_factor', FEW),
    **_each('prob momentum betas', PART),
    **_each('begin val_begin', FROM_0),
    **_each(
        'lr weight_decay loss_weight decay_mult lr_mult eta_min power max_gib',
        Limit()),
    **_each('max_norm', Limit(above=True)),
    **_each('pad_val seg_pad_val', Limit(-1000, 1000)),
    'num_convs':
    Limit(0, 1000, whole=True),
    'in_index':
    Limit(-1000, 1000, whole=True),
    'widen_factor':
    Limit(0, 100, above=True),
    'scale_factor':
    Limit(0, 1000, above=True),
    'dropout_ratio':
    Limit(-1, 1),  # MMSegmentation's -1 means none
    'num_workers':
    WORKERS,
    'seed':
    Limit(0, 2**32 - 1, whole=True),
    'window_size':
    Limit(1, 10**9, whole=True, texts=('epoch', 'global')),
    'opencv_num_threads':
    Limit(-1, 2**16, whole=True),
    'max_keep_ckpts':
    Limit(-1, whole=True),
}
SCHEDULE_LIMITS = {**LIMITS, 'end': FROM_0}
# Of a distillation hook.
TERM_LIMITS = {
    **LIMITS,
    **_each('start end warmup connector_iters', FROM_0),
    **_each('temperature auto_ratio', Limit(above=True)),
    'weight':
    Limit(texts=('auto', )),
    'auto_iters':
    COUNT,
}
MOVE_LIMITS = {  # of a transform of albumentations
    **LIMITS, 'p': PART,
    'max_ratio': PART,
    'height': FEW,
    'width': FEW
}
