"""Evaluates a student, and on demand its teacher.

example: seg-kd test ka_deeplab work_dirs/ka_deeplab/distill/iter_90000.pth \\
             --tta --show-dir shown
"""
import argparse
import os

from seg_kd import cli


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_arguments(parser)
    cli.add_launcher(parser)
    parser.add_argument('checkpoint', help='checkpoint of the student')
    parser.add_argument(
        '--tta',
        action='store_true',
        help='flips and scales, as tta_pipeline of the config says')
    parser.add_argument('--teacher',
                        action='store_true',
                        help='evaluate the teacher as well')
    parser.add_argument('--out',
                        type=cli.folder,
                        metavar='DIR',
                        help='folder for predictions, as label PNGs')
    parser.add_argument('--show-dir',
                        type=cli.folder,
                        metavar='DIR',
                        help='folder for images with predictions painted over')


def run(args: argparse.Namespace) -> None:
    from seg_kd.engine.evaluate import evaluate_student, evaluate_teacher
    cfg = cli.load_config(args)
    cfg.work_dir = os.path.join(cli.default_work_dir(args, cfg), 'test')
    options = dict(tta=args.tta, out=args.out, show_dir=args.show_dir)
    results = {'student': evaluate_student(cfg, args.checkpoint, **options)}
    if args.teacher:
        results['teacher'] = evaluate_teacher(cfg, **options)
    for name, metrics in results.items():
        shown = [
            f'{key} {value:.2f}' for key, value in metrics.items()
            if key in ('mIoU', 'aAcc', 'mAcc')
        ]
        print(f'{name}: {", ".join(shown) or "nothing measured, no labels"}')
