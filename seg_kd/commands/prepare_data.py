"""Brings downloaded data into the layout that the configs expect.

Safe to run twice: what is there is kept. data/README.md says where to get each
data set and what `check` should print.
"""
import argparse
import importlib
from pathlib import Path

from seg_kd import cli
from seg_kd.errors import UserError

ROOTS = dict(cityscapes='data/cityscapes',
             voc='data/VOCdevkit/VOC2012',
             camvid='data/camvid',
             synthetic='data/synthetic')
LARGEST = 8192  # of a drawn image's sides


def image_size(text: str) -> tuple[int, int]:
    width, height = map(int, text.lower().split('x'))
    if max(width, height) > LARGEST:
        raise ValueError
    return width, height


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest='command', required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name,
                                  help=text,
                                  description=text,
                                  formatter_class=cli.ShortHelp)
        if name in ROOTS:
            sub.add_argument('--out',
                             type=cli.folder,
                             default=ROOTS[name],
                             metavar='DIR',
                             help='where it goes, default %(default)s')
        cli.add_traceback(sub)
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
    for name, default, text in (('--train', 24, 'scenes with labels'),
                                ('--extra', 320, 'scenes without'),
                                ('--val', 64, 'scenes of other cities'),
                                ('--cities', 4, 'that take turns'),
                                ('--seed', 0, 'what is drawn depends on it')):
        cli.add_number(sub, name, default, text, int)
    sub.add_argument('--size',
                     type=image_size,
                     default=(256, 128),
                     metavar='WxH',
                     help='of the images, default 256x128')
    sub = command('pseudo-labels', "a teacher's labels of a folder of images")
    cli.add_config_arguments(sub)
    sub.add_argument('images', help='folder of images')
    sub.add_argument('--out',
                     type=cli.folder,
                     required=True,
                     metavar='DIR',
                     help='where the data set goes')
    sub.add_argument('--threshold',
                     type=float,
                     default=.9,
                     metavar='P',
                     help='ignore what the teacher is less sure of, default '
                     '0.9')
    sub = command('check', 'open every file; check counts, sizes, labels')
    sub.add_argument('what',
                     help=f'{", ".join(ROOTS)}, or a config: by name, or a '
                     'file')
    sub.add_argument('--root',
                     default='',
                     metavar='DIR',
                     help='where the data set is, if not where the config '
                     'says')


def run(args: argparse.Namespace) -> None:
    given = vars(args).copy()
    name = given.pop('command')
    del given['traceback']
    if name == 'pseudo-labels':
        from seg_kd.engine.pseudo_labels import write_pseudo_labels
        print(
            write_pseudo_labels(cli.load_config(args), args.images, args.out,
                                args.threshold))
        print(f'seg-kd train {args.out}/config.py trains on them')
    elif name == 'check':
        check(args.what, args.root)
    else:
        module = importlib.import_module(f'seg_kd.datasets.prepare.{name}')
        module.convert(**given)
        print(f'{Path(args.out)} is ready; to check it: seg-kd prepare-data '
              f'check {name} --root {args.out}')


def check(what: str, root: str) -> None:
    """Checks a data set by name, or all that a config names."""
    from seg_kd.datasets.prepare import report
    from seg_kd.engine.complete import resolve
    if what in ROOTS:
        report.check_kind(what, root or ROOTS[what])
        return
    try:
        cfg = cli.read_config(what)
    except UserError as error:
        raise UserError(f'{what!r} is neither a config nor one of '
                        f'{", ".join(ROOTS)} ({error})') from error
    resolve(cfg)
    report.check_config(cfg, root)
