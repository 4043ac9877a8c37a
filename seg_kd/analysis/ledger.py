"""Finished runs, one JSON line each, and what they say together.

Runs of different days and machines add up in one file; tables and charts are
made from it and never typed. A comparison is paired: a method and the student
alone in the same experiment, with the same seed, on the same fold, for the
same number of iterations.
"""
import json
import os
import warnings
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from statistics import mean, stdev
from typing import IO, Any

import matplotlib
import numpy as np
from prettytable import PrettyTable
from scipy import stats
from statsmodels.stats.multitest import multipletests
from statsmodels.stats.power import TTestPower

from seg_kd.errors import UserError

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

ALONE = 'student'
LEVEL = 0.95  # of intervals; 1 - LEVEL of the tests
ROUNDING = 1e-9  # gains that differ by less are equal
POWER = 0.8  # at which the smallest detectable difference is given
# What two runs must share to be a pair.
PAIR = ('experiment', 'iterations', 'fold', 'seed')
# What a run must have, and of which kind.
KINDS = {
    'method': str,
    'experiment': str,
    'iterations': int,
    'fold': (str, type(None)),
    'seed': int,
    'miou': (int, float),
    'wall_s': (int, float)
}

Run = dict[str, Any]


def append(path: str, run: Run) -> None:
    """Adds one finished run.

    Raises:
        UserError: The run lacks one of ``KINDS``, or it is of another kind.
    """
    problem = damage(run)
    if problem:
        raise UserError(f'{path}: not added: {problem}')
    os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
    with open(path, 'a+b') as f:
        if f.tell():
            f.seek(-1, os.SEEK_END)
            if f.read() != b'\n':  # a line that was cut off
                f.write(b'\n')
        f.write(json.dumps(run).encode() + b'\n')


def check_writable(path: str) -> None:
    """Before hours are spent on what is to go there.

    Raises:
        UserError: It cannot be written.
    """
    try:
        os.makedirs(os.path.dirname(path) or '.', exist_ok=True)
        open(path, 'ab').close()
    except OSError as error:
        raise UserError(f'the ledger {path} cannot be written: '
                        f'{error.strerror}') from error


def read(path: str) -> list[Run]:
    """All runs of a ledger; a damaged line is left out with a warning.

    Raises:
        UserError: There is no such file, or no run in it.
    """
    if not os.path.isfile(path):
        raise UserError(f'there is no ledger {path}')
    runs = []
    with open(path, encoding='utf-8', errors='replace') as f:
        for number, line in enumerate(f, 1):
            if not line.strip():
                continue
            try:
                run = json.loads(line)
                problem = damage(run)
            except ValueError as error:
                problem = f'not JSON ({error})'
            if problem:
                warnings.warn(f'{path}, line {number} is left out: {problem}')
            else:
                runs.append(run)
    if not runs:
        raise UserError(f'the ledger {path} holds no run')
    return runs


def noted(run: Run, runs: list[Run]) -> bool:
    """Is this very run what the runs say last of its method and pair?

    And would it be in a table, beside what they say of other seeds and folds?
    """
    latest: dict[tuple, Any] = {}
    last: Run = {}
    for old in runs:
        latest.update((key, value) for key, value, _ in _in_common(old))
        if all(old.get(k) == run[k] for k in ('method', *PAIR)):
            last = old
    return last.get('miou') == run['miou'] and \
        last.get('alone', run.get('alone')) == run.get('alone') and \
        all(latest.get(key, value) == value
            for key, value, _ in _in_common(run))


def damage(run: Any) -> str:
    """What is wrong with a run of a ledger, or ''."""
    if not isinstance(run, dict):
        return 'not an object'
    missing = [key for key in KINDS if key not in run]
    if missing:
        return f'{", ".join(missing)} missing'
    for key, kinds in KINDS.items():
        if not isinstance(run[key], kinds) or isinstance(run[key], bool):
            return f'{key} is {run[key]!r}'
    if not np.isfinite(run['miou']):
        return f'an mIoU of {run["miou"]}'
    if not 0 < run['wall_s'] < float('inf'):
        return f'wall_s is {run["wall_s"]}'
    iou = run.get('iou')  # a list in old ledgers, which nothing reads
    if isinstance(iou, dict) and not all(
            isinstance(value, (int, float)) for value in iou.values()):
        return f'iou is {iou!r:.80}'
    return ''


@dataclass
class Comparison:
    """A method against the student alone, over pairs of runs.

    Differences are in points of mIoU, the method minus the student alone.
    """
    method: str
    iterations: int
    scores: list[float]  # of the method
    alone: list[float]  # of the student alone, pair by pair
    keys: list[tuple]  # experiment, iterations, fold, seed of each pair
    wall: float  # wall-clock time, times that of the student alone
    p: float = float('nan')  # two-sided, corrected over the table (Holm)
    other_network: bool = False  # than that of the student alone

    @property
    def title(self) -> str:
        """The method; a gain of another network is not the method's alone."""
        return self.method + ' (another network)' * self.other_network

    @property
    def gains(self) -> list[float]:
        return [a - b for a, b in zip(self.scores, self.alone)]

    @property
    def gain(self) -> float:
        return mean(self.gains)

    @property
    def interval(self) -> tuple[float, float]:
        """That of the mean difference, at ``LEVEL``; infinite for one pair."""
        if len(self.gains) < 2:
            return float('-inf'), float('inf')
        if stdev(self.gains) < ROUNDING:  # scipy warns of these
            return self.gain, self.gain
        found = stats.ttest_1samp(self.gains, 0.).confidence_interval(LEVEL)
        return float(found.low), float(found.high)

    @property
    def raw_p(self) -> float:
        """The p-value of a paired two-sided t-test; NaN for one pair."""
        if len(self.gains) < 2:
            return float('nan')
        if stdev(self.gains) < ROUNDING:
            return float(abs(self.gain) < ROUNDING)
        return float(stats.ttest_rel(self.scores, self.alone).pvalue)

    @property
    def detectable(self) -> float:
        """The smallest mean difference that so many pairs with such a spread
        show with a probability of ``POWER``; infinite for one pair."""
        if len(self.gains) < 2:
            return float('inf')
        effect = TTestPower().solve_power(nobs=len(self.gains),
                                          alpha=1 - LEVEL,
                                          power=POWER)
        return float(effect) * stdev(self.gains)


def by_pair(runs: list[Run]) -> dict[str, dict[tuple, Run]]:
    """The last run of each method and pair.

    Runs of a method whose settings, data or teacher have changed since are
    left out with a warning, and so are those that were made beside another
    student alone.
    """
    found: dict[str, dict[tuple, Run]] = defaultdict(dict)
    latest: dict[tuple, Any] = {}
    for run in runs:
        found[run['method']][tuple(run[k] for k in PAIR)] = run
        latest.update((key, value) for key, value, _ in _in_common(run))
    for method, own in found.items():
        left_out: dict[str, list[str]] = defaultdict(list)
        for key, run in list(own.items()):
            old = [
                why for common, value, why in _in_common(run)
                if latest[common] != value
            ]
            fold = (ALONE, *(run[k] for k in PAIR if k != 'seed'), 'settings')
            beside, now = run.get('alone'), latest.get(fold)
            if not old and beside and now and beside != now:
                old = ['the student alone has other settings now']
            if old:
                del own[key]
                left_out[old[0]].append(' of '.join(
                    filter(None, (str(run['seed']), run['fold']))))
        for why, seeds in left_out.items():
            warnings.warn(f'{method}, seed {", ".join(seeds)}: left out, '
                          f'{why}; run the same comparison again')
    return found


def _in_common(run: Run) -> Iterator[tuple[tuple, Any, str]]:
    """What is to be the same in all runs that a table makes one row of.

    Yields:
        What names it, its value, and what it means if a later run has another.
    """
    row = tuple(run[k] for k in ('method', 'experiment', 'iterations'))
    changed = 'the settings have changed since'
    yield (*row, run['fold'], 'settings'), run.get('settings'), changed
    if 'unfolded' in run:
        yield (*row, 'unfolded'), run['unfolded'], changed
    if 'made_of' in run:
        yield ((*row, run['fold'], 'made_of'), run['made_of'],
               'its data or its teacher have changed since')


def _twice(keys: Sequence[tuple], alone: dict[tuple, Run]) -> set[tuple]:
    """Those without a fold whose student alone is that of a named fold."""
    named = {(*k[:2], k[3], alone[k].get('settings'))
             for k in keys if k[2] is not None}
    return {k for k in keys if k[2] is None and alone[k].get('settings')
            and (*k[:2], k[3], alone[k]['settings']) in named}  # yapf: disable


def paired(runs: list[Run]) -> list[str]:
    """The methods with a run that the student alone has a pair to."""
    with warnings.catch_warnings():  # `compare` says them
        warnings.simplefilter('ignore')
        found = by_pair(runs)
    alone = found.get(ALONE, {})
    return [m for m in found if m != ALONE and found[m].keys() & alone.keys()]


def compare(runs: list[Run],
            methods: list[str] | None = None) -> list[Comparison]:
    """Each method against the student alone, over all of their pairs.

    Runs of another number of iterations are another comparison.

    Args:
        runs: Of a ledger. Of several runs of one thing the last counts.
        methods: In this order; by default all that have a pair.

    Raises:
        UserError: A method has no run that pairs with one of the student
            alone.
    """
    by_method = by_pair(runs)
    alone = by_method.get(ALONE, {})
    methods = methods or paired(runs)
    if not methods:
        raise UserError('the ledger has no method that is paired with '
                        f'{ALONE!r}: the same {", ".join(PAIR)}')
    found = []
    for method in methods:
        own = by_method.get(method, {})
        paired_keys = sorted(own.keys() & alone.keys(), key=str)
        if not paired_keys:
            raise UserError(
                f'{method!r} is not paired with the student alone: '
                f'{len(own)} runs of it and {len(alone)} of {ALONE!r}, none '
                f'of the same {", ".join(PAIR)}')
        twice = _twice(paired_keys, alone)
        paired_keys = [k for k in paired_keys if k not in twice]
        for length in sorted({own[k]['iterations'] for k in paired_keys}):
            keys = [k for k in paired_keys if own[k]['iterations'] == length]
            wall = mean(own[k]['wall_s'] / alone[k]['wall_s'] for k in keys)
            found.append(
                Comparison(method,
                           length, [own[k]['miou'] for k in keys],
                           [alone[k]['miou'] for k in keys],
                           keys,
                           wall,
                           other_network=any(own[k].get('other_network')
                                             for k in keys)))
    tested = [c for c in found if np.isfinite(c.raw_p)]
    if tested:
        corrected = multipletests([c.raw_p for c in tested], method='holm')[1]
        for comparison, p in zip(tested, corrected):
            comparison.p = float(p)
    return found


def table(comparisons: list[Comparison]) -> PrettyTable:
    """One row per method: means, paired difference, interval, p, cost."""
    shown = PrettyTable([
        'method', 'iterations', 'pairs', 'mIoU', 'alone', 'gain',
        f'{100 * LEVEL:.0f} % interval', 'p (Holm)', 'detectable', 'time'
    ])
    shown.align = 'r'
    shown.align['method'] = 'l'
    for c in comparisons:
        low, high = c.interval
        several = len(c.gains) > 1
        shown.add_row([
            c.title, c.iterations,
            len(c.gains),
            spread(c.scores),
            spread(c.alone), f'{c.gain:+.2f}',
            f'{low:+.2f} to {high:+.2f}' if several else '-',
            f'{c.p:.3f}' if several else '-',
            f'{c.detectable:.2f}' if several else '-', f'{c.wall:.2f}'
        ])
    return shown


def by_fold(comparisons: list[Comparison]) -> PrettyTable:
    """Mean gain of each method on each fold, and over how many pairs."""
    folds = sorted({str(key[2]) for c in comparisons for key in c.keys})
    shown = PrettyTable(['method', 'iterations', *folds])
    shown.align = 'r'
    shown.align['method'] = 'l'
    for c in comparisons:
        row = []
        for fold in folds:
            gains = [
                g for g, key in zip(c.gains, c.keys) if str(key[2]) == fold
            ]
            row.append(f'{mean(gains):+.2f} ({len(gains)})' if gains else '-')
        shown.add_row([c.title, c.iterations, *row])
    return shown


def by_budget(comparisons: list[Comparison]) -> dict[str, list[Comparison]]:
    """Those of each method that was run for several numbers of iterations.

    Over the pairs that all of them have, see :func:`over_shared_pairs`. All
    methods, where each was run for one number alone.
    """
    found: dict[str, list[Comparison]] = defaultdict(list)
    for c in comparisons:
        found[c.method].append(c)
    several = {m: own for m, own in found.items() if len(own) > 1}
    return {m: over_shared_pairs(own) for m, own in (several or found).items()}


def over_shared_pairs(budgets: list[Comparison]) -> list[Comparison]:
    """A method's comparisons over the folds and seeds that all of them have.

    Where they share none they stay as they are. Their p is that of all pairs.
    """
    shared = set.intersection(*({key[2:] for key in c.keys} for c in budgets))
    if not shared:
        return budgets
    found = []
    for c in budgets:
        kept = [i for i, key in enumerate(c.keys) if key[2:] in shared]
        lists = {
            name: [getattr(c, name)[i] for i in kept]
            for name in ('scores', 'alone', 'keys')
        }
        found.append(replace(c, **lists))
    return found


def by_class(runs: list[Run],
             comparison: Comparison) -> dict[str, tuple[float, float]]:
    """IoU of each class: of the method, and of the student alone.

    Means over the pairs in which both runs name the IoU of the class; the
    classes are in the order of their first run.
    """
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    known = {
        (run['method'], *(run[k] for k in PAIR)): run.get('iou')
        for run in runs
    }
    for key in comparison.keys:
        own, alone = known[(comparison.method, *key)], known[(ALONE, *key)]
        if isinstance(own, dict) and isinstance(alone, dict):
            for name in own:
                if name in alone:
                    found[name].append((own[name], alone[name]))
    return {
        name: (mean(a for a, _ in pairs), mean(b for _, b in pairs))
        for name, pairs in found.items()
    }


def spread(scores: list[float]) -> str:
    """Mean and standard deviation."""
    if len(scores) < 2:
        return f'{scores[0]:.2f}'
    return f'{mean(scores):.2f} ± {stdev(scores):.2f}'


def draw(comparisons: list[Comparison],
         path: str | IO[bytes],
         width: float = 7.) -> None:
    """A row per method: a dot per pair, the mean difference, its interval.

    The greatest gain comes first; those whose interval excludes 0 are blue.
    ``width`` is in inches.
    """
    comparisons = sorted(comparisons, key=lambda c: c.gain, reverse=True)
    figure, axis = plt.subplots(figsize=(width, 1. + .35 * len(comparisons)),
                                layout='constrained')
    for row, c in enumerate(comparisons):
        axis.plot(c.gains, [row] * len(c.gains),
                  'o',
                  color='0.6',
                  markersize=4,
                  zorder=1,
                  label='one pair' if row == 0 else None)
        several = len(c.gains) > 1
        low, high = c.interval if several else (c.gain, c.gain)
        axis.errorbar(c.gain,
                      row,
                      xerr=[[c.gain - low], [high - c.gain]],
                      fmt='D',
                      color='tab:blue' if several and low > 0 else '0.2',
                      capsize=3,
                      label='mean and its interval' if row == 0 else None)
    axis.axvline(0, color='0.3', linestyle='--', linewidth=1)
    several = len({c.iterations for c in comparisons}) > 1
    names = [
        f'{c.title}, {c.iterations}' if several else c.title
        for c in comparisons
    ]
    axis.set_yticks(range(len(comparisons)), names)
    axis.set_ylim(len(comparisons) - .4, -.6)
    axis.set_xlabel('mIoU minus that of the student alone, same seed and fold')
    axis.legend(loc='best', frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_budgets(comparisons: list[Comparison], path: str | IO[bytes]) -> None:
    """Does the gain grow with the iterations? A line per method.

    See :func:`by_budget`. Methods of the same iterations stand a little beside
    each other.
    """
    figure, axis = plt.subplots(figsize=(6., 4.), layout='constrained')
    beside = max(c.iterations for c in comparisons) / 80
    methods = by_budget(comparisons)
    for k, (method, own) in enumerate(methods.items()):
        spans = [
            c.interval if len(c.gains) > 1 else (c.gain, ) * 2 for c in own
        ]
        at = [
            c.iterations + (k - (len(methods) - 1) / 2) * beside for c in own
        ]
        axis.errorbar(at, [c.gain for c in own],
                      yerr=[[abs(end - c.gain) for c, end in zip(own, ends)]
                            for ends in zip(*spans)],
                      fmt='o-',
                      capsize=3,
                      label=method)
    axis.axhline(0, color='0.3', linestyle='--', linewidth=1)
    axis.set_xlabel('iterations')
    axis.set_ylabel('mIoU minus that of the student alone')
    axis.set_xlim(left=0)
    axis.legend(frameon=False, fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)
