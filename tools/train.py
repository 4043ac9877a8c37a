"""Trains the config's student: all stages, in order.

Example: python tools/train.py configs/ka_deeplab.py --amp --resume
"""
import argparse

import torch

from seg_kd import cli
from seg_kd.engine.stages import run_stages


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    cli.add_config_arguments(parser)
    parser.add_argument(
        '--resume',
        action='store_true',
        help='go on in the stage, and at the iteration, that was cut off')
    parser.add_argument(
        '--amp',
        action='store_true',
        help='mixed precision: bfloat16, or float16 on a GPU without it')
    parser.add_argument('--seed', type=int, help='default: as in the config')
    return parser.parse_args()


def use_amp(optim_wrapper: dict) -> None:
    old_gpu = torch.cuda.is_available() and not torch.cuda.is_bf16_supported()
    optim_wrapper['type'] = ('AmpOptimWrapper'
                             if old_gpu else 'BFloat16OptimWrapper')


def main() -> None:
    args = parse_args()
    cfg = cli.load_config(args)
    if args.seed is not None:
        cfg.merge_from_dict(dict(randomness=dict(seed=args.seed)))
    if args.amp:
        use_amp(cfg.optim_wrapper)
        for stage in cfg.get('stages') or []:
            if 'optim_wrapper' in stage:
                use_amp(stage.optim_wrapper)
    run_stages(cfg, cli.default_work_dir(args), args.resume)


if __name__ == '__main__':
    cli.run(main)
