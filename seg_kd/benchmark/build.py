"""The real runner of a config, made to be measured."""
import os
from collections.abc import Sequence
from typing import NamedTuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner

from seg_kd import shipped
from seg_kd.benchmark.data import set_data
from seg_kd.benchmark.timing import times_sign
from seg_kd.engine.evaluate import teacher_of
from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.stages import fill_in, stage_configs
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.registry import type_name
from seg_kd.teacher.build import build_network, teacher_config

WEIGHTS_ONLY = dict(save_optimizer=False, save_param_scheduler=False)


class Source(NamedTuple):
    """A config, and what of it is measured."""
    cfg: Config
    stage: str = ''  # its name; default: the last that distils
    work_dir: str = ''  # where the earlier stages were trained


class Built(NamedTuple):
    """A runner, and what has to be said about it."""
    runner: Runner
    title: str
    data: bool  # real images, not noise


def build_runner(sources: Sequence[Source],
                 images: Sequence[int],
                 iterations: int,
                 folder: str,
                 checkpoint: str | None = None,
                 data: bool = True,
                 times: int = 1) -> Built:
    """A runner of one stage, with the distillation hooks of all configs.

    Nothing is downloaded. Where the teacher or an earlier stage has no
    checkpoint its weights are random, where the data set is absent the images
    are noise; the title says so. Nothing is validated or saved, and the
    learning rate is 0: all steps are one and the same.

    Args:
        sources: The first one gives everything but the further hooks.
        images: ``(N, H, W)`` of a batch.
        iterations: Of the training.
        folder: To write to.
        checkpoint: The teacher's; default: as the config says.
        data: Take the config's data set where it is there.
        times: How often each distillation hook is there.

    Raises:
        UserError: A config distils nothing, or another teacher than the first.
    """
    stages = [list(stage_configs(source.cfg)) for source in sources]
    places = [chosen(s, source) for s, source in zip(stages, sources)]
    cfg = stages[0][places[0]][1]
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    random: list[str] = []
    teacher = teacher_of(cfg, trained=False)
    named = checkpoint or shipped.weights(teacher.model,
                                          teacher.get('checkpoint')) or ''
    if checkpoint is None and not os.path.isfile(named):
        named = f'{folder}/teacher.pth'
        network = build_network(teacher_config(teacher.model, named)[0])
        torch.save(network.state_dict(), named)
        random.append('teacher')
    for k, (source, found, place) in enumerate(zip(sources, stages, places)):
        make_ready(found[:place + 1], source.work_dir, named, images,
                   f'{folder}/{k}', random)
    for source, found, place in zip(sources[1:], stages[1:], places[1:]):
        join(cfg, found[place][1], source)
    repeat(cfg, times)
    quiet(cfg, named, f'{folder}/run')
    cfg.train_cfg = dict(type='IterBasedTrainLoop',
                         max_iters=iterations,
                         val_interval=iterations + 1)
    notes = [set_data(cfg, images, data)]
    real = not notes[0].startswith('noise')
    if random:
        notes.append('random weights: ' + ', '.join(dict.fromkeys(random)))
    title = '; '.join([f'one step on {times_sign(images)}', *notes])
    return Built(RUNNERS.build(cfg), title, real)


# -- the stage -------------------------------------------------------------


def chosen(stages: Sequence, source: Source) -> int:
    """Place of the stage that is asked for, or of the last that distils."""
    names = [name for name, _ in stages]
    if source.stage:
        if source.stage not in names:
            raise UserError(f'{source.cfg.filename} has no stage '
                            f'{source.stage!r}; there are: {names}')
        return names.index(source.stage)
    distilling = [
        k for k, (_, cfg) in enumerate(stages)
        if any(hooks_of(cfg, DistillHook))
    ]
    if not distilling:
        raise UserError(f'{source.cfg.filename} distils nothing: it has no '
                        'TeacherHook with a distillation hook')
    return distilling[-1]


def make_ready(stages: Sequence, work_dir: str, teacher: str,
               images: Sequence[int], folder: str, random: list[str]) -> None:
    """Gives the last of the stages what the ones before it ended with.

    What was not trained yet is what it would save before it trains; its name
    goes to ``random``.
    """
    done: dict[str, str] = {}
    for name, cfg in stages[:-1]:
        fill_in(cfg, done)
        trained = latest_checkpoint(os.path.join(work_dir, name))
        if trained is None:
            quiet(cfg, teacher, f'{folder}/{name}')
            cfg.launcher = 'none'  # each process has a file of its own
            set_data(cfg, images, wanted=False)
            runner = RUNNERS.build(cfg)
            runner.save_checkpoint(folder, f'{name}.pth', **WEIGHTS_ONLY)
            trained = f'{folder}/{name}.pth'
            random.append(name)
        done[name] = trained
    fill_in(stages[-1][1], done)


def join(cfg: Config, other: Config, source: Source) -> None:
    """Appends the other's distillation hooks."""
    if teacher_of(other, False).model != teacher_of(cfg, False).model:
        raise UserError(f'{source.cfg.filename} has another teacher than '
                        f'{cfg.filename}: their hooks cannot be put together')
    cfg.custom_hooks = [*cfg.custom_hooks, *hooks_of(other, DistillHook)]


def repeat(cfg: Config, times: int) -> None:
    """Appends copies of the distillation hooks, under other names."""
    hooks = list(hooks_of(cfg, DistillHook))
    for k in range(1, times):
        for hook in hooks:
            name = hook.get('name') or type_name(hook).lower()
            cfg.custom_hooks.append(ConfigDict(hook, name=f'{name}{k}'))


def quiet(cfg: Config, teacher: str, folder: str) -> None:
    """The same training without messages, validation, and consequences."""
    for hook in hooks_of(cfg, TeacherHook):
        hook.update(checkpoint=teacher, evaluate=False)
    for hook in hooks_of(cfg, DistillHook):
        if hook.get('weight') == 'auto':  # as when it has been measured
            hook.weight = 1.
    cfg.model.pop('pretrained', None)  # nothing is downloaded
    cfg.model.backbone.init_cfg = None
    for kind in ('val', 'test'):
        cfg.update({
            f'{kind}_{part}': None
            for part in ('cfg', 'dataloader', 'evaluator')
        })
    cfg.optim_wrapper.optimizer.lr = 0.
    cfg.param_scheduler = None
    cfg.default_hooks.checkpoint = None
    cfg.work_dir, cfg.log_level = folder, 'WARNING'
    cfg.experiment_name = folder.replace('/', '_')
    (cfg.get('visualizer') or {}).pop('name', None)  # an instance of its own
