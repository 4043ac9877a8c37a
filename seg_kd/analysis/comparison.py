"""The same short experiment with one method after the other.

An experiment is everything but the method: student, teacher, data, schedule.
Merged with one method after the other, and with the same seed, it compares
methods and nothing else.
"""
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config

import seg_kd
from seg_kd import __version__, shipped
from seg_kd.analysis import controls
from seg_kd.analysis.ledger import ALONE, Run
from seg_kd.analysis.logs import read_scalars, seconds_trained
from seg_kd.engine import provenance
from seg_kd.engine.class_iou import PREFIX
from seg_kd.engine.complete import (apply_changes, look_up_or, named_hooks,
                                    plain, with_stages)
from seg_kd.engine.folds import choose_fold
from seg_kd.engine.needs import check_layers, check_teacher
from seg_kd.engine.records import latest_checkpoint, read_record
from seg_kd.engine.settings import check_references, check_settings
from seg_kd.engine.stages import (decisive_settings, heads_of, run_stages,
                                  stage_configs, stage_folders)
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.registry import HOOKS, as_list, config_of_file, is_kind, type_name
from seg_kd.teacher.build import model_of

TASKLESS = ('HNDHook', )  # trained by their term alone
# Settings in iterations, of a schedule of the rate and of a hook.
SCHEDULES = 'begin', 'end', 'T_max', 'milestones', 'step_size', 'total_steps'
TERMS = 'start', 'end', 'warmup', 'connector_iters', 'begin_iter'


def methods() -> list[str]:
    """The shipped methods; what a data set changes in one is left out."""
    names = shipped.names(shipped.METHODS)
    return [n for n in names if f'{n}_deeplab' in shipped.names()]


def data_sets() -> list[str]:
    """The shipped experiments, named by their data."""
    return shipped.names(shipped.EXPERIMENTS)


def name_of(experiment: str, student: str | None = None) -> str:
    """What a ledger calls it: runs of two students are no pair."""
    return '+'.join(shipped.stem(x) for x in (experiment, student) if x)


def combine(method: str,
            experiment: str,
            student: str | None = None) -> Config:
    """An experiment with a method, as a config with both as bases would be.

    Args:
        method: A shipped method, a config file of one, or :data:`ALONE`.
        experiment: A shipped experiment, or a config file of one.
        student: A shipped student, or a config file with another ``model``.

    Raises:
        UserError: There is no such config.
    """
    cfg = config_of_file(shipped.find(experiment, shipped.EXPERIMENTS))
    if student:
        _set_student(cfg, shipped.find(student, shipped.STUDENTS))
    if method == ALONE:  # its task has no use for them
        cfg.train_dataloader.pop('unlabelled', None)
        if cfg.get('custom_hooks'):
            cfg.custom_hooks = _besides(cfg, DistillHook, TeacherHook)
    else:
        added = config_of_file(shipped.find(method, shipped.METHODS))
        own = plain(added._cfg_dict)
        # these two are replaced, whatever form they have
        if 'custom_hooks' in own:
            kept, hooks = _besides(cfg, DistillHook), own.pop('custom_hooks')
            if not isinstance(hooks, dict):
                hooks = {str(i): hook for i, hook in enumerate(hooks or [])}
                again = [_kind_and_name(hook) for hook in hooks.values()]
                kept = {
                    f'kept {k}': hook
                    for k, hook in kept.items()
                    if _kind_and_name(hook) not in again
                }
            cfg.custom_hooks = {**kept, **hooks}
        if 'stages' in own:
            cfg.stages = own.pop('stages')
        try:
            cfg.merge_from_dict(own)
        except TypeError as error:  # of a dict where the other has none
            raise UserError(f'{method} does not fit {experiment}, which it is '
                            f'merged with: {error}') from error
    name = f'{shipped.stem(method)}_{shipped.stem(experiment)}.py'
    return Config(cfg._cfg_dict, cfg_text=cfg.text or ' ', filename=name)


def _besides(cfg: Config, *kinds: type) -> dict[str, Any]:
    """The hooks of an experiment that are not of these kinds, by name.

    Such as an EMA: the student alone and each method have them.
    """
    found = named_hooks(cfg.get('custom_hooks'), None)
    return {k: h for k, h in found.items() if not is_kind(h, HOOKS, kinds)}


def _kind_and_name(hook: Any) -> tuple[str, Any]:
    """What only one hook of a run is."""
    name = hook.get('name') if isinstance(hook, dict) else None
    return type_name(hook), name


def _set_student(cfg: Config, path: str) -> None:
    model = model_of(path)
    model.data_preprocessor = cfg.model.data_preprocessor
    classes = heads_of(cfg.model)[0].num_classes
    for head in heads_of(model):
        head.num_classes = classes
    cfg.model = model


def shorten(cfg: Config, max_iters: int) -> None:
    """Changes the length of the run and, in proportion, all that is in it.

    Stages before the last, learning rates and the schedules of terms keep
    their share of the whole.

    Raises:
        UserError: The config is not measured in iterations.
    """
    apply_changes(cfg)
    whole = (cfg.get('train_cfg') or {}).get('max_iters')
    if not whole:
        raise UserError('a shorter run needs train_cfg.max_iters: it is '
                        'measured in iterations')
    scale = max_iters / whole
    for part in with_stages(cfg):
        train = part.get('train_cfg') or {}
        if isinstance(train.get('max_iters'), int):  # else already a share
            train['max_iters'] = scaled(train['max_iters'], scale)
        for scheduler in as_list(part.get('param_scheduler')):
            _scale(scheduler, SCHEDULES, scale)
        hooks = part.get('custom_hooks') or []
        for hook in hooks.values() if isinstance(hooks, dict) else hooks:
            _scale(hook or {}, TERMS, scale)
    cfg.train_cfg.val_interval = cfg.train_cfg.max_iters
    step = cfg.optim_wrapper.get('accumulative_counts', 1)
    checkpoint = (cfg.get('default_hooks') or {}).get('checkpoint')
    if checkpoint:
        checkpoint.interval = step * scaled(cfg.train_cfg.max_iters, .1 / step)


def scaled(iterations: int, scale: float) -> int:
    return max(1, round(iterations * scale)) if iterations else 0


def _scale(settings: dict[str, Any], keys: Sequence[str],
           scale: float) -> None:
    for key in keys:
        found = settings.get(key)
        if isinstance(found, (list, tuple)):
            settings[key] = [scaled(n, scale) for n in found]
        elif found:
            settings[key] = scaled(found, scale)


def pull_alike(cfg: Config, ratio: float) -> None:
    """Measures every weight: ``ratio`` times the gradient of the task.

    Only in the last stage: those before it may have no task.
    """
    *_, (name, last) = stage_configs(cfg)
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


def last_stage(cfg: Config) -> Config:
    """The one with the task, which is measured."""
    *_, (_, last) = stage_configs(cfg)
    return last


def taskless(cfg: Config) -> bool:
    """Is the student trained by the method's term alone?"""
    last = last_stage(cfg)
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
                 max_iters: int | None = None,
                 ratio: float | None = None,
                 student: str | None = None) -> None:
        self.experiment, self.student = experiment, student
        self.folder, self.max_iters, self.ratio = folder, max_iters, ratio

    def config(self,
               method: str,
               seed: int = 0,
               fold: str | None = None,
               own: str | None = None) -> Config:
        """That of a run; ``own`` stands for the checkpoint of ``@own``."""
        method, control = controls.split(method)
        cfg = combine(method, self.experiment, self.student)
        if fold:
            choose_fold(cfg, fold)
        cfg.merge_from_dict(dict(randomness=dict(seed=seed)))
        if control == 'softened':
            controls.soften(cfg)
        elif control == 'random':
            for teacher in controls.teachers_in(cfg):
                teacher['checkpoint'] = controls.random_weights(
                    teacher, self.folder)
        elif control == 'own':
            own = own or latest_checkpoint(self.work_dir(ALONE, fold, seed))
            for teacher in controls.teachers_in(cfg):
                teacher['model'] = plain(cfg.model)
                teacher['checkpoint'] = own
        if self.max_iters:
            shorten(cfg, self.max_iters)
        if self.ratio and not taskless(cfg):
            pull_alike(cfg, self.ratio)
        # of many runs the last checkpoint is what counts, and enough
        hooks = cfg.get('default_hooks') or {}
        for name in ('pictures', 'student_copies'):
            if name in hooks:
                hooks[name] = None
        if hooks.get('checkpoint'):
            hooks.checkpoint.save_best = None
        return cfg

    def check(self, methods: Sequence[str], folds: Sequence) -> None:
        """Before anything is trained: configs and teachers are there.

        Raises:
            UserError: They are not, or a run could not be compared.
        """
        known = (ALONE, *shipped.names(shipped.METHODS))  # to fit
        shipped_data = self.experiment in data_sets() and not self.student
        for fold in folds:
            alone = last_stage(self.config(ALONE, fold=fold))
            for method in methods:
                own = controls.split(method)[1] == 'own'
                # the teacher of a student's own comes first
                stages = list(
                    stage_configs(self.config(method, fold=fold, own=ALONE)))
                check_settings(stages)
                check_references(stages)
                check_measured(method, stages[-1][1])
                check_alike(method, stages[-1][1], alone)
                for _, cfg in stages:
                    if not own:
                        check_teacher(cfg)
                    if not (shipped_data and method in known):
                        check_layers(cfg)

    def learns_from(self, run: tuple[str, str | None, int]) -> Any:
        """The run that comes before it: that of the student alone."""
        method, fold, seed = run
        own = controls.split(method)[1] == 'own'
        return (ALONE, fold, seed) if own else None

    def work_dir(self, method: str, fold: str | None, seed: int) -> str:
        name = controls.title(method)
        place = [name, fold, f'seed{seed}'] if fold else [name, f'seed{seed}']
        return os.path.join(self.folder, '_'.join(place))

    def train(self, method: str, fold: str | None, seed: int) -> Run:
        """The run for a ledger; a finished one is not run again.

        Its ``alone`` are the settings of the student alone beside it.
        """
        cfg = self.config(method, seed, fold)
        work_dir = self.work_dir(method, fold, seed)
        run_stages(cfg, work_dir, resume=True)
        folders = stage_folders(cfg, work_dir)
        alone = self.config(ALONE, seed, fold)
        plain_name, control = controls.split(method)
        try:
            unfolded = dict(unfolded=fingerprint(self.config(plain_name)))
        except UserError:  # an experiment that is whole with a fold only
            unfolded = {}
        return dict(
            experiment=name_of(self.experiment, self.student),
            method=controls.title(method),
            fold=fold,
            seed=seed,
            iterations=cfg.train_cfg.max_iters,
            # with the teacher of a student's own it would be that of its seed
            settings=fingerprint(self.config(method, seed, fold, own=ALONE)),
            **unfolded,
            alone=fingerprint(alone),
            **other_network(cfg, alone),
            made_of=made_of(cfg, folders[-1], control in ('own', 'random')),
            **outcome(folders),
            version=__version__,
            commit=commit(),
            date=time.strftime('%Y-%m-%d'),
            machine=machine())

    def share(self, run: tuple[str, str | None, int]) -> float:
        """How far a run is, from 0 to 1, by its last stage."""
        cfg = self.config(run[0], run[2], run[1])
        folder = stage_folders(cfg, self.work_dir(*run))[-1]
        steps = read_scalars(folder).get('loss') or [(0, 0.)]
        return min(1., steps[-1][0] / cfg.train_cfg.max_iters)


def made_of(cfg: Config, folder: str, stands_in: bool) -> str:
    """A hash of a finished run's data, measurement and teacher.

    Args:
        cfg: The whole config.
        folder: Of its last stage.
        stands_in: The teacher is that of a control: it is not in the hash.

    Raises:
        UserError: The data or the measurement have changed since it ended.
    """
    last = last_stage(cfg)
    record = read_record(folder) or {}
    began = record.get('made_of') or {}
    data = provenance.data_of(last.get('train_dataloader') or {})
    measured = provenance.measured_by(last)
    if record.get('measured', measured) != measured or \
            provenance.other_data(began.get('data') or {}, data):
        raise UserError(
            f'{folder}: this run ended with other training or validation '
            'data, or was measured otherwise, than it would be now: '
            'choose another --work-dir')
    files = began.get('files') or {}
    teachers = [] if stands_in else [
        files.get(hook.get('checkpoint'))
        for hook in hooks_of(last, TeacherHook)
    ]
    return provenance.hashed([measured, data, teachers])


def check_measured(method: str, cfg: Config) -> None:
    """Raises UserError where a run would end without what is compared."""
    wanted = None
    if not (cfg.get('train_cfg') or {}).get('max_iters'):
        wanted = 'train_cfg.max_iters: a run is measured in iterations'
    elif not (cfg.get('val_dataloader') and cfg.get('val_evaluator')):
        wanted = 'val_dataloader and val_evaluator'
    elif not any('mIoU' in evaluator.get('iou_metrics', ['mIoU'])
                 for evaluator in as_list(cfg.val_evaluator)):
        wanted = "val_evaluator.iou_metrics=['mIoU']"
    if wanted:
        raise UserError(f'{method}: a comparison needs {wanted}')


def check_alike(method: str, cfg: Config, alone: Config) -> None:
    """Raises UserError where the difference would not be the method's.

    A method may be a whole config of another experiment.
    """
    for key in ('val_dataloader.dataset', 'val_evaluator',
                'train_dataloader.dataset'):
        if look_up_or(cfg, key) != look_up_or(alone, key):
            raise UserError(
                f'{method} has another {key} than the student alone: its '
                'difference would not be that of the method. Name its '
                'experiment as --data, or put the setting there')


def other_network(cfg: Config, alone: Config) -> dict[str, bool]:
    """``other_network=True`` for a ledger, if a method replaces the student.

    Such as HND, whose network is the teacher's tail behind a small head.
    """
    differ = last_stage(cfg).model != last_stage(alone).model
    return dict(other_network=True) if differ else {}


def fingerprint(cfg: Config) -> str:
    """A hash of the settings that decide about the outcome, but the seed."""
    parts = [decisive_settings(stage) for _, stage in stage_configs(cfg)]
    for part in parts:
        for key in [k for k in part if k.startswith('randomness')]:
            del part[key]
    return provenance.hashed(parts)


def machine() -> str:
    """What it ran on."""
    parts = [
        platform.machine(), f'{os.cpu_count()} cores',
        f'{torch.get_num_threads()} threads a run'
    ]
    if torch.cuda.is_available():
        parts.append(torch.cuda.get_device_name())
    return ', '.join(parts)


def commit() -> str | None:
    """That of the code, if it is run from a clone; ``-dirty`` if changed."""
    root = os.path.dirname(os.path.dirname(seg_kd.__file__))
    if not os.path.exists(os.path.join(root, '.git')):
        return None

    def git(*arguments: str) -> str:
        return subprocess.check_output(['git', *arguments],
                                       cwd=root,
                                       text=True).strip()

    try:
        changed = git('status', '--porcelain', '--', 'seg_kd', 'configs')
        found = git('rev-parse', '--short=10', 'HEAD')
    except (OSError, subprocess.CalledProcessError):  # no git at hand
        return None
    return f'{found}-dirty' if changed else found


def outcome(stages: Sequence[str]) -> dict[str, Any]:
    """What a run came to, for a ledger, from the folders of its stages.

    Raises:
        UserError: It was never evaluated.
    """
    return dict(miou=round(final_miou(stages[-1]), 3),
                iou=class_ious(stages[-1]),
                wall_s=max(1, round(sum(map(seconds_trained, stages)))))


def class_ious(folder: str) -> dict[str, float]:
    """The last IoU of each class in the logs of a run."""
    return {
        name.removeprefix(PREFIX): round(values[-1][1], 2)
        for name, values in read_scalars(folder).items()
        if name.startswith(PREFIX)
    }


def final_miou(folder: str) -> float:
    """The last mIoU in the logs of a run.

    Raises:
        UserError: It was never evaluated.
    """
    scores = read_scalars(folder).get('mIoU')
    if not scores:
        raise UserError(f'{folder} holds no evaluation')
    return scores[-1][1]
