"""Every shipped config, with a mistake of each kind at a random place.

Nothing is built: a mistake is found before that, whatever stage it is in, and
named by the key that it is at.
"""
import copy
import math
import random
from functools import cache
from pathlib import Path

import pytest
from mmengine.config import Config, ConfigDict

from seg_kd import shipped
from seg_kd.cli import read_config
from seg_kd.engine.limits import LIMITS, TERM_LIMITS
from seg_kd.engine.settings import check_settings
from seg_kd.engine.stages import run_stages, stage_configs
from seg_kd.errors import UserError

SECTIONS = ('model', 'train_dataloader', 'val_dataloader', 'test_dataloader',
            'train_cfg', 'optim_wrapper', 'param_scheduler', 'default_hooks',
            'custom_hooks', 'teacher', 'val_evaluator', 'log_processor',
            'randomness', 'stages', 'tta_model')
# Dicts whose keys are the user's, or are patterns.
FREE = ('default_hooks', 'custom_hooks', 'stages', 'custom_keys',
        'data_prefix', 'metainfo', 'folds', 'teacher.model', 'imports')
Place = tuple[str | int, ...]


@cache
def config(name: str) -> Config:
    return read_config(shipped.find(name))


def places(node, above: Place = ()):
    """All settings below the sections: their places and values."""
    inner = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in inner:
        place = (*above, key)
        if above or key in SECTIONS:
            yield place, value
            if isinstance(value, (dict, list)):
                yield from places(value, place)


def is_number(value) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def named(place: Place) -> str:
    return '.'.join(map(str, place))


def free(place: Place) -> bool:
    """Whether the last part is a name that the user gives."""
    above = named(place[:-1])
    return above.endswith(FREE) or isinstance(
        place[-1], int) or place[0] == 'stages' and len(place) <= 3


def limit(place: Place):
    hook = 'custom_hooks' in place
    limits = TERM_LIMITS if hook else LIMITS
    return limits.get(place[-1])


# -- kinds of mistakes: where they can be, and what they put there ----------


def misspelt(place, value):
    if not free(place) and place[-1] != 'type' and len(place[-1]) > 3:
        return 'rename', place[-1][:2] + 'q' + place[-1][2:]


def without_type(place, value):
    # in `stages` and as the name of a hook a type may be left out
    if place[-1] == 'type' and 'stages' not in place and \
            place[0] not in ('optim_wrapper', 'log_processor') or \
            named(place).endswith('optimizer.type') and 'stages' not in place:
        return 'drop', None


def misspelt_type(place, value):
    if place[-1] == 'type':
        return 'set', value[:-1] + 'qx'


def numbered_type(place, value):
    if place[-1] == 'type':
        return 'set', 5


def a_text(place, value):
    if is_number(value) and limit(place):
        return 'set', 'many'


def not_a_number(place, value):
    if is_number(value):
        return 'set', math.nan


def no_flag(place, value):
    if isinstance(value, bool) and place[-1] != '_delete_':
        return 'set', 'maybe'


def too_small(place, value):
    if is_number(value) and limit(place):
        return 'set', limit(place).low - 1


def too_large(place, value):
    if is_number(value) and limit(place) and limit(place).high < 1e10:
        return 'set', 10**12


def half(place, value):
    if is_number(value) and limit(place) and limit(place).whole and \
            'stages' not in place:
        return 'set', value + .5


def no_dict(place, value):
    keys = ('backbone', 'decode_head', 'dataset', 'optimizer', 'sampler',
            'paramwise_cfg', 'init_cfg')
    if isinstance(value, dict) and (place[-1] in keys or len(place) == 1):
        return 'set', 'many'


def a_list_too_much(place, value):
    if isinstance(value, dict) and len(place) == 1 and place[0] not in (
            'stages', 'custom_hooks', 'val_evaluator', 'tta_model'):
        return 'set', [value, 7]


KINDS = (misspelt, without_type, misspelt_type, numbered_type, a_text,
         not_a_number, no_flag, too_small, too_large, half, no_dict,
         a_list_too_much)


def put(cfg: Config, place: Place, how: str, new) -> None:
    node = cfg._cfg_dict
    for key in place[:-1]:
        node = node[key]
    if how == 'set':
        node[place[-1]] = new
    else:
        old = node.pop(place[-1])
        if how == 'rename':
            node[new] = old


@pytest.mark.parametrize('kind', KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize('name', shipped.names())
def test_one_mistake(name, kind):
    found = [(place, change)
             for place, value in places(config(name)._cfg_dict)
             if (change := kind(place, value))]
    place, (how, new) = random.Random(f'{name} {kind.__name__}').choice(found)
    cfg = copy.deepcopy(config(name))
    put(cfg, place, how, new)
    with pytest.raises(UserError) as caught:
        check_settings(stage_configs(cfg))
        pytest.fail(f'{named(place)} -> {how} {new} is not found')
    text = str(caught.value)
    said = f'{named(place)} -> {how} {new}: {text}'
    assert '\n' not in text and len(text) < 600, said
    key = str(place[-1])
    if how == 'drop':  # what it is missing from
        key = next(str(k) for k in reversed(place[:-1]) if isinstance(k, str))
    assert key in text or str(new) in text, said
    if how == 'rename':
        assert new in text and key in text, said


@pytest.mark.parametrize('name', shipped.names())
def test_as_it_is_nothing_is_found(name):
    check_settings(stage_configs(config(name)))


# -- what the mutations do not come to --------------------------------------


@pytest.mark.parametrize('change, words', [
    (dict(optim_wraper=dict()), "'optim_wraper'.*did you mean optim_wrapper"),
    (dict(randoxmness=dict(seed=1)), 'did you mean randomness'),
    (dict(default_scope='mmsegg'), "default_scope='mmsegg'.*mmseg"),
    (dict(resume='yes'), "resume: True or False is wanted, not 'yes'"),
    (dict(log_level='LOUD'), 'log_level: one of DEBUG'),
    (dict(sync_bn='yes'), 'sync_bn: one of torch, mmcv'),
    (dict(stages=5), 'stages: a dict'),
    (dict(stages=[5]), 'stages: a dict'),
    (dict(stages={'../../escape': {}}), 'that of a folder'),
    (dict(stages=dict(a=dict(train_cfg=5))), 'stages.a.train_cfg: a dict'),
    (dict(stages=dict(a=dict(custom_hooks=5))), 'stages.a.custom_hooks'),
    (dict(stages=dict(a=dict(train_cfg=dict(max_iters=1e4)))),
     'max_iters: 10000.0 is a part'),
    (dict(stages=dict(a=dict(train_cfg=dict(max_iters=-.1)))),
     'max_iters: -0.1 is a part'),
    (dict(custom_hooks='KDHook'), 'custom_hooks: hooks by name'),
    (dict(custom_hooks=dict(KDHook=3)), 'custom_hooks.KDHook: a dict'),
    (dict(custom_hooks=dict(KDHook=dict(weight='automatic'))),
     "weight: a number from 0 on or 'auto' is wanted"),
    (dict(custom_hooks=dict(KDHook=dict(temperature=0.))), 'above 0'),
    (dict(custom_hooks=dict(KDHook=dict(tmperature=2.))),
     'did you mean temperature'),
    (dict(custom_hooks=dict(ATHook=dict(student='backbone[1]'))),
     "missing 1 .*'teacher'"),
    (dict(teacher=dict(evaluat=True)), 'did you mean evaluate'),
    (dict(default_hooks=dict(chekpoint=dict(type='CheckpointHook'))),
     "'chekpoint' besides 'checkpoint'"),
    (dict(default_hooks=dict(checkpoint=dict(by_epoch=True))),
     'set by_epoch=False'),
    (dict(optim_wrapper=dict(clip_grad=dict(max_norn=1.))),
     'did you mean max_norm'),
    (dict(optim_wrapper=dict(clip_grad=dict(type='both'))), 'norm, value'),
    (dict(optim_wrapper=dict(paramwise_cfg=dict(custxom_keys={}))),
     'did you mean custom_keys'),
    (dict(optim_wrapper=dict(paramwise_cfg=dict(custom_keys=dict(distill=dict(
        lr_mxult=2.))))), 'did you mean lr_mult'),
    (dict(train_dataloader=dict(num_workers=10**9)),
     'num_workers: a whole number from 0 to'),
    (dict(train_dataloader=dict(unlabelled=dict(img_pth='x'))),
     'did you mean img_path'),
    (dict(train_dataloader=dict(dataset=dict(data_prefix=dict(img_paht='x')))),
     'did you mean img_path'),
    (dict(model=dict(test_cfg=dict(mode='slid'))), 'one of whole, slide'),
    (dict(env_cfg=dict(mp_cfg=dict(start='fork'))), "mp_cfg has no 'start'"),
    (dict(compile=True, randomness=dict(seed=-1)), 'seed: a whole number'),
])
def test_by_hand(change, words):
    cfg = copy.deepcopy(config('kd_deeplab'))
    cfg.merge_from_dict(change)
    with pytest.raises(UserError, match=words):
        check_settings(stage_configs(cfg))


@pytest.mark.parametrize('change, words', [
    (dict(brixghtness=(1, 2)), 'did you mean bright'),
    (dict(p=2.), 'p: a number from 0 to 1'),
    (dict(type='ColorJiter'), 'did you mean ColorJit'),
    (dict(hue='red'), 'hue: .* is wanted'),
])
def test_albumentations_are_checked_too(change, words):
    cfg = copy.deepcopy(config('student_deeplab'))
    for step in cfg.train_dataloader.dataset.pipeline:
        if step['type'] == 'Albumentations':
            assert step['transforms'][-1]['type'] == 'ColorJitter'
            step['transforms'][-1].update(change)
    with pytest.raises(UserError, match=words):
        check_settings(stage_configs(cfg))


def test_what_is_not_certain_passes():
    cfg = copy.deepcopy(config('kd_deeplab'))
    cfg.merge_from_dict(
        dict(train_pipeline=[],
             my_own=dict(anything=-1),
             models_of_mine=3,
             optim_wrapper=dict(type='AmpOptimWrapper', loss_scale=512.),
             val_evaluator=ConfigDict(type='IoUMetric', of_mine=3),
             default_hooks=dict(pictures=None, mine=dict(type='EMAHook'))))
    cfg.custom_hooks.KDHook.weight = 'auto'
    check_settings(stage_configs(cfg))


def test_nothing_is_written(tmp_path):
    """A mistake of the last stage is found before the first begins."""
    cfg = copy.deepcopy(config('ka_deeplab_synthetic'))
    cfg.stages.distill = dict(optim_wrapper=dict(optimizer=dict(lrr=1.)))
    with pytest.raises(UserError, match="stage 'distill': .*lrr"):
        run_stages(cfg, str(tmp_path / 'work'))
    assert not Path(tmp_path, 'work').exists()
