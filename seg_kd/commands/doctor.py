"""Looks at an experiment, and a few real batches, before hours are spent.

example: seg-kd doctor ka_deeplab_synthetic
exit status: 1 with a red finding, 2 where the arguments are wrong, else 0
"""
import argparse
import json
import sys
from collections.abc import Iterable
from tempfile import TemporaryDirectory
from typing import Any

from seg_kd import cli
from seg_kd.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config',
                        nargs='?',
                        help='a shipped config by name (seg-kd configs), or a '
                        'file; not with --replay')
    cli.add_config_arguments(parser, many=True)
    parser.add_argument('--student',
                        metavar='CHECKPOINT',
                        help='a trained student, to compare the teacher with')
    parser.add_argument('--stage',
                        metavar='NAME',
                        help='which to look at; default: the last that '
                        'distils')
    cli.add_number(parser, '--batches', 4, 'training batches to look at')
    parser.add_argument('--layers',
                        action='store_true',
                        help='list the layers that could be tapped')
    parser.add_argument('--json',
                        type=cli.new_file,
                        metavar='FILE',
                        help='write all that is found there as well')
    parser.add_argument('--replay',
                        metavar='FILE',
                        help='run a batch again that training saved when a '
                        'loss was NaN')


def run(args: argparse.Namespace) -> None:
    from seg_kd.doctor import replay, show
    from seg_kd.doctor.examine import examine, report, tables
    from seg_kd.doctor.experiment import Experiment
    from seg_kd.doctor.finding import worst
    if (args.config is None) == (args.replay is None):
        raise UserError('give a config, or --replay FILE')
    with TemporaryDirectory() as folder:
        if args.replay:
            saved = replay.read(args.replay)
            experiment, found = replay.replay(saved, folder, cli.explained)
            findings = printed(found)
            rows: dict[str, Any] = {}
        else:
            cfg = cli.load_config(args)
            experiment = Experiment(cfg, folder,
                                    cli.default_work_dir(args,
                                                         cfg), args.stage,
                                    args.batches, args.student, cli.explained)
            findings = printed(examine(experiment))
            rows = tables(experiment, args.layers)
            findings += printed(
                [p for p in experiment.problems if p not in findings])
        for name, made in rows.items():
            if made:
                print(show.table(name, made))
        print(show.summary(findings))
        if args.json:
            with open(args.json, 'w', encoding='utf-8') as file:
                json.dump(report(experiment, findings, rows), file, indent=1)
    if worst(findings) == 'red':
        sys.exit(1)


def printed(findings: Iterable) -> list:
    """All of them, each printed when it is found."""
    from seg_kd.doctor import show
    found = []
    for finding in findings:
        found.append(finding)
        print(show.line(finding), flush=True)
    return found
