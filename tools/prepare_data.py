"""Bring downloaded data into the layout that the configs expect.

Safe to run twice: what is there is kept. ``data/README.md`` says where to
get each data set and what ``check`` should print.
"""
import argparse
import sys
from pathlib import Path
from typing import Optional, Sequence, Tuple

from seg_kd.datasets.sources import SOURCES
from seg_kd.errors import UserError


def image_size(text: str) -> Tuple[int, int]:
    width, height = text.lower().split('x')
    return int(width), int(height)


def parser() -> argparse.ArgumentParser:
    main_parser = argparse.ArgumentParser(description=__doc__)
    commands = main_parser.add_subparsers(dest='command', required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        if name in SOURCES:
            sub.add_argument('--out',
                             default=SOURCES[name].root,
                             help='default %(default)s')
        return sub

    sub = command('cityscapes', 'train id maps from the official zips')
    sub.add_argument('sources',
                     nargs='*',
                     help='zips or folders; default: OUT itself')
    sub = command('voc', 'VOC 2012 with the labels of SBD')
    sub.add_argument('voc', help='VOCtrainval_11-May-2012.tar or VOC2012')
    sub.add_argument('sbd', help='benchmark.tgz or benchmark_RELEASE')
    sub = command('camvid', 'CamVid in 11 classes, from any usual layout')
    sub.add_argument('source', help='the folder that was downloaded')
    sub = command('synthetic', 'draw street scenes')
    sub.add_argument('--train', type=int, default=400, help='scenes')
    sub.add_argument('--val', type=int, default=100, help='scenes')
    sub.add_argument('--seed', type=int, default=0)
    sub.add_argument('--size',
                     type=image_size,
                     default=(256, 128),
                     metavar='WxH')
    sub = command('check', 'open every file; check counts, sizes, labels')
    sub.add_argument('what', help=f'{", ".join(SOURCES)}, or a config file')
    sub.add_argument('--root', default='', help='where the data set is')
    return main_parser


def run(args: argparse.Namespace) -> None:
    if args.command == 'cityscapes':
        from seg_kd.datasets.prepare.cityscapes import convert
        convert(args.sources or [args.out], args.out)
    elif args.command == 'voc':
        from seg_kd.datasets.prepare.voc import convert
        convert(args.voc, args.sbd, args.out)
    elif args.command == 'camvid':
        from seg_kd.datasets.prepare.camvid import convert
        convert(args.source, args.out)
    elif args.command == 'synthetic':
        from seg_kd.datasets.prepare.synthetic import convert
        convert(args.out, args.train, args.val, args.seed, args.size)
    else:
        from seg_kd.datasets.prepare.report import check
        check(args.what, args.root)
    if args.command in SOURCES:
        print(f'{Path(args.out)} is ready; to check it: python tools/'
              f'prepare_data.py check {args.command} --root {args.out}')


def main(argv: Optional[Sequence[str]] = None) -> int:
    try:
        run(parser().parse_args(argv))
        return 0
    except UserError as error:
        message = str(error)
    # Only here have the progress bars ended.
    print(f'error: {message}', file=sys.stderr)
    return 2


if __name__ == '__main__':
    sys.exit(main())
