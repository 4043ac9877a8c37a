"""Shows how hard each loss term pulls at the student, to choose weights by.

Example: python tools/gradients.py configs/ka_deeplab_camvid.py
"""
import argparse

from prettytable import PrettyTable

from seg_kd import cli
from seg_kd.analysis.gradients import gradient_norms


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_config_arguments(parser)
    parser.add_argument('--batches', type=int, default=8)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    found = gradient_norms(cli.load_config(args), cli.default_work_dir(args),
                           args.batches)
    table = PrettyTable(['student map', 'term', 'gradient', 'to the task'])
    table.align = 'l'
    for path, norms in found.items():
        task = sum(v for k, v in norms.items() if k.startswith('decode.'))
        for name, norm in norms.items():
            ratio = f'{norm / task:.3g}' if task else '-'
            table.add_row([path, name, f'{norm:.3g}', ratio])
    print(table)


if __name__ == '__main__':
    cli.run(main)
