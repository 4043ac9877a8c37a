"""Lists the configs that come with the package.

Any of them is named without its folder: seg-kd train ka_deeplab
"""
import argparse
import os

from seg_kd import shipped

KINDS = dict(configs='',
             experiments=shipped.EXPERIMENTS,
             methods=shipped.METHODS,
             students=shipped.STUDENTS)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('kind',
                        nargs='?',
                        choices=KINDS,
                        default='configs',
                        help='what to list, default %(default)s; the others '
                        'are what compare takes')


def run(args: argparse.Namespace) -> None:
    kind = KINDS[args.kind]
    names = shipped.names(kind)
    width = max(map(len, names))
    for name in names:
        print(f'{name:{width}}  '
              f'{first_sentence(os.path.join(shipped.FOLDER, kind, name))}')


def first_sentence(path: str) -> str:
    """The comment at the head of a config, up to its first full stop."""
    lines = []
    with open(path + '.py', encoding='utf-8') as f:
        for line in f:
            if not line.startswith('#'):
                break
            lines.append(line.lstrip('# ').strip())
    text = ' '.join(lines)
    end = text.find('. ')
    return text[:end] if end > 0 else text.rstrip('.')
