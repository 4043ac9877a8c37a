"""The main job on embedded data: a teacher, a student alone, and distilled.

Draws street scenes, trains on them a small DeepLabV3+, a MobileNetV2 alone
and the same MobileNetV2 with Knowledge Adaptation, and compares the three.
What is there already is used again; what was cut off goes on.
"""
import argparse
import os
from pathlib import Path

from mmengine.config import Config

from seg_kd import cli
from seg_kd.analysis import report
from seg_kd.datasets.prepare import synthetic
from seg_kd.engine.stages import latest_checkpoint, run_stages

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = 'data/synthetic'
RUNS = {  # what the table calls it: config, folder of the last stage
    'teacher': ('teacher_deeplab_synthetic', ''),
    'student alone': ('student_deeplab_synthetic', ''),
    'student + KA': ('ka_deeplab_synthetic', 'distill'),
}


def train(name: str, seed: int) -> str:
    """Trains a config, as tools/train.py does; returns its checkpoint."""
    cfg = Config.fromfile(f'configs/{name}.py')
    work_dir = f'work_dirs/{name}'
    if seed and not name.startswith('teacher'):  # one teacher for all seeds
        cfg.randomness = dict(seed=seed)
        work_dir += f'_seed{seed}'
    run_stages(cfg, work_dir, resume=True)
    return work_dir


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('--seed', type=int, default=0, help='of the students')
    args = parser.parse_args()
    os.chdir(ROOT)
    synthetic.convert(Path(DATA))
    models, folders = {}, {}
    for title, (name, stage) in RUNS.items():
        print(f'\n== {title}: configs/{name}.py ==', flush=True)
        folders[title] = os.path.join(train(name, args.seed), stage)
        models[title] = report.Trained(f'configs/{name}.py',
                                       latest_checkpoint(folders[title]))
    out = 'work_dirs/demo' + (f'_seed{args.seed}' if args.seed else '')
    os.makedirs(out, exist_ok=True)
    print('\n' + report.compare(models, os.path.join(out, 'table.txt')))
    report.draw_predictions(models, os.path.join(out, 'predictions.png'))
    report.draw_curves(folders, os.path.join(out, 'curves.png'))
    print(f'\nPictures: {out}/predictions.png and {out}/curves.png')


if __name__ == '__main__':
    cli.run(main)
