"""What was measured as a picture."""
import textwrap
from typing import Callable, Dict, List, Sequence

import matplotlib
import numpy as np

from seg_kd.benchmark.scale import x_of
from seg_kd.benchmark.show import in_digits
from seg_kd.benchmark.timing import Rows

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

WITH_PARTS = ('floor', 'student alone', 'teacher alone', 'step')
MANY = 30  # rows


def draw(part: str, rows: Rows, title: str, path: str) -> None:
    """Of a part of the tool, by its name."""
    figure = plt.figure(layout='constrained')
    PARTS[part](figure, rows)
    figure.suptitle(textwrap.fill(title, 90), fontsize=10)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_losses(figure: plt.Figure, rows: Rows) -> None:
    """Bars: time and memory of naive forms and peers, as multiples of ours.

    Ours is the line at 1; what is to the right of it costs more.
    """
    figure.set_size_inches(10, 1.2 + .3 * len(rows))
    axes = figure.subplots(1, 2, sharey=True)
    for axis, what in zip(axes, ('time', 'MiB')):
        for k, form in enumerate(('naive', 'peer')):
            ratios = [row[f'{form} x {what}'] for row in rows.values()]
            bars(axis, ratios, k, form)
        axis.axvline(1, color='black', linewidth=1)
        axis.set_xscale('log')
        axis.set_title('time / ours' if what == 'time' else 'memory / ours')
        axis.grid(axis='x', alpha=.3)
    label_rows(axes[0], list(rows))
    axes[1].legend()


def bars(axis: plt.Axes, ratios: list, place: int, name: str) -> None:
    """From the line at 1 to each ratio; none where there is no ratio."""
    at = np.arange(len(ratios)) + .4 * place - .2
    ratio = np.array([np.nan if x is None else x for x in ratios])
    axis.barh(at, ratio - 1, .4, left=1, label=name)


def label_rows(axis: plt.Axes, names: List[str]) -> None:
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


def draw_scale(figure: plt.Figure, rows: Rows) -> None:
    """Above milliseconds, below MiB: against crop, batch, hooks, positions."""
    figure.set_size_inches(17, 8)
    axes = figure.subplots(2, 4)
    measured = {k: v for k, v in rows.items() if 'exponent' not in k}
    steps = {k: v for k, v in measured.items() if 'step ms' in v}
    for line, unit in zip(axes, ('ms', 'MiB')):
        for axis, of in zip(line, ('pixels', 'images', 'x hooks')):
            here = {k: v for k, v in steps.items() if of in k}
            for name in ('student alone', 'teacher alone', 'step'):
                curve(axis, here, f'{name} {unit}', name)
            axis.set_xticks([x_of(name) for name in here])
            axis.set_xlim(left=0)  # what is linear points to the corner
            axis.set_ylim(bottom=0)
            axis.set_xlabel(of)
        line[0].legend(loc='upper left')
        losses = {k: v for k, v in measured.items() if 'ours ms' in v}
        relations(line[3], losses, unit)
        for axis in line:
            axis.set_ylabel(unit)
            axis.grid(alpha=.3)
    axes[0, 3].legend(fontsize=8, loc='upper left', bbox_to_anchor=(1, 1))


def curve(axis: plt.Axes, rows: Rows, column: str, label: str, **style):
    points = [(x_of(name), row[column]) for name, row in rows.items()
              if row[column] is not None]
    if points:
        return axis.plot(*zip(*sorted(points)),
                         label=label,
                         marker='.',
                         **style)


def relations(axis: plt.Axes, rows: Rows, unit: str) -> None:
    """One colour a loss; the naive forms dashed."""
    names = dict.fromkeys(name.rsplit(' ', 1)[0] for name in rows)
    for k, name in enumerate(names):
        own = {key: v for key, v in rows.items() if key.startswith(name)}
        curve(axis, own, f'ours {unit}', name, color=f'C{k}')
        curve(axis, own, f'naive {unit}', None, color=f'C{k}', linestyle=':')
    axis.set_xscale('log', base=2)
    axis.set_yscale('log')
    axis.set_xlabel('positions (dotted: naive)')


PARTS: Dict[str, Callable[[plt.Figure, Rows],
                          None]] = dict(losses=draw_losses,
                                        step=draw_step,
                                        inference=draw_inference,
                                        scale=draw_scale,
                                        ddp=draw_ddp)
