"""Writes the student so that it runs elsewhere: for MMSegmentation alone
(--out), as ONNX (--onnx) or as a torch program (--torch-export).

example: seg-kd export ka_deeplab work_dirs/ka_deeplab/distill/iter_90000.pth
             --out student --onnx student/student.onnx --with-preprocessing
See docs/export.md. The halves of a split network (HND): seg-kd export-split.
"""
from __future__ import annotations

import argparse
import os
from typing import TYPE_CHECKING, Any

from seg_kd import cli
from seg_kd.errors import UserError

if TYPE_CHECKING:
    from mmengine.config import Config

    from seg_kd.export.network import Deployed
    from seg_kd.export.parity import Run
    from seg_kd.export.samples import Images

IMAGES = 8  # to compare on


def add_arguments(parser: argparse.ArgumentParser) -> None:
    cli.add_config_arguments(parser, work_dir=False)
    parser.add_argument('checkpoint', help='checkpoint of the student')
    parser.add_argument('--out',
                        type=cli.folder,
                        metavar='DIR',
                        help='for student.py and student.pth; default, if '
                        'nothing else is wanted: student/ by the checkpoint')
    parser.add_argument('--onnx', metavar='FILE', help='write an ONNX file')
    parser.add_argument('--torch-export',
                        metavar='FILE',
                        help='write a torch.export program (.pt2)')
    parser.add_argument('--output',
                        choices=['logits', 'argmax'],
                        default='logits',
                        help='what these two give, default logits')
    parser.add_argument('--with-preprocessing',
                        action='store_true',
                        help='they normalize images themselves')
    parser.add_argument('--size',
                        nargs=2,
                        type=cli.positive,
                        metavar=('HEIGHT', 'WIDTH'),
                        help='they take this size only; default: any')
    parser.add_argument('--int8',
                        type=cli.positive,
                        metavar='N',
                        help='also an ONNX file in 8 bits, calibrated on N '
                        'training images')
    parser.add_argument('--force',
                        action='store_true',
                        help='write over files that are there')


def files(args: argparse.Namespace) -> dict[str, str]:
    """What is to be written, by kind.

    Raises:
        UserError: The options do not fit each other.
    """
    found = {}
    if not (args.out or args.onnx or args.torch_export):
        args.out = os.path.join(os.path.dirname(args.checkpoint), 'student')
    if args.out:
        found['config'] = os.path.join(args.out, 'student.py')
        found['checkpoint'] = os.path.join(args.out, 'student.pth')
    if args.torch_export:
        found['torch'] = args.torch_export
    if args.onnx:
        found['onnx'] = args.onnx
    if args.int8:
        if not args.onnx:
            raise UserError('--int8 makes 8 bits of an ONNX file: give --onnx '
                            'FILE as well')
        stem, ending = os.path.splitext(args.onnx)
        found['int8'] = f'{stem}.int8{ending}'
    return found


def run(args: argparse.Namespace) -> None:
    from seg_kd.engine.evaluate import last_stage, load_student
    from seg_kd.export.card import classes_and_palette, set_size
    from seg_kd.export.files import refuse_existing, require_onnx
    from seg_kd.export.network import deployed, program
    from seg_kd.export.samples import images_of
    from seg_kd.networks.classes import check_num_classes
    paths = files(args)
    refuse_existing(paths.values(), args.force)
    if args.onnx:
        require_onnx()
    cfg = last_stage(cli.load_config(args))
    model, content = load_student(cfg, args.checkpoint)
    classes, palette = classes_and_palette(cfg, content, args.checkpoint)
    check_num_classes(model, classes, 'the student', auxiliary=False)
    if args.out:
        write_plain(cfg, model, classes, palette, images_of(cfg, 1), paths)
    if not args.onnx and not args.torch_export:
        return
    if args.size:
        set_size(cfg, args.size)
    images = images_of(cfg, IMAGES, args.size)
    network = deployed(cfg, model, classes, palette, args.with_preprocessing,
                       args.output)
    fixed = args.size is not None
    made = program(network, images.arrays[0].shape[:2], fixed)
    if args.torch_export:
        write_program(made, network, images, fixed, paths['torch'])
    if args.onnx:
        write_onnx(made, network, images, fixed, paths['onnx'])
    if args.int8:
        write_int8(cfg, network, images, args.int8, paths)


def write_plain(cfg: Config, model: Any, classes: tuple[str, ...],
                palette: list, images: Images, paths: dict[str, str]) -> None:
    from seg_kd.export.student import write_student
    notes = write_student(cfg, model, classes, palette, images.arrays[0],
                          paths['config'], paths['checkpoint'])
    print(f'{paths["config"]} and {paths["checkpoint"]}: read back, they give '
          'the same logits, bit for bit')
    for note in notes:
        print(f'note: {note}')


def write_program(made: Any, network: Deployed, images: Images, fixed: bool,
                  path: str) -> None:
    from seg_kd.export.files import written_whole
    from seg_kd.export.network import saved
    from seg_kd.export.parity import compare, torch_run
    with written_whole(path) as part:
        run = torch_run(saved(made, network.card, part))
        print(f'{path}: {compare(run, network, images, fixed)}')


def write_onnx(made: Any, network: Deployed, images: Images, fixed: bool,
               path: str) -> None:
    from seg_kd.export import onnx_file
    from seg_kd.export.files import written_whole
    from seg_kd.export.parity import compare, torch_run
    with written_whole(path) as part:
        onnx_file.write_onnx(made, network, part)
        run = onnx_file.OnnxNetwork(part)
        found = compare(run, network, images, fixed)
    print(f'{path}: {found}')
    print(f'  takes {network.card.describe()}; gives {network.card.output}')
    show_latency(dict(onnxruntime=run, torch=torch_run(network)), network,
                 images)


def write_int8(cfg: Config, network: Deployed, images: Images, count: int,
               paths: dict[str, str]) -> None:
    from seg_kd.export import int8
    from seg_kd.export.files import written_whole
    from seg_kd.export.onnx_file import OnnxNetwork
    split = 'val' if cfg.get('val_dataloader') else 'test'
    with written_whole(paths['int8']) as part:
        int8.quantize(paths['onnx'], part, cfg, count)
        both = dict(float=OnnxNetwork(paths['onnx']), int8=OnnxNetwork(part))
        labels = {name: each.labels for name, each in both.items()}
        scores, scored = int8.miou(labels, cfg, split,
                                   len(network.card.classes))
    loss = scores['float'] - scores['int8']
    print(f'{paths["int8"]}: mIoU {scores["float"]:.2f} in float32, '
          f'{scores["int8"]:.2f} in 8 bits ({-loss:+.2f}) on {scored} {split} '
          'images')
    if not loss <= int8.LOSS:
        print(f'warning: 8 bits cost more than {int8.LOSS:g} mIoU; try more '
              'images to calibrate on, or keep the float file')
    show_latency({
        'float32': both['float'],
        '8 bits': both['int8']
    }, network, images)


def show_latency(runs: dict[str, Run], network: Deployed,
                 images: Images) -> None:
    import torch

    from seg_kd.export.parity import latency
    image = images.arrays[0]
    found = latency(runs, network.card.batch(image[None]))
    height, width = image.shape[:2]
    print(f'  one image of {width}x{height}, {torch.get_num_threads()} '
          'threads: ' + ', '.join(f'{ms:.1f} ms in {name}'
                                  for name, ms in found.items()))
