"""What a config says, held against what its classes take.

Before anything is built: a setting that nobody reads, or that cannot be, is
found at once, in whatever stage it stands, and by its name. Names and types
are those of the constructors' signatures; the range of a number goes by its
name (:mod:`seg_kd.engine.limits`). What is not certain to be wrong passes.
"""
import inspect
import os
import re
from collections.abc import Iterable, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.registry import (HOOKS, LOG_PROCESSORS, LOOPS, METRICS,
                               MODEL_WRAPPERS, MODELS, OPTIM_WRAPPERS,
                               PARAM_SCHEDULERS, TRANSFORMS, VISUALIZERS,
                               init_default_scope)
from mmengine.runner import IterBasedTrainLoop, Runner

from seg_kd import shipped
from seg_kd.engine.complete import replaced
from seg_kd.engine.parts import (PLAIN, check_loader, check_loop, check_plain,
                                 check_typed, unknown, wrong)
from seg_kd.errors import UserError
from seg_kd.registry import class_in, type_name

Values = Mapping[str, Any]

LAUNCHED = dict(
    pytorch=('RANK', 'torchrun --nproc_per_node=N -m seg_kd.cli train ...'),
    slurm=('SLURM_PROCID', 'srun seg-kd train ...'),
    mpi=('OMPI_COMM_WORLD_RANK', 'mpirun seg-kd train ...'))
# Keys that mean something at the top of a config.
TOP = {
    *inspect.signature(Runner).parameters, 'teacher', 'stages', 'stage',
    'changes', 'folds', 'fold', 'task', 'runner_type', 'channels_last',
    'trust_checkpoint', 'find_unused_parameters', 'model_wrapper_cfg',
    'sync_bn', 'compile', 'tta_model', 'tta_pipeline', 'custom_imports',
    'vis_backends', 'activation_checkpointing', 'efficient_conv_bn_eval'
}
# Hooks that a run has unless its config says None.
MMENGINES = ('runtime_info', 'timer', 'sampler_seed', 'logger',
             'param_scheduler', 'checkpoint')
TOO_LATE = dict(launcher='use --launcher',
                custom_imports='put it into the config file')
TOGETHER = 'dataloader', 'cfg', 'evaluator'
DICTS = ('model', 'train_cfg', 'val_cfg', 'test_cfg', 'train_dataloader',
         'val_dataloader', 'test_dataloader', 'optim_wrapper', 'default_hooks',
         'randomness', 'env_cfg', 'auto_scale_lr', 'log_processor', 'teacher',
         'folds', 'changes')
BOOLS = ('resume', 'channels_last', 'trust_checkpoint',
         'find_unused_parameters')
TEXTS = ('load_from', 'work_dir', 'experiment_name', 'default_scope',
         'runner_type', 'log_level')
ONE_OF = dict(sync_bn=('torch', 'mmcv'),
              log_level=('DEBUG', 'INFO', 'WARNING', 'ERROR', 'CRITICAL'),
              launcher=('none', 'pytorch', 'slurm', 'mpi'))


def check_settings(stages: Iterable[tuple[str, Config]]) -> None:
    """Raises UserError at a setting that cannot be meant, in any stage.

    Args:
        stages: Name and complete config of each.
    """
    for name, cfg in stages:
        if name and (name in ('.', '..') or set(name) & set('/\\')):
            raise UserError(f'stages.{name}: a name is wanted that can be '
                            'that of a folder, without / and \\')
        try:
            _check(cfg._cfg_dict)
        except UserError as error:
            where = f'stage {name!r}: ' if name else ''
            raise UserError(f'{where}{error}') from error


def check_references(stages: Iterable[tuple[str, Config]]) -> None:
    """Raises UserError where ``'stage:NAME'`` is none before its stage.

    Args:
        stages: Name and complete config of each, all of them, in order.
    """
    earlier: list[str] = []

    def known(stage: str) -> str:
        if stage not in earlier:
            raise UserError(f"'stage:{stage}' names no stage before this one"
                            f'{shipped.nearest(stage, earlier)}')
        return f'stage:{stage}'

    for name, cfg in stages:
        try:
            replaced(cfg._cfg_dict, 'stage:', known)
        except UserError as error:
            where = f'stage {name!r}: ' if name else ''
            raise UserError(f'{where}{error}') from error
        earlier.append(name)


def _check(cfg: Values) -> None:
    _check_top(cfg)
    scope = cfg.get('default_scope') or 'mmseg'
    scopes = {MODELS.scope, *MODELS.children}
    if scope not in scopes:
        raise UserError(f'default_scope={scope!r} is none that is imported'
                        f'{shipped.nearest(scope, sorted(scopes))}')
    init_default_scope(scope)
    for key in ('model', 'tta_model'):
        check_typed(key, cfg.get(key), MODELS)
    for kind in ('train', 'val', 'test'):
        check_loader(f'{kind}_dataloader', cfg.get(f'{kind}_dataloader'))
        check_loop(f'{kind}_cfg', cfg.get(f'{kind}_cfg'))
        check_typed(f'{kind}_evaluator', cfg.get(f'{kind}_evaluator'), METRICS)
    for kind in ('val', 'test'):
        there = {f'{kind}_{k}': cfg.get(f'{kind}_{k}') for k in TOGETHER}
        without = [key for key, value in there.items() if value is None]
        if 0 < len(without) < len(there):
            raise UserError(f'{", ".join(there)} go together: all of them, or '
                            f'none; {" and ".join(without)} is missing')
    check_typed('optim_wrapper', cfg.get('optim_wrapper'), OPTIM_WRAPPERS,
                'OptimWrapper')
    wrapper = (cfg.get('model_wrapper_cfg') or {}).get('type')
    if wrapper and class_in(MODEL_WRAPPERS, wrapper) is None:
        raise unknown('model_wrapper_cfg', wrapper, MODEL_WRAPPERS)
    scaled = cfg.get('auto_scale_lr') or {}
    if scaled.get('enable') and not scaled.get('base_batch_size'):
        raise UserError('auto_scale_lr needs base_batch_size, the batch for '
                        'which the learning rate is meant')
    check_typed('param_scheduler', cfg.get('param_scheduler'),
                PARAM_SCHEDULERS)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        near = shipped.typo_of(name, MMENGINES)
        if near:
            raise UserError(f'default_hooks has {name!r} besides {near!r}: '
                            'is it a misspelling?')
        check_typed(f'default_hooks.{name}', hook, HOOKS)
    for i, hook in enumerate(cfg.get('custom_hooks') or []):
        check_typed(f'custom_hooks.{type_name(hook) or i}', hook, HOOKS)
    check_typed('visualizer', cfg.get('visualizer'), VISUALIZERS, 'Visualizer')
    check_typed('log_processor', cfg.get('log_processor'), LOG_PROCESSORS,
                'LogProcessor')
    check_typed('tta_pipeline', cfg.get('tta_pipeline'), TRANSFORMS)
    for key in ('randomness', 'env_cfg', 'auto_scale_lr'):
        check_plain(key, cfg.get(key), PLAIN[key])
    _check_saves(cfg)


def check_shape(cfg: Values, where: str = '') -> None:
    """Raises UserError where a section, of a config or stage, is none."""
    for key in DICTS:
        if not isinstance(cfg.get(key), (dict, type(None))):
            raise wrong(where + key, 'a dict', cfg[key])
    teacher = cfg.get('teacher')
    if teacher and not where and not isinstance(teacher.get('type'),
                                                (str, type)):
        raise wrong('teacher', "a dict(type='TeacherHook', ...)", teacher)
    hooks = cfg.get('custom_hooks') or []
    if not isinstance(hooks, (dict, list)):
        raise wrong(f'{where}custom_hooks', 'hooks by name, or a list of '
                    'them,', hooks)
    named = hooks if isinstance(hooks, dict) else dict(enumerate(hooks))
    for name, hook in named.items():
        if isinstance(hook, (str, int, float, list, tuple)):
            raise wrong(f'{where}custom_hooks.{name}', 'a dict', hook)


def _check_top(cfg: Values) -> None:
    """What stands at the top: unknown keys are variables of a user's own."""
    for key, value in cfg.items():
        if key not in TOP:
            # `test_pipeline` is a variable in most configs
            near = shipped.typo_of(key, TOP - {'tta_pipeline'})
            if near:
                raise UserError(f'the config sets {key!r}, which nobody '
                                f'reads; did you mean {near}?')
        if key == 'compile' and not isinstance(value,
                                               (bool, dict, type(None))):
            raise wrong(key, 'True, False or a dict', value)
        if key in BOOLS and not isinstance(value, (bool, type(None))):
            raise wrong(key, 'True or False', value)
        if key in TEXTS and not isinstance(value, (str, type(None))):
            raise wrong(key, 'a text', value)
        if key in ONE_OF and value not in (None, *ONE_OF[key]):
            raise wrong(key, f'one of {", ".join(ONE_OF[key])}', value)


def check_launcher(name: str) -> str:
    """Raises UserError where a launcher is named that has launched nothing.
    """
    needed, how = LAUNCHED.get(name, ('', ''))
    if needed and needed not in os.environ:
        raise UserError(f'--launcher {name}: this process was not started by '
                        f'it, {needed} is not set: {how}')
    return name


def check_option(cfg: Values, key: str) -> None:
    """Raises UserError where an option would be a key that nobody reads."""
    top, *inner = key.split('.')
    if top in TOO_LATE:
        raise UserError(f'{top} is set too late on the command line: '
                        f'{TOO_LATE[top]}')
    if top in cfg or top in TOP:
        return
    there = [
        path for path in _paths(cfg)
        if path.split('.')[-1] == (inner or [top])[-1]
    ]
    near = f'; did you mean {" or ".join(there[:3])}?' if there else \
        shipped.nearest(top, sorted(TOP & cfg.keys()))
    raise UserError(f'the config has no {top!r}, and nobody would read it'
                    f'{near}')


def _paths(node: Any, above: str = '') -> list[str]:
    found = []
    for key, value in node.items():
        found.append(above + key)
        if isinstance(value, dict):
            found += _paths(value, f'{above}{key}.')
    return found


def _check_saves(cfg: Values) -> None:
    """Raises UserError where a run would save nothing that it can go on from.
    """
    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    loop = cfg.get('train_cfg')
    if not isinstance(hook, dict) or not isinstance(loop, dict):
        return
    where = 'default_hooks.checkpoint.'
    for key, low in (('interval', 1), ('max_keep_ckpts', 2)):
        value = hook.get(key, -1)
        if isinstance(value, int) and value != -1 and value < 1:
            raise wrong(where + key, f'a whole number from {low} on, or -1,',
                        value)
    name = hook.get('filename_tmpl')
    if name and not re.fullmatch(r'(iter|epoch)_\{\}\.pth', name):
        raise wrong(
            f'{where}filename_tmpl', "'iter_{}.pth' or "
            "'epoch_{}.pth', by which a run finds them again,", name)
    folder = hook.get('out_dir')
    if folder and '://' not in folder and os.path.isfile(folder):
        raise UserError(f'{where}out_dir: {folder} is a file, not a folder')
    kind = loop.get('type') or ('' if loop.get('by_epoch', True) else
                                'IterBasedTrainLoop')  # yapf: disable
    counts = class_in(LOOPS, kind) if kind else None
    if (isinstance(counts, type) and issubclass(counts, IterBasedTrainLoop)
            and hook.get('by_epoch', True) and hook.get('interval', -1) > 0):
        raise UserError(
            'default_hooks.checkpoint counts epochs (by_epoch=True is the '
            'default) where train_cfg counts iterations, and would save '
            'nothing before the end: set by_epoch=False')
