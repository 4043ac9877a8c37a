"""Trains the config's network: all stages, in order.

example: seg-kd train ka_deeplab --amp --resume
"""
import argparse

from seg_kd import cli
from seg_kd.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_arguments(parser)
    cli.add_launcher(parser)
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on in the stage, and at the iteration, that was cut off')
    cli.add_amp(parser)
    parser.add_argument('--seed',
                        type=cli.from_0,
                        help='default: as in the config')


def run(args: argparse.Namespace) -> None:
    from seg_kd.engine.optim import use_amp
    from seg_kd.engine.stages import run_stages
    cfg = cli.load_config(args)
    given = [option.split('=')[0] for option in args.cfg_options or []]
    if args.resume and 'load_from' in given:
        raise UserError(
            '--resume goes on from the last checkpoint of the run itself, '
            'load_from starts a new run from other weights: give one of them')
    if args.seed is not None:
        cfg.merge_from_dict(dict(randomness=dict(seed=args.seed)))
    if args.amp:
        use_amp(cfg)
    run_stages(cfg, cli.default_work_dir(args, cfg), args.resume)
