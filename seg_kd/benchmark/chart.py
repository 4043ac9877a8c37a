"""What was measured as a picture."""
import textwrap
from collections.abc import Callable, Sequence

import matplotlib
import numpy as np

from seg_kd.benchmark.show import in_digits
from seg_kd.benchmark.timing import Rows

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

WITH_PARTS = ('floor', 'student alone', 'teacher alone', 'step')
MANY = 30  # rows


def draw(part: str | Callable[[plt.Figure, Rows], None], rows: Rows,
         title: str, path: str) -> None:
    """By what draws it, or by the name of a part of the tool."""
    figure = plt.figure(layout='constrained')
    parts = dict(step=draw_step, inference=draw_inference, ddp=draw_ddp)
    parts.get(part, part)(figure, rows)
    figure.suptitle(textwrap.fill(title, 90), fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def label_rows(axis: plt.Axes, names: list[str]) -> None:
    axis.set_yticks(range(len(names)), names)
    axis.set_ylim(len(names) - .4, -.6)  # the first on top


def draw_step(figure: plt.Figure, rows: Rows) -> None:
    """Bars: milliseconds of the floor, the step, and the parts of that.

    The parts of terms are left out where there are many.
    """
    if len(rows) > MANY:
        rows = {k: row for k, row in rows.items() if not k.startswith('- ')}
    figure.set_size_inches(8, 1.2 + .3 * len(rows))
    axis = figure.subplots()
    colours = ['C7' if name in WITH_PARTS else 'C0' for name in rows]
    spread_bars(axis, rows, 'ms', colours)
    axis.set_xlabel('median ms; lines: from the least to the most; in\n'
                    'brackets: grey to the floor, blue of the whole')


def spread_bars(axis: plt.Axes, rows: Rows, unit: str,
                colours: Sequence[str]) -> None:
    low, middle, high = (np.array(
        [row[f'{k} {unit}'] for row in rows.values()])
                         for k in ('min', 'median', 'max'))
    axis.barh(range(len(rows)),
              middle,
              color=colours,
              xerr=(middle - low, high - middle),
              error_kw=dict(alpha=.5, capsize=2))
    for k, row in enumerate(rows.values()):
        ratio = row.get('share') or row.get('time / floor')
        text = in_digits(middle[k]) + (f' ({ratio:.2f})' if ratio else '')
        axis.annotate(text, (high[k], k), (4, 0),
                      textcoords='offset points',
                      va='center',
                      fontsize=8)
    axis.margins(x=.15)
    axis.grid(axis='x', alpha=.3)
    label_rows(axis, list(rows))


def draw_inference(figure: plt.Figure, rows: Rows) -> None:
    """One panel of bars for each number."""
    shown = ('median ms', 'images / s', 'GFLOPs', 'M parameters', 'MiB')
    figure.set_size_inches(2.4 * len(shown), 1.6 + .3 * len(rows))
    axes = figure.subplots(1, len(shown), sharey=True)
    for axis, column in zip(axes, shown):
        values = [row[column] for row in rows.values()]
        found = axis.barh(range(len(rows)), values, color='C0')
        axis.bar_label(found, fmt='%.3g', padding=3, fontsize=8)
        axis.margins(x=.35)
        axis.set_title(column, fontsize=10)
    label_rows(axes[0], list(rows))


def draw_ddp(figure: plt.Figure, rows: Rows) -> None:
    """Images a second of one process and of two."""
    figure.set_size_inches(7, 1.4 + .8 * len(rows))
    axis = figure.subplots()
    for k, processes in enumerate((1, 2)):
        speed = [row[f'{processes}: images / s'] for row in rows.values()]
        found = axis.barh(np.arange(len(rows)) + .4 * k - .2,
                          speed,
                          .38,
                          label=f'{processes} process{"es" * k}')
        axis.bar_label(found, fmt='%.3g', padding=3, fontsize=8)
    label_rows(axis, [
        f'{name}\nefficiency {row["efficiency"]:.2f}'
        for name, row in rows.items()
    ])
    axis.margins(x=.1)
    axis.set_xlabel('images / s')
    axis.legend()
