"""Charts as SVG that takes the colour of its text from the page.

What matplotlib draws in the colour ``INK`` becomes ``currentColor``, so that
one drawing is legible on a light and on a dark page.
"""
import io
import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import matplotlib
import numpy as np
from markupsafe import Markup

from seg_kd.report.page import Chart

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

INK = '#010203'
# What other drawings have in a dark grey.
DARK = (INK, '#000000', '#333333', '#4c4c4c')
# Legible on white and on nearly black.
COLOURS = ('#3b82c4', '#e07b1a', '#3d9a50', '#d1495b', '#8f6fc9', '#a8743f',
           '#d66ba0', '#7f8a93', '#a3a022', '#1fa3b0')
POINTS = 400  # of one curve
SIZE = (4.4, 2.9)  # inches
FEW = 1e-4  # of all pixels: a bar of less says nothing
CELL = .22  # inches, of a matrix
SAID = 8  # curves in the text for those who do not see them
_NUMBERS = itertools.count()


def colours(names: Sequence[str]) -> dict[str, str]:
    """A colour for each name, in their order."""
    return dict(zip(dict.fromkeys(names), itertools.cycle(COLOURS)))


@contextmanager
def style() -> Iterator[None]:
    """What is drawn inside has ink that the page colours."""
    settings = {
        'svg.fonttype': 'none',
        'font.family': 'sans-serif',
        'font.size': 9,
        'axes.titlesize': 10,
        'text.parse_math': False,  # a $ in a name is a $
        'savefig.format': 'svg',
        'savefig.transparent': True,
        'legend.framealpha': 0,
        'axes.spines.top': False,
        'axes.spines.right': False
    }
    settings.update(
        dict.fromkeys(('text.color', 'axes.labelcolor', 'axes.edgecolor',
                       'axes.titlecolor', 'xtick.color', 'ytick.color'), INK))
    with matplotlib.rc_context(settings):
        yield


def drawn(draw: Callable[[io.BytesIO], None], alt: str) -> Chart:
    """What a function saves into a file, as a chart.

    Identifiers are made unique: a page has them once.
    """
    file = io.BytesIO()
    with style():
        draw(file)
    svg = file.getvalue().decode()
    svg = svg[svg.index('<svg'):]
    svg = re.sub(r'<metadata>.*?</metadata>', '', svg, flags=re.DOTALL)
    own = f'chart{next(_NUMBERS)}-'
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf'\g<1>{own}', svg)
    for dark in DARK:
        svg = svg.replace(dark, 'currentColor')
    return Chart(Markup(svg), alt)


@contextmanager
def _axis(file: io.BytesIO,
          size: tuple[float, float] = SIZE) -> Iterator[plt.Axes]:
    figure, axis = plt.subplots(figsize=size, layout='constrained')
    yield axis
    figure.savefig(file)
    plt.close(figure)


def lines(title: str, curves: Mapping[str, Sequence[tuple]],
          colour: Mapping[str, str]) -> Chart:
    """A line for each run: ``name -> [(iteration, value), ...]``."""

    def draw(file: io.BytesIO) -> None:
        with _axis(file) as axis:
            highest = 0.
            for name, points in curves.items():
                x, y = np.array(thinned(points), float).T
                axis.plot(x,
                          y,
                          color=colour[name],
                          linewidth=1.4,
                          alpha=.9,
                          marker='o' if len(x) < 8 else '',
                          markersize=4)
                good = y[np.isfinite(y)]
                if good.size:
                    # the first steps may be far above all others
                    highest = max(highest,
                                  np.percentile(good, 98) * 1.15,
                                  good[-1] * 1.1)
            axis.set_title(title)
            axis.set_xlabel('iteration')
            axis.grid(color='#80808050', linewidth=.6)
            axis.set_ylim(bottom=min(0., axis.get_ylim()[0]))
            if highest > 0:
                axis.set_ylim(top=min(axis.get_ylim()[1], highest))

    ends = ', '.join(f'{name} ends at {points[-1][1]:.3g}'
                     for name, points in list(curves.items())[:SAID])
    return drawn(draw, f'{title} over iterations: {ends}')


def thinned(points: Sequence[tuple]) -> Sequence[tuple]:
    """At most about :data:`POINTS`, evenly, with the last."""
    step = -(-len(points) // POINTS)
    return points if step == 1 else [*points[:-1:step], points[-1]]


def bars(title: str, values: Mapping[str, float], unit: str) -> Chart:
    """A bar for each name, to the right or to the left of 0."""

    def draw(file: io.BytesIO) -> None:
        with _axis(file, (4.4, .8 + .24 * len(values))) as axis:
            heights = list(values.values())
            shown = axis.barh(
                range(len(values)),
                heights,
                color=[COLOURS[0] if v >= 0 else COLOURS[1] for v in heights])
            axis.bar_label(shown, [f'{v:+.1f}' for v in heights],
                           padding=3,
                           fontsize=8)
            axis.axvline(0, color=INK, linewidth=.8)
            axis.set_yticks(range(len(values)), list(values))
            axis.set_ylim(len(values) - .4, -.6)
            axis.margins(x=.18)
            axis.set_title(title)
            axis.set_xlabel(unit)
            axis.grid(axis='x', color='#80808050', linewidth=.6)

    said = ', '.join(f'{name} {value:+.1f}' for name, value in values.items())
    return drawn(draw, f'{title}, {unit}: {said}')


def reliability(title: str, bins: np.ndarray, colour: str) -> Chart:
    """Accuracy by confidence, as bars, and the diagonal.

    Without the bins that hold next to nothing.

    Args:
        title: What network.
        bins: Of :class:`~seg_kd.analysis.quality.Quality`.
        colour: Of the bars.
    """
    count = np.maximum(bins[:, 0], 1)
    accuracy, confidence = bins[:, 2] / count, bins[:, 1] / count
    there = bins[:, 0] > FEW * bins[:, 0].sum()

    def draw(file: io.BytesIO) -> None:
        with _axis(file, (4.4, 3.1)) as axis:
            edges = np.linspace(0, 1, len(bins) + 1)
            axis.bar(edges[:-1][there],
                     accuracy[there],
                     1 / len(bins),
                     align='edge',
                     color=colour,
                     alpha=.75,
                     edgecolor=colour)
            axis.plot([0, 1], [0, 1], '--', color=INK, linewidth=1)
            axis.set(xlim=(0, 1),
                     ylim=(0, 1),
                     title=title,
                     xlabel='confidence',
                     ylabel='accuracy')

    said = ', '.join(f'{100 * a:.0f} % right at {100 * c:.0f} %'
                     for a, c in zip(accuracy[there], confidence[there]))
    return drawn(draw, f'{title}: {said} confidence')


def matrix(title: str,
           values: np.ndarray,
           rows: Sequence[str],
           columns: Sequence[str],
           labels: tuple[str, str],
           alt: str,
           digits: bool = False) -> Chart:
    """Values from 0 to 1, in percent, as cells with the names beside them.

    Args:
        title: On top.
        values: ``(rows, columns)``; NaN stays empty.
        rows: Their names.
        columns: Their names.
        labels: What is down, and what is across.
        alt: What it shows, in words.
        digits: Write them into the cells, but for 0.
    """

    def draw(file: io.BytesIO) -> None:
        width, height = len(columns), len(rows)
        size = (max(4.2, 1.9 + CELL * width), max(2.6, 1.5 + CELL * height))
        with _axis(file, size) as axis:
            # As vectors: a picture would be smoothed, or blurred by scaling.
            shown = axis.pcolormesh(np.ma.masked_invalid(100 * values),
                                    vmin=0,
                                    vmax=100,
                                    cmap='viridis',
                                    linewidth=.2,
                                    edgecolor='face')
            axis.invert_yaxis()
            axis.set_xticks(np.arange(width) + .5, columns, rotation=90)
            axis.set_yticks(np.arange(height) + .5, rows)
            axis.tick_params(length=0, labelsize=8)
            axis.set(title=title, ylabel=labels[0], xlabel=labels[1])
            for spine in axis.spines.values():
                spine.set_visible(False)
            if digits:
                for (y, x), value in np.ndenumerate(values):
                    if value >= .005:  # no 0, and no NaN
                        axis.text(x + .5,
                                  y + .5,
                                  f'{100 * value:.0f}',
                                  ha='center',
                                  va='center',
                                  fontsize=7,
                                  color='#ffffff' if value < .6 else '#101010',
                                  in_layout=False)
            bar = axis.figure.colorbar(shown, ax=axis, fraction=.05)
            bar.outline.set_visible(False)
            bar.ax.tick_params(labelsize=7)

    return drawn(draw, alt)
