"""A config of ours as one that plain MMSegmentation reads, all in one file.

What a run of ours has and MMSegmentation has not is left out (teacher, terms,
stages, folds) or said in its words:

======================================  =====================================
ours                                    MMSegmentation's
======================================  =====================================
``Cached``                              the transforms inside it
``CheckLabels``                         nothing
``Albumentations``                      ``Albu``, ``RandomFlip``,
                                        ``RandomCrop`` and ``Pad``
``CamVidDataset``, and any other that   ``BaseSegDataset`` with ``metainfo``,
needs this package                      a suffix and, for a part of a folder,
                                        ``indices``
samplers that give each draw a seed     the samplers they wrap
``BFloat16OptimWrapper``                ``AmpOptimWrapper``
======================================  =====================================
"""
import os
from typing import Any

from mmengine.config import Config
from mmseg.datasets import BaseSegDataset

from seg_kd.datasets import Albumentations, Cached, CheckLabels, check_files
from seg_kd.datasets.check import pipeline_of
from seg_kd.engine.class_iou import ClassIoUMetric
from seg_kd.engine.complete import plain
from seg_kd.engine.evaluate import plain_hooks
from seg_kd.errors import UserError
from seg_kd.export.needs import (OURS, first_of_ours, module_of_ours,
                                 without_ours)
from seg_kd.networks.checkpoint import DISTILL
from seg_kd.registry import (DATA_SAMPLERS, DATASETS, HOOKS, METRICS, MODELS,
                             OPTIM_WRAPPERS, TRANSFORMS, is_kind, type_name)
from seg_kd.split import SplitSegmentor

# Taken over as they are; the rest of a config is what others are made of.
_KEPT = ('default_scope', 'model', 'train_cfg', 'val_cfg', 'test_cfg',
         'param_scheduler', 'val_evaluator', 'test_evaluator', 'tta_model',
         'env_cfg', 'log_level', 'log_processor', 'visualizer', 'randomness',
         'sync_bn', 'find_unused_parameters', 'model_wrapper_cfg',
         'auto_scale_lr')
_LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')


def plain_config(cfg: Config, notes: list[str]) -> Config:
    """The same experiment, the student alone, for MMSegmentation alone.

    Args:
        cfg: A complete config: of stages the last.
        notes: To which is added what the user should know.

    Raises:
        UserError: A part of the student, or of its data, is one that only
            this package has.
    """
    check_model(cfg)
    whole = named(plain(cfg._cfg_dict))
    found = {key: whole[key] for key in _KEPT if key in whole}
    found.setdefault('default_scope', 'mmseg')
    for key in ('val_evaluator', 'test_evaluator'):
        if is_kind(found.get(key), METRICS, ClassIoUMetric):
            found[key] = dict(found[key], type='IoUMetric')
    for key in _LOADERS:
        if whole.get(key):
            found[key] = plain_loader(whole[key], notes)
    if whole.get('test_dataloader'):
        dataset = found['test_dataloader']['dataset']
        found['test_pipeline'] = pipeline_of(dataset)
    if whole.get('tta_pipeline'):
        found['tta_pipeline'] = plain_pipeline(whole['tta_pipeline'])
    if whole.get('optim_wrapper'):
        found['optim_wrapper'] = plain_optimizer(whole['optim_wrapper'])
    found.update(hooks_of(cfg, notes))
    imports = (whole.get('custom_imports') or {}).get('imports') or []
    own = without_ours([imports] if isinstance(imports, str) else imports)
    if own:
        found['custom_imports'] = dict(imports=own, allow_failed_imports=False)
    found.update(load_from=None, resume=False)
    left = first_of_ours(found)
    if left:
        raise UserError(f'{left[0]} is {left[1]} of {left[2]}, which has no '
                        'like in MMSegmentation: change the config for the '
                        'export with --cfg-options')
    return Config(found)


def check_model(cfg: Config) -> None:
    """Raises UserError where MMSegmentation cannot build the student."""
    left = first_of_ours(cfg.model, 'model')
    if left is None:
        return
    path, kind, module = left
    how = ('ONNX and torch programs need no config (--onnx FILE, '
           '--torch-export FILE)')
    if is_kind(cfg.model, MODELS, SplitSegmentor):
        how += ', and its two halves neither (seg-kd export-split)'
    if module.split('.')[0] != OURS:
        how = 'let it import mmseg.registry in place of what is seg_kd\'s'
    raise UserError(f'{path} is {kind}, and {module} needs seg_kd: plain '
                    f'MMSegmentation cannot build this student; {how}')


def named(node: Any) -> Any:
    """With types by name: a class cannot be written into a file."""
    if isinstance(node, dict):
        return {
            key:
            value.__name__
            if key == 'type' and isinstance(value, type) else named(value)
            for key, value in node.items()
        }
    if isinstance(node, (list, tuple)):
        return type(node)(map(named, node))
    return node


# -- transforms ------------------------------------------------------------


def plain_pipeline(transforms: list) -> list:
    """A pipeline, or a part of one, in MMSegmentation's own transforms."""
    found: list = []
    for move in transforms:
        if isinstance(move, (list, tuple)):  # of TestTimeAug: one of these
            inner = plain_pipeline(move)
            found += [inner] if inner else []
        elif is_kind(move, TRANSFORMS, Cached):
            found += plain_pipeline(move['transforms'])
        elif is_kind(move, TRANSFORMS, Albumentations):
            found += plain_albumentations(move)
        elif is_kind(move, TRANSFORMS, CheckLabels):
            pass
        elif isinstance(move.get('transforms'), (list, tuple)) and \
                type_name(move) != 'Albu':
            found.append(
                dict(move, transforms=plain_pipeline(move['transforms'])))
        else:
            found.append(move)
    return found


def plain_albumentations(cfg: dict) -> list:
    """``Albu``, and MMSegmentation's own flips and crop, in the same order."""
    options = {k: v for k, v in cfg.items() if k not in ('type', 'transforms')}
    found: list = []
    for move in cfg['transforms']:
        kind = type_name(move)
        if kind == 'CropWithClassCap':
            found += plain_crop(move)
        elif kind in ('HorizontalFlip', 'VerticalFlip'):
            found.append(
                dict(type='RandomFlip',
                     prob=move.get('p', 0.5),
                     direction=kind.removesuffix('Flip').lower()))
        elif found and found[-1]['type'] == 'Albu':
            found[-1]['transforms'].append(move)
        else:
            found.append(dict(options, type='Albu', transforms=[move]))
    return found


def plain_crop(move: dict) -> list:
    """``RandomCrop``, and ``Pad`` for what is smaller; corners anywhere."""
    height, width = move['height'], move['width']
    ignore = move.get('ignore_index', 255)
    fill = tuple(move.get('fill', (124, 116, 104)))[::-1]  # images are BGR
    crop = [
        dict(type='RandomCrop',
             crop_size=(height, width),
             cat_max_ratio=move.get('max_ratio', 0.75),
             ignore_index=ignore),
        dict(type='Pad',
             size=(width, height),
             pad_val=dict(img=fill, seg=ignore))
    ]
    chance = move.get('p', 1.)
    return crop if chance >= 1 else [
        dict(type='RandomApply', transforms=crop, prob=chance)
    ]


# -- data sets -------------------------------------------------------------


def plain_loader(loader: dict, notes: list[str]) -> dict:
    """A dataloader's config: MMSegmentation's sampler, data set, pipeline."""
    found = {k: v for k, v in loader.items() if k != 'unlabelled'}
    if 'unlabelled' in loader:
        notes.append('the images without labels are left out')
    if 'num_workers' not in found:  # MMEngine would take none
        found.update(num_workers=2, persistent_workers=True)
    sampler = found.get('sampler')
    if sampler and module_of_ours(sampler, DATA_SAMPLERS):
        found['sampler'] = sampler.get('sampler') or dict(
            type='InfiniteSampler', shuffle=sampler.get('shuffle', True))
    found['dataset'] = plain_dataset(found['dataset'], notes)
    return found


def plain_dataset(cfg: dict, notes: list[str]) -> dict:
    """A data set's config; those inside of a wrapper, too."""
    found = dict(cfg)
    if found.get('pipeline'):
        found['pipeline'] = plain_pipeline(found['pipeline'])
    if found.get('dataset'):
        found['dataset'] = plain_dataset(found['dataset'], notes)
    if found.get('datasets'):
        found['datasets'] = [
            plain_dataset(inner, notes) for inner in found['datasets']
        ]
    if module_of_ours(found, DATASETS) and is_kind(found, DATASETS,
                                                   BaseSegDataset):
        return base_dataset(found, notes)
    return found


def base_dataset(cfg: dict, notes: list[str]) -> dict:
    """``BaseSegDataset`` of the same files.

    Where the class takes a part of a folder, by ``indices``; where it mixes
    suffixes, one for each. Both need the files: without them a note says what
    was assumed.

    Raises:
        UserError: The class renumbers labels.
    """
    built = dict(cfg, pipeline=[], lazy_init=True, _scope_='mmseg')
    made = DATASETS.build(built)
    if made.label_map:
        raise UserError(f'{type_name(cfg)} renumbers its labels for '
                        f'{len(made.metainfo["classes"])} classes, which '
                        'BaseSegDataset does not')
    kept = ('data_root', 'data_prefix', 'ann_file', 'test_mode', 'pipeline',
            'backend_args')
    plain_cfg = dict(type='BaseSegDataset',
                     metainfo=dict(classes=tuple(made.metainfo['classes']),
                                   palette=[
                                       list(map(int, c))
                                       for c in made.metainfo['palette']
                                   ]),
                     seg_map_suffix=made.seg_map_suffix,
                     reduce_zero_label=made.reduce_zero_label,
                     ignore_index=made.ignore_index,
                     **{k: cfg[k]
                        for k in kept if k in cfg})
    try:
        check_files(cfg)
    except UserError as error:
        suffix = made.img_suffix
        notes.append(f'{error}. Without the files BaseSegDataset is assumed '
                     f'to list, by img_suffix={suffix!r}, what '
                     f'{type_name(cfg)} does')
        return dict(plain_cfg, img_suffix=suffix)
    parts = [dict(plain_cfg, **part) for part in listings(made, plain_cfg)]
    return parts[0] if len(parts) == 1 else dict(type='ConcatDataset',
                                                 datasets=parts)


def listings(made: BaseSegDataset, cfg: dict) -> list[dict]:
    """``img_suffix``, and ``indices`` if need be, that give the same files.

    Args:
        made: The data set of the other class.
        cfg: Of ``BaseSegDataset``.

    Raises:
        UserError: ``BaseSegDataset`` cannot list them.
    """
    made.full_init()
    wanted = [_files(made.get_data_info(i)) for i in range(len(made))]
    parts = []
    for suffix in sorted({os.path.splitext(files[0])[1] for files in wanted}):
        part = dict(img_suffix=suffix)
        there = _listed({**cfg, **part})
        same = [files for files in wanted if files[0].endswith(suffix)]
        missing = set(same) - set(there)
        if missing:
            raise UserError(f'BaseSegDataset would not find {min(missing)[0]} '
                            f'of {type(made).__name__} with its label: write '
                            'the config of the data set by hand')
        if there != same:
            part['indices'] = [there.index(files) for files in same]
        parts.append(part)
    return parts


def _listed(cfg: dict) -> list[tuple]:
    options = {k: v for k, v in cfg.items() if k not in ('type', 'pipeline')}
    made = BaseSegDataset(**options, lazy_init=True)
    return [_files(info) for info in made.load_data_list()]


def _files(info: dict) -> tuple:
    return info['img_path'], info.get('seg_map_path')


# -- training --------------------------------------------------------------


def plain_optimizer(cfg: dict) -> dict:
    """An optimizer's config without the layers that a distillation brings."""
    found = dict(cfg)
    if module_of_ours(cfg, OPTIM_WRAPPERS):
        found.update(type='AmpOptimWrapper', dtype='bfloat16')
    options = dict(found.pop('paramwise_cfg', None) or {})
    keys = {
        k: v
        for k, v in (options.pop('custom_keys', None) or {}).items()
        if not f'{k}.'.startswith(DISTILL)
    }
    if keys:
        options['custom_keys'] = keys
    return {**found, 'paramwise_cfg': options} if options else found


def hooks_of(cfg: Config, notes: list[str]) -> dict[str, Any]:
    """``default_hooks`` and ``custom_hooks`` that MMSegmentation has."""
    found: dict[str, Any] = {}
    default = cfg.get('default_hooks') or {}
    found['default_hooks'] = named(
        plain({
            name: hook
            for name, hook in default.items()
            if not module_of_ours(hook, HOOKS)
        }))
    own = plain_hooks(cfg)
    found['custom_hooks'] = named(
        plain([hook for hook in own if not module_of_ours(hook, HOOKS)]))
    left = [type_name(hook) for hook in own if module_of_ours(hook, HOOKS)]
    if left:
        notes.append(f'hooks that need seg_kd are left out: {", ".join(left)}')
    return {key: hooks for key, hooks in found.items() if hooks}
