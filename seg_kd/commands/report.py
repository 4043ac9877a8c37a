"""Makes one HTML page of runs, or of a ledger: what they came to, and why.

example: seg-kd report work_dirs/student_deeplab work_dirs/ka_deeplab
A folder holds one run, with its stages, or many, as of seg-kd compare. What
is not at hand (weights, teacher, data) is left out, and said. Configs in the
folders are read as data, and not run. See docs/report.md.
"""
import argparse
import os

from seg_kd import cli
from seg_kd.errors import UserError

PACKAGES = 'jinja2', 'pandas'


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('work_dirs',
                        nargs='*',
                        metavar='WORK_DIR',
                        help='folders of runs')
    parser.add_argument('--ledger',
                        metavar='FILE',
                        help='of finished runs, as seg-kd compare writes it')
    parser.add_argument('--out',
                        metavar='FILE',
                        default='report.html',
                        help='the page, default %(default)s')
    parser.add_argument('--markdown',
                        metavar='FILE',
                        help='its text and tables as Markdown, too')
    parser.add_argument('--checkpoint',
                        nargs='+',
                        default=[],
                        metavar='RUN=FILE',
                        help='other weights than the newest of a run (by its '
                        "folder's name), or those of the teacher: "
                        'teacher=FILE')
    cli.add_number(parser, '--images', 100,
                   'of the test set to look at, spread over it')
    parser.add_argument('--force',
                        action='store_true',
                        help='write over files that are there')


def run(args: argparse.Namespace) -> None:
    from seg_kd.export.files import (refuse_existing, require_extra,
                                     written_whole)
    require_extra('report', PACKAGES, 'the report')
    from seg_kd.report.build import build
    from seg_kd.report.page import render_html, render_markdown
    if not args.work_dirs and not args.ledger:
        raise UserError('nothing to report: give the folders of runs, or '
                        '--ledger FILE')
    outputs = {args.out: render_html}
    if args.markdown:
        if os.path.realpath(args.markdown) == os.path.realpath(args.out):
            raise UserError(f'--out and --markdown are both {args.out}: give '
                            'each a file of its own')
        outputs[args.markdown] = render_markdown
    refuse_existing(outputs, args.force)
    title, sections = build(args.work_dirs, args.ledger,
                            dict(map(named, args.checkpoint)), args.images)
    for path, render in outputs.items():
        text = render(title, sections)
        with written_whole(path) as part:
            with open(part, 'w', encoding='utf-8') as f:
                f.write(text)
        print(f'{path}: {len(text.encode()) / 1e6:.1f} MB')


def named(text: str) -> tuple[str, str]:
    name, sign, path = text.partition('=')
    if not sign or not path:
        raise UserError(f'--checkpoint {text}: RUN=FILE is wanted')
    return name, path
