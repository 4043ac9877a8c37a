"""Shows how far a teacher's cached maps, flipped and cropped, are from the
maps of flipped and cropped images.

Example: python tools/cache_deviation.py configs/ka_deeplab_camvid_cached.py \
             decode_head.bottleneck decode_head.conv_seg --crop 160 160
"""
import argparse

from prettytable import PrettyTable

from seg_kd import cli
from seg_kd.analysis.cache_deviation import deviations


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split('.\n')[0])
    cli.add_config_arguments(parser)
    parser.add_argument('paths', nargs='+', help='layers of the teacher')
    parser.add_argument('--crop', type=int, nargs=2, required=True)
    parser.add_argument('--stride', type=int, default=16, help='of corners')
    parser.add_argument('--images', type=int, default=60)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    found = deviations(cli.load_config(args), args.paths, tuple(args.crop),
                       args.stride, args.images)
    table = PrettyTable(
        ['move', 'teacher map', 'difference / norm', 'same largest channel'])
    table.align = 'l'
    for (move, path), (difference, same) in found.items():
        table.add_row([move, path, f'{difference:.3f}', f'{same:.3f}'])
    print(table)


if __name__ == '__main__':
    cli.run(main)
