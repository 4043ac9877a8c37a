"""Trains the student alone and with one method after the other, and compares.

example: seg-kd compare at kd sp --data camvid --max-iters 1000
What is finished is used again; what was cut off goes on.
"""
import argparse
import os

from seg_kd import cli, shipped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('methods',
                        nargs='*',
                        metavar='METHOD',
                        help='by name (seg-kd configs methods), or a config '
                        'file; default: all that are shipped')
    parser.add_argument('--data',
                        metavar='EXPERIMENT',
                        default='synthetic',
                        help='by name (seg-kd configs experiments), or a '
                        'config file; default %(default)s')
    parser.add_argument('--student',
                        help='another one than that of the experiment: by '
                        'name (seg-kd configs students), or a config file')
    parser.add_argument('--seeds',
                        nargs='+',
                        type=int,
                        default=[0],
                        metavar='SEED',
                        help='one run each, default 0')
    parser.add_argument('--folds',
                        nargs='+',
                        metavar='NAME',
                        help='splits that the data set defines: one run each')
    parser.add_argument('--max-iters',
                        type=cli.positive,
                        metavar='N',
                        help='of the last stage; the others, and the '
                        'schedules, in proportion')
    parser.add_argument('--ratio',
                        type=float,
                        help="measure all weights, so that each method pulls "
                        'this many times as hard as the task')
    parser.add_argument('--work-dir',
                        metavar='DIR',
                        help='default: work_dirs/compare_<data>')


def run(args: argparse.Namespace) -> None:
    from seg_kd.analysis import comparison
    folder = args.work_dir or os.path.join(
        'work_dirs', f'compare_{shipped.stem(args.data)}')
    names = [comparison.ALONE, *(args.methods or comparison.methods())]
    folds = args.folds or [None]
    job = comparison.Comparison(args.data, folder, args.max_iters, args.ratio,
                                args.student)
    job.check(names, folds)
    results: dict[str, list[float]] = {}
    for name in names:
        for fold in folds:
            for seed in args.seeds:
                what = [shipped.stem(name), fold, f'seed {seed}']
                print(f'\n== {", ".join(filter(None, what))} ==', flush=True)
                results.setdefault(shipped.stem(name),
                                   []).append(job.train(name, seed, fold))
        text = comparison.table(results)
        print(f'\n{text}')
        with open(os.path.join(folder, 'table.txt'), 'w',
                  encoding='utf-8') as f:
            f.write(text + '\n')
    comparison.draw(results, os.path.join(folder, 'methods.png'))
    print(f'\n{folder}/table.txt and {folder}/methods.png')
