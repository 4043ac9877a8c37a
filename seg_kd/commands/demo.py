"""The main job on embedded data: a teacher, a student alone, and distilled.

Draws street scenes, trains on them a small DeepLabV3+, a MobileNetV2 alone
and the same MobileNetV2 with Knowledge Adaptation, and compares the three:
about eight minutes on two cores. What is there already is used again; what
was cut off goes on. Writes to data/ and work_dirs/ of this folder.
"""
import argparse
import os
from pathlib import Path

from seg_kd import cli, shipped

RUNS = {  # what the table calls it: config, folder of the last stage
    'teacher': ('teacher_deeplab_synthetic', ''),
    'student alone': ('student_deeplab_synthetic', ''),
    'student + KA': ('ka_deeplab_synthetic', 'distill'),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--seed',
                        type=cli.from_0,
                        default=0,
                        help='of the students, default 0')
    parser.add_argument('--scenes',
                        type=cli.positive,
                        nargs=2,
                        default=(400, 100),
                        metavar=('TRAIN', 'VAL'),
                        help='to draw, default 400 and 100')
    parser.add_argument('--max-iters',
                        type=cli.positive,
                        metavar='N',
                        help='of each training; default: as in the configs')


def run(args: argparse.Namespace) -> None:
    from seg_kd.analysis import costs, pictures
    from seg_kd.analysis.trained import Trained
    from seg_kd.datasets.prepare import synthetic
    from seg_kd.engine.stages import latest_checkpoint
    synthetic.convert(Path('data/synthetic'), *args.scenes)
    models: dict[str, Trained] = {}
    folders: dict[str, str] = {}
    for title, (name, stage) in RUNS.items():
        print(f'\n== {title}: {name} ==', flush=True)
        teacher = latest_checkpoint(folders['teacher']) if folders else None
        folders[title] = os.path.join(train(name, args, teacher), stage)
        trained = latest_checkpoint(folders[title])
        assert trained is not None  # run_stages has written it
        models[title] = Trained(shipped.find(name), trained)
    out = 'work_dirs/demo' + (f'_seed{args.seed}' if args.seed else '')
    os.makedirs(out, exist_ok=True)
    print('\n' + costs.compare(models, os.path.join(out, 'table.txt')))
    pictures.draw_predictions(models, os.path.join(out, 'predictions.png'))
    pictures.draw_curves(folders, os.path.join(out, 'curves.png'))
    print(f'\nPictures: {out}/predictions.png and {out}/curves.png')


def train(name: str, args: argparse.Namespace, teacher: str | None) -> str:
    """Trains a config, as seg-kd train does; returns its folder."""
    from mmengine.config import Config

    from seg_kd.analysis.comparison import shorten
    from seg_kd.engine.stages import run_stages
    cfg = Config.fromfile(shipped.find(name))
    work_dir = f'work_dirs/{name}'
    if args.max_iters:
        shorten(cfg, args.max_iters)
    if 'teacher' in cfg:
        cfg.teacher.checkpoint = teacher
        if args.seed:  # one teacher for all seeds
            cfg.randomness = dict(seed=args.seed)
            work_dir += f'_seed{args.seed}'
    run_stages(cfg, work_dir, resume=True)
    return work_dir
