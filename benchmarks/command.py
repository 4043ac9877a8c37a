"""What the commands of this folder share."""
import argparse

import torch

from seg_kd import benchmark


def positive(text: str) -> int:
    if int(text) < 1:
        raise ValueError
    return int(text)


def make_parser(doc: str, runs: int) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument('--threads', type=positive, help="default: torch's")
    add_number(parser, '--runs', runs, 'that count')
    parser.add_argument('--json', metavar='PATH', help='write it there, too')
    parser.add_argument('--chart', metavar='PATH', help='draw it there, too')
    parser.add_argument('--cpu-time',
                        action='store_true',
                        help='count the time of the processor: for one thread '
                        'on a machine that has other work')
    return parser


def add_number(parser: argparse.ArgumentParser, name: str, default, text: str,
               **kwargs) -> None:
    parser.add_argument(name,
                        type=positive,
                        default=default,
                        help=f'{text}, default %(default)s',
                        **kwargs)


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    args = parser.parse_args()
    if args.threads:
        torch.set_num_threads(args.threads)
    if args.cpu_time:
        benchmark.count_processor_time()
    return args
