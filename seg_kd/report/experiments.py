"""What runs came to, by their logs and by a ledger."""
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from statistics import mean

import pandas as pd

from seg_kd.analysis import ledger
from seg_kd.analysis.ledger import PAIR, Run
from seg_kd.analysis.logs import read_scalars
from seg_kd.engine.class_iou import PREFIX
from seg_kd.errors import UserError
from seg_kd.report import charts
from seg_kd.report.page import Charts, Note, Part, Section, Table
from seg_kd.report.runs import TEACHER, Found

# Of a log, what is neither a term, nor the learning rate, nor the mIoU.
SKIPPED = ('aAcc', 'base_lr', 'data_share', 'data_time', 'epoch', 'iter',
           'mAcc', 'memory', 'step', 'time')


def sections(runs: Sequence[Found], entries: Sequence[Run],
             notes: Sequence[str]) -> list[Section]:
    """All that needs no network."""
    return [
        overview(runs, entries, notes),
        comparison(entries),
        by_class(entries),
        curves(runs),
        settings(runs)
    ]


def overview(runs: Sequence[Found], entries: Sequence[Run],
             notes: Sequence[str]) -> Section:
    section = Section(
        'runs', 'Runs', 'Every run with its last mIoU (in percent) and the '
        'wall-clock time of its training, without validations. Seeds and '
        'folds of a method are summed up as mean ± standard deviation.')
    section.parts += [Note(text) for text in notes]
    if runs:
        section.parts.append(Table('In the folders', _folders(runs)))
    if entries:
        section.parts.append(Table('By method', _methods(entries)))
    return section


def _folders(runs: Sequence[Found]) -> pd.DataFrame:
    rows = []
    for run in runs:
        entry = run.entry()
        seconds = run.seconds
        several = len(seconds) > 1
        rows.append({
            'method':
            run.method,
            'experiment':
            run.experiment,
            'fold':
            run.fold or '-',
            'seed':
            str(run.seed),
            'iterations':
            str(run.iterations),
            'mIoU':
            f'{entry["miou"]:.2f}' if entry else '-',
            'training':
            duration(sum(seconds.values())),
            'of it':
            ', '.join(f'{name} {duration(taken)}'
                      for name, taken in seconds.items()) if several else '-',
            'ended':
            'yes' if run.finished else 'no',
            'folder':
            os.path.relpath(run.folder)
        })
    return pd.DataFrame(rows)


def _methods(entries: Sequence[Run]) -> pd.DataFrame:
    groups: dict[tuple, list[Run]] = {}
    for run in entries:
        key = (run['experiment'], run['method'], run['iterations'])
        groups.setdefault(key, []).append(run)
    rows = []
    for (experiment, method, iterations), found in groups.items():
        scores = [run['miou'] for run in found]
        rows.append({
            'method': method,
            'experiment': experiment,
            'iterations': str(iterations),
            'runs': str(len(found)),
            'mIoU': ledger.spread(scores),
            'least to most': f'{min(scores):.2f} to {max(scores):.2f}',
            'mean time': duration(mean(run['wall_s'] for run in found))
        })
    return pd.DataFrame(rows)


def comparison(entries: Sequence[Run]) -> Section:
    level = f'{100 * ledger.LEVEL:.0f} %'
    section = Section(
        'comparison', 'Gain over the student alone',
        'Paired: a method minus the student alone with the same seed, fold '
        f'and iterations, in points of mIoU. The interval ({level}) and p are '
        'those of a paired t-test; p is corrected over the table (Holm). '
        '"Detectable" is the smallest mean difference that so many pairs with '
        'this spread show in four of five cases. "Time" is wall-clock '
        'training time, times that of the student alone.')
    for experiment, runs, found in _compared(entries, section):
        section.parts.append(
            Table(f'{experiment}: pairs', _frame(ledger.table(found))))
        if len({key[2] for c in found for key in c.keys}) > 1:
            section.parts.append(
                Table(f'{experiment}: mean gain by fold (pairs)',
                      _frame(ledger.by_fold(found))))
        if max(len(c.gains) for c in found) == 1:
            section.parts.append(
                Note('One pair of runs has no spread: it claims nothing.'))
        said = _gains(found)
        drawn = [
            charts.drawn(lambda file: ledger.draw(found, file, 5.5),
                         f'Gain of each method: {said}')
        ]
        if len({c.iterations for c in found}) > 1:
            said = _gains(
                [c for own in ledger.by_budget(found).values() for c in own])
            drawn.append(
                charts.drawn(lambda file: ledger.draw_budgets(found, file),
                             f'Gain by iterations: {said}'))
        section.parts.append(Charts(f'{experiment}: gains', drawn))
    return section


def _gains(found: Sequence[ledger.Comparison]) -> str:
    several = len({c.iterations for c in found}) > 1
    return '; '.join(
        f'{c.title}{f", {c.iterations} iterations" if several else ""} '
        f'{c.gain:+.2f} over {len(c.gains)} pairs' for c in found)


def _compared(entries: Sequence[Run], section: Section) -> Iterable[tuple]:
    """Experiment, its runs, and the comparisons in it; what has none is said.
    """
    experiments = dict.fromkeys(run['experiment'] for run in entries)
    for experiment in experiments:
        runs = [
            run for run in entries
            if run['experiment'] == experiment and run['method'] != TEACHER
        ]
        try:
            found = ledger.compare(runs)
        except UserError:
            section.missing(f'{experiment} has no method and student alone of '
                            f'the same {", ".join(PAIR[1:])}.')
        else:
            yield experiment, runs, found
    if not experiments:
        section.missing('no run was evaluated.')


def by_class(entries: Sequence[Run]) -> Section:
    section = Section(
        'classes', 'Gain by class',
        'IoU of each class in percent: of the method, of the student alone, '
        'and the difference, as means over the pairs. Classes with few '
        'pixels vary most from seed to seed.')
    for experiment, runs, found in _compared(entries, section):
        drawn = []
        for c in found:
            name = f'{c.title}, {c.iterations} iterations'
            classes = ledger.by_class(runs, c)
            if not classes:
                section.missing(f'{experiment}, {name}: the runs do not name '
                                'the IoU of each class (those of a '
                                'ClassIoUMetric do).')
                continue
            gains = {k: own - alone for k, (own, alone) in classes.items()}
            section.parts.append(
                Table(
                    f'{experiment}: {name}',
                    pd.DataFrame([{
                        'class': k,
                        'student alone': f'{alone:.2f}',
                        c.method: f'{own:.2f}',
                        'gain': f'{own - alone:+.2f}'
                    } for k, (own, alone) in classes.items()])))
            drawn.append(charts.bars(name, gains, 'points of IoU'))
        if drawn:
            section.parts.append(Charts(f'{experiment}: gain', drawn))
    return section


def curves(runs: Sequence[Found]) -> Section:
    section = Section(
        'curves', 'Curves', 'What each run has logged over its iterations, '
        'stage by stage: every term with its weight in it, the learning '
        'rate, and the mIoU of validations. The first steps may lie above '
        'the picture.')
    if not runs:
        return section.missing('a ledger has no curves; give the folders of '
                               'the runs.')
    colour, legend = _colours(runs)
    for title, folders in _stages(runs).items():
        logged = {name: read_scalars(path) for name, path in folders.items()}
        drawn = [
            charts.lines(term, found, colour)
            for term, found in _terms(logged).items()
        ]
        if not drawn:
            section.missing(f'{title}: not two points were logged.')
            continue
        section.parts.append(
            Charts(title, drawn,
                   {legend[name]: colour[name]
                    for name in logged}))
    return section


def _colours(runs: Sequence[Found]) -> tuple[dict[str, str], dict[str, str]]:
    """Of each run by its name: its colour, and what the legend calls it.

    Of many runs those of a method have one colour.
    """
    many = len(runs) > len(charts.COLOURS)
    legend = {run.name: run.method if many else run.name for run in runs}
    found = charts.colours(list(legend.values()))
    return {name: found[said] for name, said in legend.items()}, legend


def _stages(runs: Sequence[Found]) -> dict[str, dict[str, str]]:
    """Folders by run, for each stage: those of the students together, last.
    """
    found: dict[str, dict[str, str]] = {}
    for run in runs:
        for stage, folder in list(run.stages.items())[:-1]:
            found.setdefault(f'Before: stage {stage}', {})[run.name] = folder
    return {**found, 'The student': {run.name: run.last for run in runs}}


def _terms(logged: Mapping[str, Mapping]) -> dict[str, dict[str, list]]:
    """What is drawn, term by term: of each run that has more than a point.
    """
    found: dict[str, dict[str, list]] = {}
    for run, scalars in logged.items():
        for term, points in scalars.items():
            if term not in SKIPPED and not term.startswith(
                    PREFIX) and '.acc_' not in term and len(points) > 1:
                found.setdefault(term, {})[run] = points
    return dict(
        sorted(found.items(),
               key=lambda item:
               ('loss' not in item[0], item[0] != 'loss', item[0])))


def settings(runs: Sequence[Found]) -> Section:
    section = Section(
        'settings', 'Settings that differ',
        'Settings that decide about the outcome and are not the same for all '
        'methods, but the seed; of the last stage of one run each.')
    flat = {
        run.method: {
            k: v
            for k, v in run.record['settings'].items()
            if k != 'after' and not k.startswith('randomness')
        }
        for run in runs if run.record.get('settings')
    }
    if len(flat) < 2:
        return section.missing('two methods whose folders hold a run.json.')
    keys = dict.fromkeys(key for found in flat.values() for key in found)
    rows: list[dict[str, str]] = []
    for key in keys:
        values = {name: found.get(key) for name, found in flat.items()}
        if len(set(map(repr, values.values()))) > 1:
            rows.append({
                'setting': key,
                **{
                    name: _short(value)
                    for name, value in values.items()
                }
            })
    part: Part = Table('By method',
                       pd.DataFrame(rows)) if rows else Note('None differs.')
    section.parts.append(part)
    return section


def _short(value: object) -> str:
    if isinstance(value, list) and all(isinstance(v, dict) for v in value):
        value = ', '.join(_named(v) for v in value)
    text = '-' if value is None else str(value)
    return text if len(text) <= 160 else f'{text[:157]}...'


def _named(hook: dict) -> str:
    """A hook, or a transform, by its type and its plain settings."""
    inner = ', '.join(f'{k}={v}' for k, v in hook.items()
                      if k != 'type' and isinstance(v, (int, float)))
    return f'{hook.get("type")}({inner})'


def duration(seconds: float) -> str:
    """``'1 h 05 min'``, ``'12 min'`` or ``'34 s'``."""
    if not math.isfinite(seconds):
        return '-'
    if seconds < 90:
        return f'{seconds:.0f} s'
    minutes = round(seconds / 60)
    return f'{minutes // 60} h {minutes % 60:02} min' if minutes >= 60 \
        else f'{minutes} min'


def _frame(table) -> pd.DataFrame:
    """A PrettyTable's rows."""
    return pd.DataFrame(table.rows, columns=table.field_names).astype(str)
