"""Shows how far a teacher's cached maps, flipped and cropped, are from the
maps of flipped and cropped images.

example: seg-kd cache-deviation ka_deeplab_camvid_cached \\
             decode_head.bottleneck decode_head.conv_seg --crop 160 160
"""
import argparse

from seg_kd import cli


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_arguments(parser)
    parser.add_argument('paths',
                        nargs='+',
                        metavar='LAYER',
                        help='layers of the teacher, such as '
                        'decode_head.bottleneck')
    parser.add_argument('--crop',
                        type=cli.positive,
                        nargs=2,
                        required=True,
                        metavar=('HEIGHT', 'WIDTH'),
                        help='of the crops, in pixels')
    cli.add_number(parser, '--stride', 16,
                   'corners of crops lie on multiples of it')
    cli.add_number(parser, '--images', 60,
                   'training images, spread over the set')


def run(args: argparse.Namespace) -> None:
    from prettytable import PrettyTable

    from seg_kd.analysis.cache_deviation import deviations
    found = deviations(cli.load_config(args), args.paths, tuple(args.crop),
                       args.stride, args.images)
    table = PrettyTable(
        ['move', 'teacher map', 'difference / norm', 'same largest channel'])
    table.align = 'l'
    for (move, path), (difference, same) in found.items():
        table.add_row([move, path, f'{difference:.3f}', f'{same:.3f}'])
    print(table)
