"""What a later stage lacks is found before the first one trains."""
import copy
from pathlib import Path

import pytest
from conftest import TAPS, run_tool
from mmengine.config import Config

from seg_kd.engine.needs import check_ahead, check_layers
from seg_kd.engine.settings import check_settings
from seg_kd.engine.stages import run_stages, stage_configs
from seg_kd.errors import UserError


@pytest.mark.parametrize('paths, words', [
    (dict(student='backbone[7]'), r"'backbone' returns 2 maps"),
    (dict(student='backbne[1]'), 'no layer .backbne.; the nearest are: .*'
     'backbone'),
    (dict(teacher='decode_head.bottlenek'), 'decode_head.bottleneck'),
    (dict(teacher='backbone'), r"'backbone' returns 4 maps"),
    (dict(teacher='decode_head:inputs'), 'is not of the form'),
])
def test_a_layer_path_of_a_later_stage(ka_config, tmp_path, paths, words):
    first, second = ka_config.stages
    second.custom_hooks = dict(KAHook=paths)
    with pytest.raises(UserError, match=f"stage 'distill': .*{words}"):
        run_stages(ka_config, str(tmp_path / 'work'))
    assert not (tmp_path / 'work').exists()


@pytest.mark.parametrize('change, words', [
    (dict(load_from='stage:translatr'), 'did you mean translator'),
    (dict(load_from='stage:distill'), "'stage:distill' names no stage before"),
    (dict(model=None), 'has no model'),
    (dict(train_dataloader=dict(dataset=dict(data_root='nowhere'))),
     'nowhere.* is missing'),
    (dict(custom_hooks=dict(TeacherHook=dict(checkpoint='gone.pth'))),
     'gone.pth does not exist'),
    (dict(custom_hooks=dict(KAHook=dict(weight=-1.))), 'weight'),
])
def test_other_parts_of_a_later_stage(ka_config, tmp_path, change, words):
    ka_config.stages[1].update(change)
    with pytest.raises(UserError, match=f"stage 'distill': .*{words}"):
        run_stages(ka_config, str(tmp_path / 'work'))
    assert not (tmp_path / 'work').exists()


def test_what_cannot_be_built_without_weights(ka_config):
    """Names are looked up all the same."""
    name, cfg = list(stage_configs(ka_config))[1]
    cfg.custom_hooks[0].model.backbone = dict(type='MixVisionTransformer',
                                              embed_dims=8,
                                              num_layers=[1, 1, 1, 1],
                                              num_heads=[1, 1, 1, 1])
    cfg.custom_hooks[0].model.decode_head.in_channels = 8
    cfg.custom_hooks[1].teacher = 'backbone.layers.3.0'
    check_layers(cfg)
    cfg.custom_hooks[1].teacher = 'backbone.layers.4'
    with pytest.raises(UserError, match="no layer 'backbone.layers.4'"):
        check_ahead(name, cfg)


# -- KA and another method in one config -----------------------------------


def kinds(cfg: Config) -> list[str]:
    return [hook.type for hook in cfg.custom_hooks]


@pytest.fixture
def both(ka_config, teacher_hook):
    """As a user writes it: hooks by name, and a change of one of them."""
    ka_config.teacher = teacher_hook
    ka_config.custom_hooks = dict(KAHook=dict(translator='stage:translator',
                                              **TAPS),
                                  KDHook=dict(temperature=4.))
    ka_config.stages[0].custom_hooks = dict(
        KAHook=dict(type='TranslatorHook', **TAPS))
    return ka_config


def test_ka_with_another_method(both, tmp_path):
    both.train_cfg.max_iters = 1
    both.default_hooks.checkpoint.interval = 1
    first, second = (cfg for _, cfg in stage_configs(both))
    assert kinds(first) == ['TeacherHook', 'TranslatorHook']
    assert kinds(second) == ['TeacherHook', 'KAHook', 'KDHook']
    run_stages(both, str(tmp_path / 'work'))
    log = ''.join(p.read_text()
                  for p in (tmp_path / 'work/distill').glob('*/*.log'))
    assert 'loss_kd' in log and 'loss_ka_affinity' in log


def test_teachers_of_others_are_left_out_too(both, teacher_hook):
    other = copy.deepcopy(teacher_hook)
    both.pop('teacher')
    both.custom_hooks = dict(one=dict(teacher_hook, name='one'),
                             two=dict(other, name='two'),
                             EMAHook=dict(),
                             KAHook=dict(translator=None,
                                         teacher_name='one',
                                         **TAPS),
                             KDHook=dict(teacher_name='two'))
    both.stages[0].custom_hooks.KAHook.teacher_name = 'one'
    first, second = (cfg for _, cfg in stage_configs(both))
    assert [h.get('name') for h in first.custom_hooks] == ['one', None]
    assert kinds(first) == ['TeacherHook', 'TranslatorHook']
    assert len(second.custom_hooks) == 5


def test_the_last_stage_alone_is_averaged(both):
    """A short stage's average is what it began with, and is handed on."""
    both.custom_hooks.EMAHook = dict()
    first, second = (cfg for _, cfg in stage_configs(both))
    assert 'EMAHook' not in kinds(first) and 'EMAHook' in kinds(second)
    both.stages[0].custom_hooks.EMAHook = dict(momentum=.1)
    first, _ = (cfg for _, cfg in stage_configs(both))
    assert kinds(first).count('EMAHook') == 1


def test_numbers_count_the_average_too(both):
    both.custom_hooks = [
        dict(type='EMAHook'), both.teacher,
        dict(type='KAHook', translator=None, **TAPS),
        dict(type='KDHook')
    ]
    both.stages = [
        dict(name='first', custom_hooks={'3': None}),
        dict(name='second')
    ]
    first, second = (cfg for _, cfg in stage_configs(both))
    assert kinds(first) == ['TeacherHook', 'KAHook']
    assert kinds(second) == ['EMAHook', 'TeacherHook', 'KAHook', 'KDHook']


def test_a_stage_of_the_students_own_keeps_all(both):
    """Only what does without the student leaves others out."""
    both.stages[0].custom_hooks = dict(KAHook=dict(weight=2.))
    first, _ = (cfg for _, cfg in stage_configs(both))
    assert kinds(first) == ['TeacherHook', 'KAHook', 'KDHook']


def test_what_is_named_there_is_said(both, tmp_path):
    both.stages[0].custom_hooks.KDHook = dict(weight=2.)
    with pytest.raises(UserError,
                       match='KDHook needs the student, which the '
                       'stage of TranslatorHook .*KDHook=None'):
        run_stages(both, str(tmp_path / 'work'))


def test_two_methods_from_the_shipped_ones(tmp_path, monkeypatch, capsys):
    """Merged by their bases, and the second one taken for a method."""
    shipped_ones = 'seg_kd::_base_/methods/'
    Path(tmp_path,
         'both.py').write_text(f"_base_ = '{shipped_ones}ka.py'\n"
                               'custom_hooks = dict(KDHook=dict(weight=.3))\n')
    Path(tmp_path, 'whole.py').write_text(
        "_base_ = ['seg_kd::_base_/experiments/synthetic.py', 'both.py']\n")
    monkeypatch.chdir(tmp_path)
    from seg_kd.analysis.comparison import Comparison
    from seg_kd.cli import read_config
    for cfg in (read_config('whole.py'), Comparison('synthetic', 'out', 40,
                                                    1.).config('both.py')):
        stages = list(stage_configs(cfg))
        check_settings(stages)
        first, second = (stage for _, stage in stages)
        assert kinds(first) == ['TeacherHook', 'TranslatorHook']
        assert kinds(second) == ['TeacherHook', 'KAHook', 'KDHook']
        check_layers(first)
        check_layers(second)
    Path(tmp_path, 'both.py').write_text(
        f"_base_ = '{shipped_ones}kd.py'\n"
        "custom_hooks = dict(KDHook=dict(student='decode_hed.conv_seg'))\n")
    assert run_tool('compare', ['both.py', '--work-dir', 'work'], monkeypatch,
                    tmp_path) == 2
    assert "no layer 'decode_hed.conv_seg'" in capsys.readouterr().err
    assert not Path('work').exists()
