"""Exponents: slopes of lines through logarithms of costs."""
from collections.abc import Sequence

import numpy as np

from seg_kd.benchmark import Rows


def add_exponents(rows: Rows, of: str) -> None:
    """One more row; no number where a cost was measured less than twice."""
    points = {x_of(name): row for name, row in rows.items() if of in name}
    rows[f'{of}: exponent'] = {
        column:
        exponent([(x, row[column]) for x, row in points.items()
                  if row[column]]) if column.endswith(
                      (' ms', ' MiB')) and ' x ' not in column else None
        for column in next(iter(points.values()))
    }


def exponent(points: Sequence) -> float | None:
    if len(points) < 2:
        return None
    x, y = np.log(np.array(points, float).T)
    return float(np.polyfit(x, y, 1)[0])


def x_of(name: str) -> int:
    """``'2048 pixels' -> 2048``, ``'sp all 1024' -> 1024``."""
    return next(int(word) for word in name.split() if word.isdigit())
