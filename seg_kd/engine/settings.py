"""What a config says, held against what its classes take.

Before anything is built: a setting that nobody reads, or that cannot be, is
found at once, in whatever stage it stands, and by its name. Names and types
are those of the constructors' signatures; the range of a number goes by its
name (:mod:`seg_kd.engine.limits`). What is not certain to be wrong passes.
"""
import inspect
import math
import os
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import albumentations
import torch
from mmengine.config import Config
from mmengine.registry import (DATA_SAMPLERS, DATASETS, EVALUATOR, HOOKS,
                               LOG_PROCESSORS, LOOPS, METRICS, MODELS,
                               OPTIM_WRAPPERS, OPTIMIZERS, PARAM_SCHEDULERS,
                               TRANSFORMS, VISBACKENDS, VISUALIZERS,
                               WEIGHT_INITIALIZERS, Registry,
                               init_default_scope)
from mmengine.runner import IterBasedTrainLoop, Runner
from mmseg.datasets.transforms import Albu
from torch.utils.data import DataLoader

from seg_kd import shipped
from seg_kd.datasets.transforms import CropWithClassCap
from seg_kd.engine.arguments import Arguments, arguments_of, wanted
from seg_kd.engine.limits import (LIMITS, MOVE_LIMITS, SCHEDULE_LIMITS,
                                  TERM_LIMITS, Limit)
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook
from seg_kd.registry import class_in, names_in, type_name

Values = Mapping[str, Any]

LAYERS = 'norm_cfg', 'act_cfg', 'conv_cfg'
# What an argument holds, whatever class it is of.
HELD: dict[str, Registry] = {
    **dict.fromkeys(('model', 'module', 'backbone', 'neck', 'decode_head',
                     'auxiliary_head', 'loss_decode', 'data_preprocessor',
                     'teacher', *LAYERS), MODELS),
    **dict.fromkeys(('pipeline', 'transforms'), TRANSFORMS),
    **dict.fromkeys(('dataset', 'datasets'), DATASETS),
    'optimizer': OPTIMIZERS,
    'vis_backends': VISBACKENDS,
    'init_cfg': WEIGHT_INITIALIZERS,
    'metrics': METRICS,
}
BY_NAME = 'model', 'teacher'  # which may be a path, of a file or a layer
OF_A_HEAD = {'out_channels', 'stride'}  # of a split network: it is told them
# What MMEngine hands over, or takes before the constructor sees it.
HANDED: dict[str, set[str]] = {
    LOOPS.name: {'runner', 'dataloader', 'evaluator'},
    OPTIM_WRAPPERS.name: {'optimizer', 'constructor', 'paramwise_cfg'},
    OPTIMIZERS.name: {'params'},
    PARAM_SCHEDULERS.name:
    {'optimizer', 'epoch_length', 'convert_to_iter_based'},
    DATA_SAMPLERS.name: {'dataset'},
    HOOKS.name: {'priority'},
    METRICS.name: {'metrics'},
    MODELS.name: {'requires_grad', 'module', 'pretrained', *OF_A_HEAD},
    VISBACKENDS.name: {'save_dir'},
    WEIGHT_INITIALIZERS.name: {'override', 'layer'},
    VISUALIZERS.name: {'name'},
}
MISANNOTATED = 'loss_scale', 'eta_min_ratio'  # MMEngine's, which take numbers
PLAIN = {  # sections of a config that are no class, and what they take
    'randomness': ('seed', 'diff_rank_seed', 'deterministic'),
    'env_cfg': ('cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'),
    'auto_scale_lr': ('enable', 'base_batch_size'),
    'paramwise_cfg':
    ('custom_keys', 'bias_lr_mult', 'bias_decay_mult', 'norm_decay_mult',
     'flat_decay_mult', 'dwconv_decay_mult', 'dcn_offset_lr_mult',
     'bypass_duplicate'),
    'mp_cfg': ('mp_start_method', 'opencv_num_threads'),
    'unlabelled': ('img_path', 'ratio', 'suffixes'),
}
CLIPS = dict(norm=torch.nn.utils.clip_grad_norm_,
             value=torch.nn.utils.clip_grad_value_)
LAUNCHED = dict(
    pytorch=('RANK', 'torchrun --nproc_per_node=N tools/train.py ...'),
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
DICTS = ('model', 'train_cfg', 'val_cfg', 'test_cfg', 'train_dataloader',
         'val_dataloader', 'test_dataloader', 'optim_wrapper',
         'default_hooks', 'randomness', 'env_cfg', 'auto_scale_lr',
         'log_processor', 'teacher', 'folds', 'changes')
FOLDERS = 'img_path', 'img_path2', 'seg_map_path', 'depth_map_path'
MODES = 'whole', 'slide', 'slide_flip'  # that EncoderDecoder tests in
BOOLS = 'resume', 'channels_last', 'trust_checkpoint', \
    'find_unused_parameters', 'task'
TEXTS = ('load_from', 'work_dir', 'experiment_name', 'default_scope',
         'runner_type', 'log_level', 'fold')
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


def _check(cfg: Values) -> None:
    _check_top(cfg)
    scope = cfg.get('default_scope') or 'mmseg'
    scopes = {MODELS.scope, *MODELS.children}
    if scope not in scopes:
        raise UserError(f'default_scope={scope!r} is none that is imported'
                        f'{shipped.nearest(scope, sorted(scopes))}')
    init_default_scope(scope)
    for key in ('model', 'tta_model'):
        _typed(key, cfg.get(key), MODELS)
    for kind in ('train', 'val', 'test'):
        _loader(f'{kind}_dataloader', cfg.get(f'{kind}_dataloader'))
        _loop(f'{kind}_cfg', cfg.get(f'{kind}_cfg'))
        _typed(f'{kind}_evaluator', cfg.get(f'{kind}_evaluator'), METRICS)
    _typed('optim_wrapper', cfg.get('optim_wrapper'), OPTIM_WRAPPERS,
           'OptimWrapper')
    _typed('param_scheduler', cfg.get('param_scheduler'), PARAM_SCHEDULERS)
    for name, hook in (cfg.get('default_hooks') or {}).items():
        near = shipped.typo_of(name, MMENGINES)
        if near:
            raise UserError(f'default_hooks has {name!r} besides {near!r}: '
                            'is it a misspelling?')
        _typed(f'default_hooks.{name}', hook, HOOKS)
    for i, hook in enumerate(cfg.get('custom_hooks') or []):
        _typed(f'custom_hooks.{type_name(hook) or i}', hook, HOOKS)
    _typed('visualizer', cfg.get('visualizer'), VISUALIZERS, 'Visualizer')
    _typed('log_processor', cfg.get('log_processor'), LOG_PROCESSORS,
           'LogProcessor')
    _typed('tta_pipeline', cfg.get('tta_pipeline'), TRANSFORMS)
    for key in ('randomness', 'env_cfg', 'auto_scale_lr'):
        _plain(key, cfg.get(key), PLAIN[key])
    _check_saves(cfg)


def check_shape(cfg: Values, where: str = '') -> None:
    """Raises UserError where a section, of a config or stage, is none."""
    for key in DICTS:
        if not isinstance(cfg.get(key), (dict, type(None))):
            raise _wrong(where + key, 'a dict', cfg[key])
    teacher = cfg.get('teacher')
    if teacher and not where and not isinstance(teacher.get('type'),
                                                (str, type)):
        raise _wrong('teacher', "a dict(type='TeacherHook', ...)", teacher)
    hooks = cfg.get('custom_hooks') or []
    if not isinstance(hooks, (dict, list)):
        raise _wrong(f'{where}custom_hooks', 'hooks by name, or a list of '
                     'them,', hooks)
    named = hooks if isinstance(hooks, dict) else dict(enumerate(hooks))
    for name, hook in named.items():
        if isinstance(hook, (str, int, float, list, tuple)):
            raise _wrong(f'{where}custom_hooks.{name}', 'a dict', hook)


def _check_top(cfg: Values) -> None:
    """What stands at the top: unknown keys are variables of a user's own."""
    for key, value in cfg.items():
        if key not in TOP:
            # `test_pipeline` is a variable in most configs
            near = shipped.typo_of(key, TOP - {'tta_pipeline'})
            if near:
                raise UserError(f'the config sets {key!r}, which nobody '
                                f'reads; did you mean {near}?')
        if key in BOOLS and not isinstance(value, (bool, type(None))):
            raise _wrong(key, 'True or False', value)
        if key in TEXTS and not isinstance(value, (str, type(None))):
            raise _wrong(key, 'a text', value)
        if key in ONE_OF and value not in (None, *ONE_OF[key]):
            raise _wrong(key, f'one of {", ".join(ONE_OF[key])}', value)


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


# -- parts -----------------------------------------------------------------


def _typed(path: str,
           node: Any,
           registry: Registry,
           default: str | None = None) -> None:
    """A part of a config that names a class, or a list of such."""
    if isinstance(node, (list, tuple)):
        for i, inner in enumerate(node):
            _typed(f'{path}[{i}]', inner, registry, default)
        return
    if not isinstance(node, dict):
        if node is None or not isinstance(node, (str, int, float)):
            return  # none, or built already
        raise _wrong(path, 'a dict with type=', node)
    kind = node.get('type', default)
    if kind is None:
        raise UserError(f'{path} has no type: it names a class of the '
                        f'registry {registry.name!r}')
    if registry is METRICS and kind == 'Evaluator':
        registry = EVALUATOR
    found = class_in(registry, kind)
    if found is None:
        raise UserError(_unknown(path, kind, registry))
    kinds = [found]
    limits = SCHEDULE_LIMITS if registry is PARAM_SCHEDULERS else LIMITS
    if isinstance(found, type) and issubclass(found, DistillHook):
        kinds += [found.term_cls, found.loss_cls]
        limits = TERM_LIMITS
    handed = HANDED.get(registry.name, set())
    if 'constructor' in node:  # whose own paramwise_cfg it is
        node = {k: v for k, v in node.items() if k != 'paramwise_cfg'}
    given = {k: v for k, v in node.items() if k not in ('type', '_scope_')}
    if isinstance(found, type) and issubclass(found, Albu):
        moves = given.get('transforms') or []
        if not isinstance(moves, (list, tuple)):
            raise _wrong(f'{path}.transforms', 'a list', moves)
        for i, move in enumerate(moves):
            _move(f'{path}.transforms[{i}]', move)
        given['transforms'] = []
    takes = arguments_of(*(k for k in kinds if k is not None))
    _arguments(path, given, takes, handed, type_name(dict(type=kind)), limits)


def _arguments(path: str,
               given: Values,
               takes: Arguments,
               handed: Iterable[str],
               name: str,
               limits: Mapping[str, Limit] = LIMITS) -> None:
    for key, value in given.items():
        inner = f'{path}.{key}'
        if key in takes.known:
            _value(inner, key, value, takes.known[key], limits)
        elif key in handed:
            _value(inner, key, value, None, limits)
        else:
            known = [k for k in takes.known if k not in handed]
            near = shipped.nearest(key, known)
            typo = shipped.typo_of(key, {*takes.known, *handed} - OF_A_HEAD,
                                   .84)
            if takes.closed or typo:
                raise UserError(f'{inner}: {name} in the config has no '
                                f'argument {key!r}{near}')
            _value(inner, key, value, None, limits)
    layer = path.rpartition('.')[2] in LAYERS  # it is told its channels
    missing = [] if layer else [
        k for k in takes.required if k not in {*given, *handed}
    ]
    if missing:
        names = ' and '.join(map(repr, missing))
        raise UserError(f'{path}: {name} in the config: missing '
                        f'{len(missing)} required argument'
                        f'{"s" * (len(missing) > 1)}: {names}')


def _value(path: str,
           key: str,
           value: Any,
           parameter: inspect.Parameter | None,
           limits: Mapping[str, Limit] = LIMITS) -> None:
    """One setting; ``parameter`` is what takes it, where that is known."""
    if isinstance(value, str) and value.startswith('stage:'):
        return  # will be a checkpoint
    if key in limits and not limits[key].allows(value):
        raise _wrong(path, str(limits[key]), value)
    known = parameter is not None and key not in MISANNOTATED
    words = wanted(value, parameter) if known else None
    if words:
        raise _wrong(path, words, value)
    _finite(path, value)
    if key == 'data_prefix' and isinstance(value, dict):
        for name, folder in value.items():
            near = shipped.typo_of(name, FOLDERS, .8)
            if near:
                raise UserError(f'{path} has {name!r}, which nobody reads; '
                                f'did you mean {near}?')
            if not isinstance(folder, (str, type(None))):
                raise _wrong(f'{path}.{name}', 'a folder', folder)
    elif path.endswith('test_cfg.mode') and value not in MODES:
        raise _wrong(path, f'one of {", ".join(MODES)}', value)
    elif key in HELD and (isinstance(value, dict) or key not in BY_NAME):
        _typed(path, value, HELD[key])
    elif key == 'clip_grad' and isinstance(value, dict):
        _clip(path, value)
    elif key in PLAIN:
        _plain(path, value, PLAIN[key])
    elif isinstance(value, dict):
        for name, inner in value.items():
            _value(f'{path}.{name}', str(name), inner, None, limits)


def _finite(path: str, value: Any) -> None:
    """Raises UserError at a NaN: no setting means one."""
    if isinstance(value, float) and math.isnan(value):
        raise _wrong(path, 'a number', value)
    if isinstance(value, (list, tuple)):
        for inner in value:
            _finite(path, inner)


def _loader(path: str, node: Any) -> None:
    if node is None or not isinstance(node, (dict, str, int, float, list)):
        return
    if not isinstance(node, dict):
        raise _wrong(path, 'a dict', node)
    given = {k: v for k, v in node.items() if k not in ('sampler', 'dataset')}
    takes = arguments_of(DataLoader)
    _arguments(path, given, takes,
               ('dataset', 'unlabelled', 'num_batch_per_epoch'), 'DataLoader')
    for key, registry in (('sampler', DATA_SAMPLERS), ('dataset', DATASETS),
                          ('batch_sampler', DATA_SAMPLERS)):
        _typed(f'{path}.{key}', node.get(key), registry)
    if node.get('unlabelled'):
        _plain(f'{path}.unlabelled', node['unlabelled'], PLAIN['unlabelled'])


def _move(path: str, move: Any) -> None:
    if not isinstance(move, dict) or 'type' not in move:
        raise _wrong(path, 'a dict with type=', move)
    kind = move['type']
    own = kind in ('CropWithClassCap', CropWithClassCap)
    found = CropWithClassCap if own else getattr(
        albumentations, kind, None) if isinstance(kind, str) else kind
    if not callable(found):
        names = [n for n, k in vars(albumentations).items()
                 if isinstance(k, type)]  # yapf: disable
        raise UserError(f'{path}: albumentations has no transform {kind!r}'
                        f'{shipped.nearest(str(kind), names)}')
    given = {k: v for k, v in move.items() if k != 'type'}
    _arguments(path, given, arguments_of(found), (), found.__name__,
               MOVE_LIMITS)


def _loop(path: str, node: Any) -> None:
    if not isinstance(node, dict):
        _typed(path, node, LOOPS)
        return
    default = {'val_cfg': 'ValLoop', 'test_cfg': 'TestLoop'}.get(path)
    if 'type' not in node and 'by_epoch' in node:
        node = dict(node)
        epochs = node.pop('by_epoch')
        default = f'{"Epoch" if epochs else "Iter"}BasedTrainLoop'
    _typed(path, node, LOOPS, default)


def _clip(path: str, node: Values) -> None:
    """The arguments of torch's function that clips gradients."""
    node = dict(node)
    function = CLIPS.get(node.pop('type', 'norm'))
    if function is None:
        raise UserError(f"{path}.type is one of {', '.join(CLIPS)}")
    _arguments(path, node, arguments_of(function), ('parameters', ),
               'clip_grad')


def _plain(path: str, node: Any, known: Iterable[str]) -> None:
    if node is None:
        return
    if not isinstance(node, dict):
        raise _wrong(path, 'a dict', node)
    for key, value in node.items():
        if key not in known:
            raise UserError(f'{path} has no {key!r}'
                            f'{shipped.nearest(key, known)}')
        if key != 'custom_keys':
            _value(f'{path}.{key}', key, value, None)
    if path.endswith('paramwise_cfg'):
        for name, options in _dict(f'{path}.custom_keys',
                                   node.get('custom_keys')).items():
            inner = f'{path}.custom_keys.{name}'
            for key, value in _dict(inner, options).items():
                near = shipped.typo_of(key, ('lr_mult', 'decay_mult'))
                if near:
                    raise UserError(f'{inner} has no {key!r}; did you mean '
                                    f'{near}?')
                _value(f'{inner}.{key}', key, value, None)


def _dict(path: str, node: Any) -> Values:
    if not isinstance(node, (dict, type(None))):
        raise _wrong(path, 'a dict', node)
    return node or {}


def _check_saves(cfg: Values) -> None:
    """Raises UserError where a run of iterations would count its epochs."""
    hook = (cfg.get('default_hooks') or {}).get('checkpoint')
    loop = cfg.get('train_cfg')
    if not isinstance(hook, dict) or not isinstance(loop, dict):
        return
    kind = loop.get('type') or ('' if loop.get('by_epoch', True) else
                                'IterBasedTrainLoop')  # yapf: disable
    counts = class_in(LOOPS, kind) if kind else None
    if (isinstance(counts, type) and issubclass(counts, IterBasedTrainLoop)
            and hook.get('by_epoch', True) and hook.get('interval', -1) > 0):
        raise UserError(
            'default_hooks.checkpoint counts epochs (by_epoch=True is the '
            'default) where train_cfg counts iterations, and would save '
            'nothing before the end: set by_epoch=False')


# -- words -----------------------------------------------------------------


def _wrong(path: str, words: str, value: Any) -> UserError:
    return UserError(f'{path}: {words} is wanted, not {reprlib.repr(value)}')


def _unknown(path: str, kind: Any, registry: Registry) -> str:
    if not isinstance(kind, str):
        return (f'{path}.type: the name of a class of the registry '
                f'{registry.name!r} is wanted, not {kind!r}')
    return (f'{path}.type: unknown {registry.name} {kind!r}'
            f'{shipped.nearest(kind, names_in(registry.name))}; what you '
            'wrote yourself must be imported by custom_imports')
