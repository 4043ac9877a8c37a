"""Trains the student alone and with one method after the other, and compares.

example: seg-kd compare at kd sp --data camvid --seeds 0 1 2 --jobs 2
What is finished is used again; what was cut off goes on.
"""
import argparse
import os

from seg_kd import cli
from seg_kd.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('methods',
                        nargs='*',
                        metavar='METHOD',
                        help='by name (seg-kd configs methods), or a config '
                        'file; default: those with a config NAME_deeplab')
    parser.add_argument(
        '--data',
        metavar='NAME',
        default='synthetic',
        help='an experiment (seg-kd configs experiments), or a '
        'config file; default %(default)s')
    parser.add_argument('--student',
                        help='another: by name (seg-kd configs students), or '
                        'a file')
    parser.add_argument('--seeds',
                        nargs='+',
                        type=cli.from_0,
                        default=[0],
                        metavar='SEED',
                        help='one run each, default 0')
    parser.add_argument('--folds',
                        nargs='+',
                        metavar='NAME',
                        help='splits that the data set defines: one run each')
    parser.add_argument('--controls',
                        nargs='+',
                        default=[],
                        metavar='NAME',
                        help='own, random, softened: another teacher')
    parser.add_argument('--max-iters',
                        '--budget',
                        type=cli.positive,
                        metavar='N',
                        help='of the last stage; the others, and the '
                        'schedules, in proportion')
    parser.add_argument('--ratio',
                        type=cli.above_0,
                        help='measure all weights, so that each term pulls '
                        'this many times as hard as the task')
    parser.add_argument('--jobs',
                        type=cli.positive,
                        default=1,
                        metavar='N',
                        help='runs at a time, from 2 on with one thread each')
    parser.add_argument('--minutes',
                        type=cli.above_0,
                        help='start no run after them')
    parser.add_argument('--ledger',
                        metavar='FILE',
                        help='of finished runs; default: DIR/ledger.jsonl')
    parser.add_argument('--table',
                        '--chart',
                        action='store_true',
                        help='train nothing: say and draw what the ledger '
                        'says')
    parser.add_argument('--work-dir',
                        type=cli.folder,
                        metavar='DIR',
                        help='default: work_dirs/compare_<data>')


def run(args: argparse.Namespace) -> None:
    from seg_kd.analysis import comparison, controls, ledger
    for option in ('methods', 'seeds', 'folds', 'controls'):  # each once
        setattr(args, option, list(dict.fromkeys(getattr(args, option) or [])))
    name = comparison.name_of(args.data, args.student)
    folder = in_one_spelling(args.work_dir or f'work_dirs/compare_{name}')
    path = args.ledger or os.path.join(folder, 'ledger.jsonl')
    if os.path.isdir(path):
        raise UserError(f'--ledger {path} is a folder: name a file')
    failed = None
    if not args.table:
        methods = args.methods or comparison.methods()
        names = [
            comparison.ALONE, *controls.with_controls(methods, args.controls)
        ]
        told_apart(names)
        failed = train(args, names, folder, path)
    asked = [
        controls.title(m)
        for m in controls.with_controls(args.methods, args.controls)
        if m != comparison.ALONE
    ]
    try:
        every = ledger.read(path)
        runs = [r for r in every if r['experiment'] == name]
        if not runs:
            others = ', '.join(sorted({r['experiment'] for r in every}))
            raise UserError(f'the ledger {path} holds no run of {name} (--data'
                            f'), but of {others}')
        ready = asked if args.table else ledger.paired(runs)
        late = [m for m in asked if m not in ready]
        shown = [m for m in asked if m in ready] or asked
        compared = ledger.compare(runs, shown or None)
    except UserError as error:  # of runs that did not end: say so first
        raise failed or error from None
    text = str(ledger.table(compared))
    if len({run['fold'] for run in runs}) > 1:
        text += f'\n{ledger.by_fold(compared)}'
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, 'table.txt'), 'w', encoding='utf-8') as f:
        f.write(text + '\n')
    ledger.draw(compared, os.path.join(folder, 'methods.png'))
    written = f'{folder}/table.txt and {folder}/methods.png'
    if len({c.iterations for c in compared}) > 1:
        ledger.draw_budgets(compared, os.path.join(folder, 'budgets.png'))
        written = f'{written}, and {folder}/budgets.png'
    print(f'\n{text}\n\n{written}')
    if failed:
        raise failed
    if late:
        print(f'No pair yet: {", ".join(late)}; the same command goes on')


def told_apart(names: list[str]) -> None:
    """Raises UserError where two methods have one name in the ledger."""
    from seg_kd.analysis import controls
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(controls.title(name), name)
        if other != name:
            raise UserError(f'{other} and {name} are both called '
                            f'{controls.title(name)!r}: rename the file')


def in_one_spelling(folder: str) -> str:
    """Relative, if it is in this one, or else absolute: what settings name in
    it is the same however it was typed."""
    inner = os.path.relpath(folder)
    outside = inner.split(os.sep)[0] == os.pardir
    return os.path.abspath(folder) if outside else inner


def train(args: argparse.Namespace, names: list[str], folder: str,
          path: str) -> UserError | None:
    """Trains what is missing, and notes it in the ledger.

    Returns:
        What there is to say of runs that did not end.
    """
    from seg_kd.analysis import comparison, ledger
    from seg_kd.analysis.many_runs import Run, train_all
    folds = args.folds or [None]
    job = comparison.Comparison(args.data, folder, args.max_iters, args.ratio,
                                args.student)
    job.check(names, folds)
    ledger.check_writable(path)
    some = os.path.isfile(path) and os.path.getsize(path)
    known = ledger.read(path) if some else []
    runs = [
        Run(name, fold, seed) for seed in args.seeds for fold in folds
        for name in sorted(names, key=turn)
    ]
    failed = []
    for run, outcome in train_all(job, runs, args.jobs, args.minutes):
        if isinstance(outcome, Exception):
            print(f'{run}: {outcome}', flush=True)
            failed.append(f'{run}: {outcome}')
        elif not ledger.noted(outcome, known):
            ledger.append(path, outcome)
    if not failed:
        return None
    return UserError(f'{len(failed)} runs did not end: {failed[0]}')


def turn(name: str) -> int:
    """Whose run comes first: the longer ones, so that jobs end together.

    What learns from the student alone comes after it.
    """
    from seg_kd.analysis import comparison, controls
    if name == comparison.ALONE:
        return 1
    return 2 if controls.split(name)[1] == 'own' else 0
