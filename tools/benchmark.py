"""Measures what the losses, or a whole training step, cost on this machine.

Examples: python tools/benchmark.py losses --threads 1
          python tools/benchmark.py losses kd rkd --chart losses.png
          python tools/benchmark.py step configs/ka_deeplab.py --batch 1
"""
import argparse
import json
import os
import platform
from typing import Any, Dict, List, Optional

import torch
from mmengine.config import DictAction
from prettytable import PrettyTable

from seg_kd import benchmark, cli


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(dest='command', required=True)

    def command(name: str, text: str, runs: int, size: str,
                default) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument('--size',
                         nargs=len(size.split()),
                         type=positive,
                         metavar=tuple(size.split()),
                         default=default,
                         help='default %(default)s')
        sub.add_argument('--threads', type=positive, help="default: torch's")
        sub.add_argument('--runs',
                         type=positive,
                         default=runs,
                         help='default %(default)s')
        sub.add_argument('--json', metavar='PATH', help='write it there, too')
        return sub

    sub = command(
        'losses', 'every loss, beside its naive form and that of '
        'torchdistill where it is installed', 5, 'N C H W', (2, 256, 64, 128))
    sub.add_argument('methods',
                     nargs='*',
                     metavar='METHOD',
                     help='default: all of ' + ', '.join(benchmark.methods()))
    sub.add_argument('--classes',
                     type=positive,
                     default=19,
                     help='channels of logits, default %(default)s')
    sub.add_argument('--limit',
                     type=float,
                     default=60.,
                     metavar='SECONDS',
                     help='leave a naive form or peer out of which one run '
                     'takes longer, default %(default)s')
    sub.add_argument('--chart', metavar='PATH', help='draw it there, too')
    sub = command('step', 'one training step and its parts', 5, 'H W',
                  (256, 512))
    sub.add_argument('config', help='config with a TeacherHook')
    sub.add_argument('--batch',
                     type=positive,
                     default=2,
                     help='default %(default)s')
    sub.add_argument('--checkpoint',
                     help="the teacher's; default: as the "
                     'config says if it is a file, else random weights')
    sub.add_argument('--work-dir',
                     help='where the earlier stages were '
                     'trained; default: work_dirs/<config>')
    sub.add_argument('--cfg-options',
                     nargs='+',
                     action=DictAction,
                     metavar='KEY=VALUE',
                     help='override settings')
    sub.set_defaults(launcher='none', local_rank=0)
    return parser.parse_args()


def machine() -> Dict[str, Any]:
    """What the times depend on."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return dict(gpu=gpu,
                cpu=cpu_name(),
                threads=torch.get_num_threads(),
                torch=torch.__version__,
                load=round(os.getloadavg()[0], 1))


def cpu_name() -> str:
    try:
        with open('/proc/cpuinfo', encoding='utf-8') as f:
            return next(
                line.split(':')[1].strip() for line in f
                if line.startswith('model name'))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(title: str, rows: benchmark.Rows) -> str:
    columns = [
        key for key in next(iter(rows.values()))
        if key not in benchmark.EXTREMES and any(row[key] is not None
                                                 for row in rows.values())
    ]
    shown = PrettyTable(['', *columns], title=title, align='r')
    shown.align[''] = 'l'
    for name, row in rows.items():
        shown.add_row([name, *(in_digits(row[key]) for key in columns)])
    return str(shown)


def in_digits(value: Optional[float]) -> str:
    """About three digits that count, and never an exponent."""
    if value is None:
        return '-'
    if isinstance(value, int):
        return str(value)
    return f'{value:.{0 if value >= 100 else 1 if value >= 10 else 3}f}'


def main() -> None:
    args = parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    notes: List[str] = []
    if args.command == 'losses':
        title, rows, notes = benchmark.bench_losses(args.size, args.classes,
                                                    args.runs, args.methods,
                                                    args.limit)
    else:
        title, rows = benchmark.bench_step(cli.load_config(args),
                                           (args.batch, *args.size), args.runs,
                                           args.checkpoint,
                                           cli.default_work_dir(args))
    where = machine()
    print(table(title, rows))
    print(*notes, sep='\n', end='\n' if notes else '')
    print(', '.join(f'{k} {v}' for k, v in where.items() if v is not None))
    if args.json:
        found = dict(title=title, machine=where, rows=rows, notes=notes)
        with open(args.json, 'w', encoding='utf-8') as f:
            json.dump(found, f, indent=1)
    if args.command == 'losses' and args.chart:
        from seg_kd.benchmark.chart import draw_losses
        draw_losses(rows, title, args.chart)


if __name__ == '__main__':
    cli.run(main)
