"""How the costs grow: of a step, and of the losses that compare positions.

Example: python benchmarks/scale.py configs/ka_deeplab.py --chart growth.png
"""
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from statistics import median
from tempfile import TemporaryDirectory

import charts
import command
from growth import add_exponents
from relations import RELATIONS, foresee, relation_row

from seg_kd import cli
from seg_kd.benchmark import Found, Rows, Source, announced, build_runner
from seg_kd.benchmark.step import ALONE, WARM_UP, measure
from seg_kd.commands.benchmark import add_configs, show, sources

Row = dict[str, float | None]


def bench_scale(sources: Sequence[Source], heights: Sequence[int],
                batches: Sequence[int], hooks: Sequence[int],
                positions: Sequence[int], naive: int, channels: int,
                runs: int) -> Found:
    """Title, rows and notes.

    A step on noise, with random weights: with crops of each of the heights,
    twice as wide, one by one; then in batches at the middle height; then
    there with the distillation hooks repeated. After that forward and backward
    of the relation losses.

    A row ``exponent`` is the slope of a line through the logarithms: what
    grows with the square of the pixels has 2 there.

    Args:
        sources: As for a step.
        heights: Of the crops.
        batches: Numbers of images.
        hooks: How often each hook is there.
        positions: That are compared with each other.
        naive: Most positions that the naive forms are given.
        channels: Of the maps whose positions these are.
        runs: Of each, after the warm-up.
    """
    middle = sorted(heights)[len(heights) // 2]
    middle_crop = middle, 2 * middle

    @lru_cache(None)  # the middle is in all three
    def step(n: int, height: int, width: int, times: int) -> Row:
        return step_row(sources, (n, height, width), times, runs)

    works: dict[str, Callable[[], Row]] = {}
    for h in heights:
        works[f'{2 * h * h} pixels'] = partial(step, 1, h, 2 * h, 1)
    for n in batches:
        works[f'{n} images'] = partial(step, n, *middle_crop, 1)
    for n in hooks:
        works[f'{n} x hooks'] = partial(step, 1, *middle_crop, n)
    for name in RELATIONS:
        for n in sorted(positions):
            works[f'{name} {n}'] = partial(relation_row, name, n, naive,
                                           channels, runs)
    found = {name: works[name]() for name in announced(works)}
    rows: Rows = {}
    for group in ('pixels', 'images', 'x hooks', *RELATIONS):
        rows.update({k: v for k, v in found.items() if group in k})
        if group != 'x hooks':
            add_exponents(rows, group)
    notes = [x for name in RELATIONS for x in foresee(rows, name, positions)]
    title = (f'growth: crops one by one; batches, and the hooks repeated, at '
             f'{middle}x{2 * middle}; losses on {channels} channels')
    return title, rows, notes


def step_row(sources: Sequence[Source], images: Sequence[int], times: int,
             runs: int) -> Row:
    with TemporaryDirectory() as folder:
        built = build_runner(sources,
                             images,
                             WARM_UP + runs + 1,
                             folder,
                             data=False,
                             times=times)
        taken, memory = measure(built.runner)
    row: Row = {}
    for name in (*ALONE, 'step'):
        row[f'{name} ms'] = median(taken[name])
        row[f'{name} min'] = min(taken[name])
        row[f'{name} max'] = max(taken[name])
    ratios = [a / b for a, b in zip(taken['step'], taken['floor'])]
    row['step / floor'] = median(ratios)
    row.update({f'{name} MiB': memory[name] for name in (*ALONE, 'step')})
    return row


# -- the command -----------------------------------------------------------


def main() -> None:
    parser = command.make_parser(__doc__, runs=2)
    add_configs(parser)
    for name, default, text in (
        ('--heights', (64, 128, 256), 'of crops, half as high as wide'),
        ('--batches', (1, 2, 4), 'images, at the middle height'),
        ('--hooks', (1, 2, 4), "times the configs' hooks"),
        ('--positions', (1024, 2048, 4096, 8192, 16384, 32768),
         'that a relation loss compares'),
    ):
        command.add_number(parser, name, default, text, nargs='+')
    command.add_number(parser, '--naive', 8192,
                       'most positions for the naive forms')
    command.add_number(parser, '--channels', 256, 'of the maps there')
    args = command.parse(parser)
    found = bench_scale(sources(args), args.heights, args.batches, args.hooks,
                        args.positions, args.naive, args.channels, args.runs)
    show(args, found, charts.draw_scale)


if __name__ == '__main__':
    raise SystemExit(cli.run(main))
