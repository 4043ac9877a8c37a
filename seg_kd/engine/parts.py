"""A part of a config that names a class, held against what that takes."""
import inspect
import math
import reprlib
from collections.abc import Iterable, Mapping
from typing import Any

import albumentations
import torch
from mmengine.registry import (DATA_SAMPLERS, DATASETS, EVALUATOR, FUNCTIONS,
                               HOOKS, LOOPS, METRICS, MODELS, OPTIM_WRAPPERS,
                               OPTIMIZERS, PARAM_SCHEDULERS, TRANSFORMS,
                               VISBACKENDS, VISUALIZERS, WEIGHT_INITIALIZERS,
                               Registry)
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
NETWORKS = ('model', 'module', 'backbone', 'neck', 'decode_head',
            'auxiliary_head', 'loss_decode', 'data_preprocessor', 'teacher')
# What an argument holds, whatever class it is of.
HELD: dict[str, Registry] = {
    **dict.fromkeys((*NETWORKS, *LAYERS), MODELS),
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
FOLDERS = 'img_path', 'img_path2', 'seg_map_path', 'depth_map_path'
FILLED = ('loss_decode', 'dataset', 'datasets', 'pipeline', 'sampler',
          'batch_sampler', 'optimizer')  # of which a list is not empty
TEXTS = 'img_suffix', 'seg_map_suffix', 'ann_file', 'constructor'
FLAGS = 'cudnn_benchmark', 'enable', 'deterministic', 'diff_rank_seed'
METHODS = 'fork', 'spawn', 'forkserver'
SCORES = 'mIoU', 'mDice', 'mFscore'
MODES = 'whole', 'slide', 'slide_flip'  # that EncoderDecoder tests in


def check_typed(path: str,
                node: Any,
                registry: Registry,
                default: str | None = None) -> None:
    """A part of a config that names a class, or a list of such."""
    if isinstance(node, (list, tuple)):
        if not node and path.rpartition('.')[2] in FILLED:
            raise wrong(path, 'at least one', node)
        for i, inner in enumerate(node):
            check_typed(f'{path}[{i}]', inner, registry, default)
        return
    if not isinstance(node, dict):
        if node is None or not isinstance(node, (str, int, float)):
            return  # none, or built already
        raise wrong(path, 'a dict with type=', node)
    kind = node.get('type', default)
    if kind is None:
        raise UserError(f'{path} has no type: it names a class of the '
                        f'registry {registry.name!r}')
    if registry is METRICS and kind == 'Evaluator':
        registry = EVALUATOR
    found = class_in(registry, kind)
    if found is None:
        raise unknown(path, kind, registry)
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
            raise wrong(f'{path}.transforms', 'a list', moves)
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
            typo = shipped.typo_of(key, {*takes.known, *handed} - OF_A_HEAD,
                                   .84)
            near = (f'; did you mean {typo}?' if typo else shipped.nearest(
                key, known))
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
    limit = limits.get(key)
    if limit is None and limits is TERM_LIMITS and key.endswith('_weight'):
        limit = Limit()
    if limit and not limit.allows(value) or key == 'lr' and isinstance(
            value, (list, tuple)):
        raise wrong(path, str(limit), value)
    _named(path, key, value)
    known = parameter is not None and key not in MISANNOTATED
    words = wanted(value, parameter) if known else None
    if words:
        raise wrong(path, words, value)
    _finite(path, value)
    if key == 'data_prefix' and isinstance(value, dict):
        for name, folder in value.items():
            near = shipped.typo_of(name, FOLDERS, .8)
            if near:
                raise UserError(f'{path} has {name!r}, which nobody reads; '
                                f'did you mean {near}?')
            if not isinstance(folder, (str, type(None))):
                raise wrong(f'{path}.{name}', 'a folder', folder)
    elif path.endswith('test_cfg.mode') and value not in MODES:
        raise wrong(path, f'one of {", ".join(MODES)}', value)
    elif key in HELD and (isinstance(value, dict) or key not in BY_NAME):
        check_typed(path, value, HELD[key])
    elif key == 'clip_grad' and isinstance(value, dict):
        _clip(path, value)
    elif key in PLAIN:
        check_plain(path, value, PLAIN[key])
    elif isinstance(value, dict):
        for name, inner in value.items():
            _value(f'{path}.{name}', str(name), inner, None, limits)


def _named(path: str, key: str, value: Any) -> None:
    """What is known of a setting by its name alone."""
    if key in TEXTS and not isinstance(value, str) and (value is not None or
                                                        key == 'constructor'):
        raise wrong(path, 'a text', value)
    if key in FLAGS and not isinstance(value, (bool, type(None))):
        raise wrong(path, 'True or False', value)
    if key == 'classes' and not isinstance(value,
                                           (str, list, tuple, type(None))):
        raise wrong(path, 'a list of names', value)
    if key == 'mp_start_method' and value not in METHODS:
        raise wrong(path, f'one of {", ".join(METHODS)}', value)
    if key == 'iou_metrics':
        given = value if isinstance(value, (list, tuple)) else [value]
        if not given or any(name not in SCORES for name in given):
            raise wrong(path, f'one or more of {", ".join(SCORES)}', value)
    if key == 'test_cfg' and isinstance(value, dict) and \
            str(value.get('mode')).startswith('slide'):
        for name in ('crop_size', 'stride'):
            if not value.get(name):
                raise UserError(f'{path} has no {name}, which mode='
                                f'{value["mode"]!r} needs')
    if path.endswith('data_preprocessor.size') and isinstance(
            value, (list, tuple)) and len(value) != 2:
        raise wrong(path, 'height and width', value)
    if path.endswith('data_preprocessor.std') and \
            not Limit(above=True).allows(value):
        raise wrong(path, 'numbers above 0', value)


def _finite(path: str, value: Any) -> None:
    """Raises UserError at a NaN: no setting means one."""
    if isinstance(value, float) and math.isnan(value):
        raise wrong(path, 'a number', value)
    if isinstance(value, (list, tuple)):
        for inner in value:
            _finite(path, inner)


def check_loader(path: str, node: Any) -> None:
    """A data loader, with what it holds."""
    if node is None or not isinstance(node, (dict, str, int, float, list)):
        return
    if not isinstance(node, dict):
        raise wrong(path, 'a dict', node)
    given = {k: v for k, v in node.items() if k not in ('sampler', 'dataset')}
    takes = arguments_of(DataLoader)
    _arguments(path, given, takes,
               ('dataset', 'unlabelled', 'num_batch_per_epoch'), 'DataLoader')
    for key, registry in (('sampler', DATA_SAMPLERS), ('dataset', DATASETS),
                          ('batch_sampler', DATA_SAMPLERS)):
        check_typed(f'{path}.{key}', node.get(key), registry)
    collate = node.get('collate_fn')
    if isinstance(collate, dict) and class_in(FUNCTIONS,
                                              collate.get('type')) is None:
        raise unknown(f'{path}.collate_fn', collate.get('type'), FUNCTIONS)
    if node.get('unlabelled'):
        check_plain(f'{path}.unlabelled', node['unlabelled'],
                    PLAIN['unlabelled'])


def _move(path: str, move: Any) -> None:
    """A transform of albumentations, which is in no registry of MMEngine."""
    if not isinstance(move, dict) or 'type' not in move:
        raise wrong(path, 'a dict with type=', move)
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


def check_loop(path: str, node: Any) -> None:
    """``train_cfg`` and the like, whose type may be left out."""
    if not isinstance(node, dict):
        check_typed(path, node, LOOPS)
        return
    default = {'val_cfg': 'ValLoop', 'test_cfg': 'TestLoop'}.get(path)
    if 'type' not in node and 'by_epoch' in node:
        node = dict(node)
        epochs = node.pop('by_epoch')
        default = f'{"Epoch" if epochs else "Iter"}BasedTrainLoop'
    check_typed(path, node, LOOPS, default)


def _clip(path: str, node: Values) -> None:
    """The arguments of torch's function that clips gradients."""
    node = dict(node)
    function = CLIPS.get(node.pop('type', 'norm'))
    if function is None:
        raise UserError(f"{path}.type is one of {', '.join(CLIPS)}")
    _arguments(path, node, arguments_of(function), ('parameters', ),
               'clip_grad')


def check_plain(path: str, node: Any, known: Iterable[str]) -> None:
    """A dict that takes these keys and names no class."""
    if node is None:
        return
    if not isinstance(node, dict):
        raise wrong(path, 'a dict', node)
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
        raise wrong(path, 'a dict', node)
    return node or {}


def wrong(path: str, words: str, value: Any) -> UserError:
    """The error of a value in the place of another."""
    return UserError(f'{path}: {words} is wanted, not {reprlib.repr(value)}')


def unknown(path: str, kind: Any, registry: Registry) -> UserError:
    """The error of a ``type`` that the registry does not know."""
    if not isinstance(kind, str):
        return UserError(f'{path}.type: the name of a class of the registry '
                         f'{registry.name!r} is wanted, not {kind!r}')
    return UserError(
        f'{path}.type: unknown {registry.name} {kind!r}'
        f'{shipped.nearest(kind, names_in(registry.name))}; what you '
        'wrote yourself must be imported by custom_imports')
