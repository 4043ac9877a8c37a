"""What was measured as text, and on which machine."""
import os
import platform
from itertools import groupby
from typing import Any

import torch
from prettytable import PrettyTable

from seg_kd.benchmark.timing import Rows


def machine() -> dict[str, Any]:
    """What the times depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return dict(gpu=gpu,
                cpu=cpu_name(),
                threads=torch.get_num_threads(),
                torch=torch.__version__,
                load=round(os.getloadavg()[0], 1))


def cpu_name() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as f:
            return next(
                line.split(':')[1].strip() for line in f
                if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def tables(rows: Rows) -> list[str]:
    """One for each run of rows with the same columns."""
    groups = groupby(rows.items(), key=lambda item: list(item[1]))
    return [table(dict(group)) for _, group in groups]


def table(rows: Rows) -> str:
    columns = [
        key for key in next(iter(rows.values()))
        if not key.endswith((' min', ' max')) and any(row[key] is not None
                                                      for row in rows.values())
    ]
    shown = PrettyTable(['', *columns], align='r')
    shown.align[''] = 'l'
    for name, row in rows.items():
        shown.add_row([name, *(in_digits(row[key]) for key in columns)])
    return str(shown)


def in_digits(value: float | None) -> str:
    """About three digits that count, and never an exponent."""
    if value is None:
        return '-'
    if isinstance(value, int):
        return str(value)
    return f'{value:.{0 if value >= 100 else 1 if value >= 10 else 3}f}'
