"""Writes a split network as its two halves, and shows what crosses the link.

example: seg-kd export-split hnd_deeplab \\
             work_dirs/hnd_deeplab/iter_90000.pth --out split
"""
import argparse
import os
from typing import Any

from seg_kd import cli


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_arguments(parser)
    parser.add_argument('checkpoint', help='checkpoint of the split network')
    parser.add_argument('--out',
                        type=cli.folder,
                        required=True,
                        metavar='DIR',
                        help='folder for device.pt2, server.pt2, split.json')
    parser.add_argument('--size',
                        nargs=2,
                        type=cli.positive,
                        metavar=('HEIGHT', 'WIDTH'),
                        help='of the images; default: of the training crop')
    parser.add_argument('--image',
                        metavar='FILE',
                        help='to check with, and to compare with as a JPEG; '
                        'default: the first of the test set')


def link_table(report: dict[str, Any]) -> Any:
    from prettytable import PrettyTable
    link, check = report['bottleneck'], report['check']
    shown = PrettyTable(
        ['bottleneck as', 'bytes', 'of the RGB', 'of the JPEG', 'same pixels'])
    shown.align = 'r'
    for kind, count in link['bytes'].items():
        shares = [
            f'{link[key][kind]:.1%}' if key in link else '-'
            for key in ('to_rgb', 'to_jpeg')
        ]
        shown.add_row(
            [kind, count, *shares, f'{check[kind]["same_pixels"]:.2%}'])
    return shown


def half_table(report: dict[str, Any]) -> Any:
    from prettytable import PrettyTable
    shown = PrettyTable(['half', 'parameters', 'GFLOPs'])
    shown.align = 'r'
    for name, half in report['halves'].items():
        shown.add_row([
            name, f'{half["parameters"] / 1e6:.3f} M',
            f'{half["flops"] / 1e9:.3f}'
        ])
    return shown


def run(args: argparse.Namespace) -> None:
    from seg_kd.engine.evaluate import last_stage
    from seg_kd.split.export import export_split
    report = export_split(last_stage(cli.load_config(args)), args.checkpoint,
                          args.out, args.size, args.image)
    shape = 'x'.join(map(str, report['bottleneck']['shape']))
    height, width = report['image']['size']
    print(f'{report["split"]} imitated through a bottleneck of {shape}, '
          f'images of {width}x{height}')
    print(link_table(report))
    print(half_table(report))
    check = report['check']
    print(f'{os.path.join(args.out, "*.pt2")}: both halves together differ '
          f'from the whole by {check["float32"]["max_error"]:.2g}, of logits '
          f'up to {check["largest_logit"]:.3g}')
