"""The main job on embedded data: a student alone, and the same distilled.

Draws street scenes, few with labels and more without, and trains a small
MobileNetV2 on them, alone and with the recipe (FitNets' hint, then that and
KD) from a teacher that comes with the package, three times each; measures both
in cities that nobody has seen. What is there already is used again; what was
cut off goes on. Writes to data/ and work_dirs/ of this folder.
"""
import argparse
import os
import shlex
from pathlib import Path

from seg_kd import cli, shipped

DATA, METHOD = 'synthetic_unlabelled', 'recipe_synthetic'
OUT = 'work_dirs/demo'
NETWORKS = dict(teacher='teacher_deeplab_synthetic',
                alone='student_deeplab_synthetic',
                distilled='recipe_synthetic')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument('--seeds',
                        type=cli.from_0,
                        nargs='+',
                        default=[0, 1, 2],
                        metavar='SEED',
                        help='of the students, default 0 1 2')
    parser.add_argument('--scenes',
                        type=cli.positive,
                        nargs=3,
                        default=(24, 320, 64),
                        metavar=('LABELLED', 'UNLABELLED', 'VAL'),
                        help='to draw, default 24, 320 and 64')
    parser.add_argument('--max-iters',
                        type=cli.positive,
                        metavar='N',
                        help='of each training; default: as in the configs')
    cli.add_number(parser, '--jobs', min(2,
                                         os.cpu_count() or 1),
                   'trainings at a time, one thread each')


def run(args: argparse.Namespace) -> None:
    from seg_kd.datasets.prepare import synthetic
    labelled, unlabelled, val = args.scenes
    synthetic.convert(Path('data/synthetic'),
                      labelled,
                      val,
                      unlabelled,
                      jobs=args.jobs)
    compare(args)
    show(args.seeds[0], args.max_iters)


def compare(args: argparse.Namespace) -> None:
    """Trains, and prints the table, as ``seg-kd compare`` does."""
    from seg_kd.commands import compare as command
    words = [
        METHOD, '--data', DATA, '--seeds', *args.seeds, '--jobs', args.jobs,
        '--work-dir', OUT
    ]
    if args.max_iters:
        words += ['--max-iters', args.max_iters]
    words = list(map(str, words))
    print(f'seg-kd compare {shlex.join(words)}', flush=True)
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    command.run(parser.parse_args(words))


def show(seed: int, max_iters: int | None) -> None:
    """What the three networks took, cost and see, with the first seed."""
    from seg_kd.analysis import costs, pictures
    from seg_kd.analysis.comparison import ALONE, Comparison
    from seg_kd.analysis.trained import Trained
    from seg_kd.engine.records import latest_checkpoint
    from seg_kd.engine.stages import stage_configs, stage_folders
    job = Comparison(DATA, OUT, max_iters)
    models, folders = {}, {}
    teacher = shipped.weights(shipped.SCOPE + NETWORKS['teacher'])
    assert teacher is not None  # it is a part of the package
    models['teacher'] = Trained(NETWORKS['teacher'], teacher)
    for title, method in ('alone', ALONE), ('distilled', METHOD):
        cfg = job.config(method)
        done = [
            f'{stage.train_cfg.max_iters} {name}'.strip()
            for name, stage in stage_configs(cfg)
        ]
        print(f'Iterations, {title}: {", ".join(done)}')
        folder = stage_folders(cfg, job.work_dir(method, None, seed))[-1]
        trained = latest_checkpoint(folder)
        assert trained is not None  # it has been compared
        folders[title] = folder
        models[title] = Trained(NETWORKS[title], trained)
    print('\n' + costs.compare(models, os.path.join(OUT, 'costs.txt')))
    pictures.draw_predictions(models, os.path.join(OUT, 'predictions.png'))
    pictures.draw_curves(folders, os.path.join(OUT, 'curves.png'))
    print(f'\nPictures: {OUT}/predictions.png and {OUT}/curves.png')
