"""The table of the losses as a picture."""
import matplotlib
import numpy as np

from .timing import Rows

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402


def draw_losses(rows: Rows, title: str, path: str) -> None:
    """Bars: time and memory of naive forms and peers, as multiples of ours.

    Ours is the line at 1; what is to the right of it costs more.
    """
    figure, axes = plt.subplots(1,
                                2,
                                figsize=(10, 1.2 + .3 * len(rows)),
                                sharey=True,
                                layout='constrained')
    for axis, what in zip(axes, ('time', 'MiB')):
        for k, form in enumerate(('naive', 'peer')):
            ratios = [row[f'{form} x {what}'] for row in rows.values()]
            bars(axis, ratios, k, form)
        axis.axvline(1, color='black', linewidth=1)
        axis.set_xscale('log')
        axis.set_title('time / ours' if what == 'time' else 'memory / ours')
        axis.grid(axis='x', alpha=.3)
    axes[0].set_yticks(range(len(rows)), list(rows))
    axes[0].set_ylim(len(rows) - .4, -.6)  # the first on top
    axes[1].legend()
    figure.suptitle(title)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def bars(axis: plt.Axes, ratios: list, place: int, name: str) -> None:
    """From the line at 1 to each ratio; none where there is no ratio."""
    at = np.arange(len(ratios)) + .4 * place - .2
    ratio = np.array([np.nan if x is None else x for x in ratios])
    axis.barh(at, ratio - 1, .4, left=1, label=name)
