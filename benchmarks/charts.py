"""What was measured as a picture."""
import matplotlib.pyplot as plt
import numpy as np
from growth import x_of

from seg_kd.benchmark import Rows
from seg_kd.benchmark.chart import label_rows


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
