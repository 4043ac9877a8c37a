"""The same short experiment with one method after the other.

An experiment is everything but the method: student, teacher, data, schedule.
Merged with one method after the other, and with the same seed, it compares
methods and nothing else.
"""
import os
from statistics import mean
from typing import Any, Dict, List, Optional, Sequence

import matplotlib
from mmengine.config import Config
from prettytable import PrettyTable

from seg_kd import shipped
from seg_kd.analysis.logs import read_scalars
from seg_kd.engine.complete import apply_changes, plain
from seg_kd.engine.folds import choose_fold
from seg_kd.engine.stages import (check_teacher, named_stages, run_stages,
                                  stage_configs)
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook
from seg_kd.registry import HOOKS, is_kind

matplotlib.use('Agg')
import matplotlib.pyplot as plt  # noqa: E402

ALONE = 'student'
TASKLESS = ('HNDHook', )  # trained by their term alone
Results = Dict[str, List[float]]


def methods() -> List[str]:
    """The shipped methods; what a data set changes in one is left out."""
    names = shipped.names(shipped.METHODS)
    return [n for n in names if f'{n}_deeplab' in shipped.names()]


def data_sets() -> List[str]:
    """The shipped experiments, named by their data."""
    return shipped.names(shipped.EXPERIMENTS)


def combine(method: str,
            experiment: str,
            student: Optional[str] = None) -> Config:
    """An experiment with a method, as a config with both as bases would be.

    Args:
        method: A shipped method, a config file of one, or :data:`ALONE`.
        experiment: A shipped experiment, or a config file of one.
        student: A shipped student, or a config file with another ``model``.

    Raises:
        UserError: There is no such config.
    """
    cfg = Config.fromfile(shipped.find(experiment, shipped.EXPERIMENTS))
    if student:
        _set_student(cfg, shipped.find(student, shipped.STUDENTS))
    if method != ALONE:
        added = Config.fromfile(shipped.find(method, shipped.METHODS))
        own = plain(added._cfg_dict)
        for key in ('custom_hooks', 'stages'):  # whatever form they have
            if key in own:
                cfg[key] = own.pop(key)
        cfg.merge_from_dict(own)
    name = f'{shipped.stem(method)}_{shipped.stem(experiment)}.py'
    return Config(cfg._cfg_dict, cfg_text=cfg.text or ' ', filename=name)


def _set_student(cfg: Config, path: str) -> None:
    model = Config.fromfile(path).model
    model.data_preprocessor = cfg.data_preprocessor
    heads = model.get('decode_head') or []
    for head in heads if isinstance(heads, list) else [heads]:
        head.num_classes = cfg.num_classes
    cfg.model = model


def shorten(cfg: Config, max_iters: int) -> None:
    """Changes the length of the run and, in proportion, all that is in it.

    Stages before the last, learning rates and the schedules of terms keep
    their share of the whole.
    """
    apply_changes(cfg)
    scale = max_iters / cfg.train_cfg.max_iters
    stages = cfg.get('stages') or []
    for part in (cfg,
                 *(stages.values() if isinstance(stages, dict) else stages)):
        train = part.get('train_cfg') or {}
        if isinstance(train.get('max_iters'), int):  # else already a share
            train['max_iters'] = scaled(train['max_iters'], scale)
        for scheduler in part.get('param_scheduler') or []:
            _scale(scheduler, ('begin', 'end'), scale)
        hooks = part.get('custom_hooks') or []
        for hook in hooks.values() if isinstance(hooks, dict) else hooks:
            _scale(hook or {}, ('start', 'end', 'warmup'), scale)
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
    name, last = list(stage_configs(cfg))[-1]
    measured = dict(weight='auto', auto_ratio=ratio)
    hooks = [{
        **hook,
        **measured
    } if is_kind(hook, HOOKS, DistillHook) else hook
             for hook in last.get('custom_hooks') or []]
    stages = cfg.get('stages')
    if isinstance(stages, dict) and stages:
        stages[name] = dict(stages[name] or {}, custom_hooks=hooks)
    else:
        (stages[-1] if stages else cfg)['custom_hooks'] = hooks


def taskless(cfg: Config) -> bool:
    """Is the student trained by the method's term alone?"""
    last = list(stage_configs(cfg))[-1][1]
    kinds = tuple(HOOKS.get(name) for name in TASKLESS)
    return any(is_kind(h, HOOKS, kinds) for h in last.get('custom_hooks', []))


class Comparison:
    """What is the same for all methods.

    Args:
        experiment: See :func:`combine`.
        folder: Where the runs go.
        max_iters: Of the last stage; the rest in proportion.
        ratio: See :func:`pull_alike`.
        student: See :func:`combine`.
    """

    def __init__(self,
                 experiment: str,
                 folder: str,
                 max_iters: Optional[int] = None,
                 ratio: Optional[float] = None,
                 student: Optional[str] = None) -> None:
        self.experiment, self.student = experiment, student
        self.folder, self.max_iters, self.ratio = folder, max_iters, ratio

    def config(self,
               method: str,
               seed: int = 0,
               fold: Optional[str] = None) -> Config:
        cfg = combine(method, self.experiment, self.student)
        if fold:
            choose_fold(cfg, fold)
        cfg.randomness = dict(seed=seed)
        if self.max_iters:
            shorten(cfg, self.max_iters)
        if self.ratio and not taskless(cfg):
            pull_alike(cfg, self.ratio)
        return cfg

    def check(self, methods: Sequence[str], folds: Sequence) -> None:
        """Before anything is trained: configs and teachers are there."""
        for method in methods:
            for fold in folds:
                for _, cfg in stage_configs(self.config(method, fold=fold)):
                    check_teacher(cfg)

    def train(self,
              method: str,
              seed: int,
              fold: Optional[str] = None) -> float:
        """mIoU that the method ends with; a finished run is not run again."""
        cfg = self.config(method, seed, fold)
        name = shipped.stem(method)
        place = [name, fold, f'seed{seed}'] if fold else [name, f'seed{seed}']
        work_dir = os.path.join(self.folder, '_'.join(place))
        run_stages(cfg, work_dir, resume=True)
        stages = list(named_stages(cfg)) or ['']
        return final_miou(os.path.join(work_dir, stages[-1]))


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
