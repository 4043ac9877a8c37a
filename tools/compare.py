"""Trains the student alone and with one method after the other, and compares.

Example: python tools/compare.py at kd sp --data camvid --max-iters 1000
What is finished is used again; what was cut off goes on.
"""
import argparse
import os

from seg_kd import cli
from seg_kd.analysis import comparison


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('methods',
                        nargs='*',
                        help='default: all that there is a config for')
    parser.add_argument('--data',
                        choices=comparison.data_sets(),
                        default='synthetic')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0])
    parser.add_argument('--max-iters',
                        type=int,
                        help='of the last stage; the others, and the '
                        'schedules, in proportion')
    parser.add_argument('--ratio',
                        type=float,
                        help="measure all weights, so that each method pulls "
                        'this many times as hard as the task')
    parser.add_argument('--work-dir', help='default: work_dirs/compare_<data>')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    folder = args.work_dir or os.path.join('work_dirs', f'compare_{args.data}')
    results = {}
    for method in [comparison.ALONE, *(args.methods or comparison.methods())]:
        for seed in args.seeds:
            print(f'\n== {method}, seed {seed} ==', flush=True)
            score = comparison.train(method, args.data, seed, folder,
                                     args.max_iters, args.ratio)
            results.setdefault(method, []).append(score)
        text = comparison.table(results)
        print(f'\n{text}')
        with open(os.path.join(folder, 'table.txt'), 'w',
                  encoding='utf-8') as f:
            f.write(text + '\n')
    comparison.draw(results, os.path.join(folder, 'methods.png'))
    print(f'\n{folder}/table.txt and {folder}/methods.png')


if __name__ == '__main__':
    cli.run(main)
