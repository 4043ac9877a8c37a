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
from seg_kd.cli import positive

if TYPE_CHECKING:
    from seg_kd import benchmark


def add_arguments(parser: argparse.ArgumentParser) -> None:
    commands = parser.add_subparsers(dest='command', required=True)
    add_step(commands)
    add_inference(commands)
    add_ddp(commands)


def add_step(commands: Any) -> None:
    sub = command(commands, 'step',
                  'a training step in the real runner, and its parts', 5)
    add_configs(sub, checkpoint=True)
    add_size(sub, 'H W', (256, 512))
    add_number(sub, '--batch', 2, 'images')
    sub.add_argument('--no-data',
                     action='store_true',
                     help='noise, even where the data set is there')
    add_cpu_time(sub)


def add_inference(commands: Any) -> None:
    sub = command(commands, 'inference', 'teacher and student, to the logits',
                  5)
    add_configs(sub)
    add_size(sub, 'H W', (256, 512))
    add_number(sub, '--batch', 1, 'images')
    add_cpu_time(sub)


def add_ddp(commands: Any) -> None:
    sub = command(
        commands, 'ddp', 'one process and two on the CPU: images a second, '
        'and collective operations a step', 4)
    add_configs(sub)
    add_size(sub, 'H W', (128, 256))
    add_number(sub, '--batch', 2, 'images of each process')


def command(commands: Any, name: str, text: str,
            runs: int) -> argparse.ArgumentParser:
    sub = commands.add_parser(name,
                              help=text,
                              description=text,
                              formatter_class=cli.ShortHelp)
    cli.add_traceback(sub)
    sub.add_argument('--threads',
                     type=positive,
                     metavar='N',
                     help="of the processor, default: torch's")
    add_number(sub, '--runs', runs, 'measurements that count')
    sub.add_argument('--json', metavar='PATH', help='write it there, too')
    sub.add_argument('--chart', metavar='PATH', help='draw it there, too')
    return sub


def add_cpu_time(sub: argparse.ArgumentParser) -> None:
    sub.add_argument('--cpu-time',
                     action='store_true',
                     help='count the time of the processor: for one thread '
                     'on a machine that has other work')


def add_configs(sub: argparse.ArgumentParser,
                checkpoint: bool = False) -> None:
    sub.add_argument('configs',
                     nargs='+',
                     metavar='CONFIG[:STAGE]',
                     help='config with a TeacherHook; of several the '
                     'distillation hooks are put together. Default: the last '
                     'stage that distils')
    if checkpoint:
        sub.add_argument('--checkpoint',
                         metavar='FILE',
                         help="the teacher's; default: as the config says if "
                         'it is a file, else random weights')
    cli.add_config_arguments(sub, many=True)


def add_size(sub: argparse.ArgumentParser, names: str, default: Any) -> None:
    sub.add_argument('--size',
                     nargs=len(default),
                     type=positive,
                     metavar=tuple(names.split()),
                     default=default,
                     help='default %(default)s')


def add_number(sub: argparse.ArgumentParser, name: str, default: int,
               text: str) -> None:
    sub.add_argument(name,
                     type=positive,
                     metavar='N',
                     default=default,
                     help=f'{text}, default %(default)s')


def sources(args: argparse.Namespace) -> list[benchmark.Source]:
    from seg_kd import benchmark
    found = []
    for path in args.configs:
        args.config, stage = split(path)
        cfg = cli.load_config(args)
        found.append(
            benchmark.Source(cfg, stage, cli.default_work_dir(args, cfg)))
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
