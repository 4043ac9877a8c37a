"""The same short experiment with one method after the other.

A shipped config names its data in one base, ``experiments/cityscapes.py``.
Put another in its place, and everything else but the method is the same for
all of them: student, teacher, data, schedule, seed.
"""
import glob
import os
from statistics import mean
from typing import Any, Dict, List, Optional, Sequence

import matplotlib
from mmengine.config import Config
from prettytable import PrettyTable

from seg_kd.analysis.report import read_scalars
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

BASE = '_base_/experiments/{}.py'
ALONE = 'student'
TASKLESS = ('hnd', )  # trained by their term alone
Results = Dict[str, List[float]]


def methods() -> List[str]:
    """Names of the methods that configs are shipped for, in ``configs/``."""
    found = [
        os.path.basename(path).removesuffix('_deeplab.py')
        for path in sorted(glob.glob('configs/*_deeplab.py'))
    ]
    return [name for name in found if name != ALONE]


def data_sets() -> List[str]:
    found = glob.glob('configs/' + BASE.format('*'))
    return sorted(os.path.basename(path).removesuffix('.py') for path in found)


def on_data(method: str, data: str, folder: str) -> str:
    """Path of a copy of ``configs/<method>_deeplab.py`` on other data.

    Raises:
        UserError: There is no such config, or it does not name its data so.
    """
    source = f'configs/{method}_deeplab.py'
    if not os.path.isfile(source):
        raise UserError(f'there is no {source}; the methods are: '
                        f'{", ".join(methods())}')
    with open(source, encoding='utf-8') as f:
        text = f.read()
    usual = BASE.format('cityscapes')
    if usual not in text:
        raise UserError(f'{source} does not name {usual} as a base')
    text = text.replace(usual, BASE.format(data))
    # the copy lies elsewhere
    text = text.replace("'_base_/", f"'{os.path.abspath('configs')}/_base_/")
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, f'{method}_{data}.py')
    with open(path, 'w', encoding='utf-8') as f:
        f.write(text)
    return path


def shorten(cfg: Config, max_iters: int) -> None:
    """Changes the length of the run and, in proportion, all that is in it.

    Stages before the last, learning rates and the schedules of terms keep
    their share of the whole.
    """
    scale = max_iters / cfg.train_cfg.max_iters
    stages = cfg.get('stages') or []
    for part in (cfg, *stages):
        train = part.get('train_cfg') or {}
        if isinstance(train.get('max_iters'), int):  # else already a share
            train['max_iters'] = scaled(train['max_iters'], scale)
        for scheduler in part.get('param_scheduler') or []:
            _scale(scheduler, ('begin', 'end'), scale)
        hooks = part.get('custom_hooks') or []
        for hook in hooks.values() if isinstance(hooks, dict) else hooks:
            _scale(hook, ('start', 'end', 'warmup'), scale)
    cfg.train_cfg.val_interval = cfg.train_cfg.max_iters
    cfg.default_hooks.checkpoint.interval = cfg.train_cfg.max_iters


def scaled(iterations: int, scale: float) -> int:
    return max(1, round(iterations * scale)) if iterations else 0


def _scale(settings: Dict[str, Any], keys: Sequence[str],
           scale: float) -> None:
    for key in keys:
        if settings.get(key):
            settings[key] = scaled(settings[key], scale)


def pull_alike(cfg: Config, ratio: float) -> None:
    """Measures every weight: ``ratio`` times the gradient of the task.

    Only in the last stage: those before it may have no task.
    """
    hooks = dict(enumerate(cfg.get('custom_hooks') or []))
    stage = cfg.stages[-1] if cfg.get('stages') else cfg
    own = stage.get('custom_hooks')
    if isinstance(own, dict):
        hooks.update({int(index): hook for index, hook in own.items()})
    elif own is not None:
        hooks = dict(enumerate(own))
    measured = dict(weight='auto', auto_ratio=ratio)
    stage.custom_hooks = [
        hook if hook['type'] == 'TeacherHook' else {
            **hook,
            **measured
        } for _, hook in sorted(hooks.items())
    ]


def train(method: str,
          data: str,
          seed: int,
          folder: str,
          max_iters: Optional[int],
          ratio: Optional[float] = None) -> float:
    """mIoU that the method ends with; a finished run is not run again."""
    cfg = Config.fromfile(
        on_data(method, data, os.path.join(folder, 'configs')))
    cfg.randomness = dict(seed=seed)
    if max_iters:
        shorten(cfg, max_iters)
    if ratio and method not in TASKLESS:
        pull_alike(cfg, ratio)
    work_dir = os.path.join(folder, f'{method}_seed{seed}')
    run_stages(cfg, work_dir, resume=True)
    stages = cfg.get('stages') or [dict(name='')]
    return final_miou(os.path.join(work_dir, stages[-1]['name']))


def final_miou(folder: str) -> float:
    """The last mIoU in the logs of a run.

    Raises:
        UserError: It was never evaluated.
    """
    scores = read_scalars(folder).get('mIoU')
    if not scores:
        raise UserError(f'{folder} holds no evaluation')
    return scores[-1][1]


def table(results: Results) -> str:
    """Mean, extremes, and the difference to the student alone."""
    shown = PrettyTable(
        ['method', 'mIoU', 'lowest', 'highest', 'to the student alone'])
    shown.align = 'r'
    shown.align['method'] = 'l'
    for name, scores in results.items():
        gain = mean(scores) - mean(results[ALONE])
        shown.add_row([
            name, f'{mean(scores):.2f}', f'{min(scores):.2f}',
            f'{max(scores):.2f}', '' if name == ALONE else f'{gain:+.2f}'
        ])
    return str(shown)


def draw(results: Results, path: str) -> None:
    """A bar a method, a dot a seed, a line where the student alone is."""
    names = list(results)
    figure, axis = plt.subplots(figsize=(7., .6 + .32 * len(names)),
                                layout='constrained')
    axis.barh(names, [mean(results[n]) for n in names],
              color=['0.75' if n == ALONE else 'tab:blue' for n in names])
    for i, name in enumerate(names):
        axis.plot(results[name], [i] * len(results[name]), 'k.', markersize=4)
    axis.axvline(mean(results[ALONE]), color='0.3', linestyle='--')
    axis.invert_yaxis()
    lowest = min(min(scores) for scores in results.values())
    highest = max(max(scores) for scores in results.values())
    margin = .2 * (highest - lowest) + .5
    axis.set_xlim(max(0, lowest - 3 * margin), highest + margin)
    axis.set_xlabel('mIoU')
    figure.savefig(path, dpi=110)
    plt.close(figure)
