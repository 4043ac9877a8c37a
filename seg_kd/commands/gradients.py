"""Shows how hard each loss term pulls at the student, to choose weights by.

example: seg-kd gradients ka_deeplab_camvid
"""
import argparse

from seg_kd import cli


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_arguments(parser)
    cli.add_number(parser, '--batches', 8, 'training batches to average over')


def run(args: argparse.Namespace) -> None:
    from prettytable import PrettyTable

    from seg_kd.analysis.gradients import gradient_norms
    cfg = cli.load_config(args)
    found = gradient_norms(cfg, cli.default_work_dir(args, cfg), args.batches)
    table = PrettyTable(['student map', 'term', 'gradient', 'to the task'])
    table.align = 'l'
    for path, norms in found.items():
        task = sum(v for k, v in norms.items() if k.startswith('decode.'))
        for name, norm in norms.items():
            ratio = f'{norm / task:.3g}' if task else '-'
            table.add_row([path, name, f'{norm:.3g}', ratio])
    print(table)
