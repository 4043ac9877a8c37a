"""Measures what a training step or a network costs here.

examples: seg-kd benchmark step {ka,at,kd}_deeplab --batch 1
          seg-kd benchmark inference ka_deeplab
          seg-kd benchmark ddp ka_deeplab
"""
from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from seg_kd import cli

if TYPE_CHECKING:
    from seg_kd import benchmark

Size = tuple[int, int]  # height, width
LARGE = (256, 512)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest='command', required=True)
    step = command(commands, 'step',
                   'a training step in the real runner, and its parts')
    step.add_argument('--checkpoint',
                      metavar='FILE',
                      help="the teacher's; default: as the config says if it "
                      'is a file, else random weights')
    step.add_argument('--no-data',
                      action='store_true',
                      help='noise, even where the data set is there')
    cli.add_amp(step)
    inference = command(commands,
                        'inference',
                        'teacher and student, to the logits',
                        batch=1)
    text = ('one process and two on the CPU: images a second, and collective '
            'operations a step')
    command(commands, 'ddp', text, runs=4, size=(128, 256))
    for sub in (step, inference):
        sub.add_argument('--cpu-time',
                         action='store_true',
                         help='count the time of the processor: for one '
                         'thread on a machine that has other work')


def command(commands: Any,
            name: str,
            text: str,
            runs: int = 5,
            batch: int = 2,
            size: Size = LARGE) -> argparse.ArgumentParser:
    sub = commands.add_parser(name,
                              help=text,
                              description=text,
                              formatter_class=cli.ShortHelp)
    cli.add_traceback(sub)
    add_configs(sub)
    cli.add_number(sub, '--batch', batch, 'images a process')
    sub.add_argument('--size',
                     nargs=2,
                     type=cli.positive,
                     metavar=('H', 'W'),
                     default=size,
                     help='default %(default)s')
    cli.add_number(sub, '--runs', runs, 'measurements that count')
    sub.add_argument('--threads',
                     type=cli.positive,
                     metavar='N',
                     help="of the processor, default: torch's")
    for option, text in (('--json', 'write'), ('--chart', 'draw')):
        sub.add_argument(option,
                         type=cli.new_file,
                         metavar='PATH',
                         help=f'{text} it there, too')
    return sub


def add_configs(sub: argparse.ArgumentParser) -> None:
    sub.add_argument('configs',
                     nargs='+',
                     metavar='CONFIG[:STAGE]',
                     help='config with a TeacherHook; of several the '
                     'distillation hooks are put together. Default: the last '
                     'stage that distils')
    cli.add_config_arguments(sub, many=True)


def sources(args: argparse.Namespace) -> list[benchmark.Source]:
    from seg_kd import benchmark
    from seg_kd.engine.optim import use_amp
    found = []
    for path in args.configs:
        args.config, stage = split(path)
        cfg = cli.load_config(args)
        if vars(args).get('amp'):
            use_amp(cfg)
        folder = cli.default_work_dir(args, cfg)
        found.append(benchmark.Source(cfg, stage, folder))
    return found


def split(text: str) -> tuple[str, str]:
    """The config and the stage of ``CONFIG[:STAGE]``."""
    head, sign, tail = text.rpartition(':')
    return (head, tail) if sign and not head.endswith(':') else (text, '')


def measure(args: argparse.Namespace) -> benchmark.Found:
    from seg_kd import benchmark
    configs = sources(args)
    images = args.batch, *args.size
    if args.command == 'step':
        return benchmark.bench_step(configs, images, args.runs,
                                    args.checkpoint, not args.no_data)
    part = dict(inference=benchmark.bench_inference, ddp=benchmark.bench_ddp)
    return part[args.command](configs, images, args.runs)


def run(args: argparse.Namespace) -> None:
    import torch

    from seg_kd import benchmark
    if args.threads:
        torch.set_num_threads(args.threads)
    if vars(args).get('cpu_time'):
        benchmark.count_processor_time()
    show(args, measure(args), args.command)


def show(args: argparse.Namespace, found: benchmark.Found, draw: Any) -> None:
    """Tables on the screen; what was asked for as JSON and as a picture."""
    from seg_kd import benchmark
    title, rows, notes = found
    where = benchmark.machine()
    where['times'] = 'processor' if vars(args).get('cpu_time') else None
    print(title, *benchmark.tables(rows), *notes, sep='\n')
    print(', '.join(f'{k} {v}' for k, v in where.items() if v is not None))
    if args.json:
        whole = dict(title=title, machine=where, rows=rows, notes=notes)
        with open(args.json, 'w', encoding='utf-8') as f:
            json.dump(whole, f, indent=1)
    if args.chart:
        from seg_kd.benchmark import chart
        chart.draw(draw, rows, title, args.chart)
