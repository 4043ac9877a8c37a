"""Labels images, videos and folders of them, and paints the labels over.

examples: seg-kd predict student.onnx street.jpg drive.mp4 --out seen
          seg-kd predict ka_deeplab images --out seen \\
              --checkpoint work_dirs/ka_deeplab/distill/iter_90000.pth
"""
import argparse

from seg_kd import cli
from seg_kd.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('config',
                        metavar='model',
                        help='an ONNX file of seg-kd export, or a config, by '
                        'name or a file, with --checkpoint')
    parser.add_argument('inputs',
                        nargs='+',
                        metavar='input',
                        help='image, video, or a folder of them')
    parser.add_argument('--checkpoint',
                        metavar='FILE',
                        help='of the student that the config describes')
    cli.add_config_arguments(parser, many=True, work_dir=False)
    parser.add_argument('--out',
                        required=True,
                        metavar='DIR',
                        help='folder for overlays/, labels/ (class numbers, '
                        'as PNGs with a palette) and legend.png')
    parser.add_argument('--only',
                        choices=['overlays', 'labels'],
                        help='of the two; default: both')
    parser.add_argument('--force',
                        action='store_true',
                        help='write into a folder that is there')


def run(args: argparse.Namespace) -> None:
    from seg_kd.export.files import refuse_existing
    from seg_kd.predict import predictors, sources
    from seg_kd.predict.pictures import LABELS, OVERLAYS, Pictures
    refuse_existing([args.out], args.force)
    found = sources.find(args.inputs)
    if args.config.lower().endswith('.onnx'):
        if args.checkpoint or args.cfg_options or args.fold:
            raise UserError(f'{args.config} holds its weights and settings: '
                            'leave out --checkpoint, --cfg-options and --fold')
        predict, names = predictors.of_onnx(args.config)
    elif args.checkpoint is None:
        raise UserError(f'give the checkpoint of {args.config}: --checkpoint '
                        'FILE')
    else:
        predict, names = predictors.of_model(cli.load_config(args),
                                             args.checkpoint)
    kinds = [args.only] if args.only else [OVERLAYS, LABELS]
    count, problems = Pictures(args.out, predict, names, kinds).write(found)
    if count:
        print(f'{count} images and frames in {args.out}')
    if problems:
        more = f' (and {len(problems) - 1} more)' if problems[1:] else ''
        raise UserError(problems[0] + more)
