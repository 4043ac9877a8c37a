"""Configs as they are written, and as the runner takes them."""
import pytest
from mmengine.config import Config

from seg_kd.cli import set_option
from seg_kd.engine.complete import change_hooks, complete_hooks, resolve
from seg_kd.engine.stages import stage_configs
from seg_kd.errors import UserError
from seg_kd.hooks import KDHook, TeacherHook

TEACHER = dict(type='TeacherHook', model='t.py')
KD = dict(type='KDHook', weight=2.)


@pytest.fixture
def cfg():
    return Config(
        dict(teacher=TEACHER,
             custom_hooks=dict(KDHook=dict(weight=2.),
                               ema=dict(type='EMAHook', momentum=.1)),
             train_cfg=dict(max_iters=10),
             optim_wrapper=dict(type='OptimWrapper')))


def only(cfg):
    (_, complete), = stage_configs(cfg)
    return complete


def test_the_teacher_comes_before_what_learns_from_it(cfg):
    hooks = only(cfg).custom_hooks
    assert hooks == [TEACHER, KD, dict(type='EMAHook', momentum=.1)]
    assert isinstance(cfg.custom_hooks, dict)  # as it was written
    assert complete_hooks([dict(type='EMAHook')],
                          TEACHER) == [dict(type='EMAHook')]
    own = dict(type='TeacherHook', model='own.py')
    assert complete_hooks([KD, own], TEACHER) == [KD, own]
    assert complete_hooks([KD], None) == [KD]
    assert complete_hooks(None, TEACHER) == []


def test_a_class_is_as_good_as_its_name():
    hook = dict(type=KDHook)
    assert complete_hooks([hook], TEACHER) == [TEACHER, hook]
    own = dict(type=TeacherHook, model='own.py')
    assert complete_hooks([own, hook], TEACHER) == [own, hook]
    assert complete_hooks(dict(kd=hook), TEACHER)[1] == hook


@pytest.mark.parametrize('name', ['KDHook', 'kd', '1'])
def test_a_stage_names_the_hook_that_it_replaces(cfg, name):
    ema = dict(type='EMAHook', momentum=.1)
    cfg.stages = dict(a={'custom_hooks': {
        name: dict(type='ATHook')
    }},
                      b={'custom_hooks': {
                          name: dict(temperature=3.)
                      }},
                      c={'custom_hooks': {
                          name: None
                      }})
    a, b, c = (stage.custom_hooks for _, stage in stage_configs(cfg))
    assert a == [TEACHER, dict(type='ATHook')]
    assert b == [TEACHER, dict(temperature=3., **KD)]
    assert c == [TEACHER, ema]  # of the last stage alone


def test_a_stage_names_by_key_and_adds(cfg):
    cfg.stages = dict(a=dict(
        custom_hooks=dict(ema=dict(momentum=.2), ATHook=dict())))
    hooks = only(cfg).custom_hooks
    assert hooks[2:] == [
        dict(type='EMAHook', momentum=.2),
        dict(type='ATHook')
    ]
    cfg.stages = dict(a=dict(custom_hooks=[KD]))
    assert only(cfg).custom_hooks == [TEACHER, KD]


def test_a_hook_that_is_not_there(cfg):
    cfg.stages = dict(a=dict(custom_hooks=dict(KDHok=dict(weight=1.))))
    with pytest.raises(UserError, match='KDHok.*did you mean KDHook'):
        only(cfg)
    cfg.stages = dict(a=dict(custom_hooks={'7': dict(weight=1.)}))
    with pytest.raises(UserError, match='number 7: there are 3'):
        only(cfg)
    cfg.custom_hooks = [KD, KD]
    cfg.stages = dict(a=dict(custom_hooks=dict(KDHook=dict(weight=1.))))
    with pytest.raises(UserError, match='2 of .KDHook.'):
        only(cfg)


def test_stages_by_name_and_as_a_list_are_the_same(cfg):
    cfg.stages = dict(a=dict(train_cfg=dict(max_iters=.5)), b=dict())
    named = [(n, c.to_dict()) for n, c in stage_configs(cfg)]
    cfg.stages = [dict(name='a', train_cfg=dict(max_iters=.5)), dict(name='b')]
    assert [(n, c.to_dict()) for n, c in stage_configs(cfg)] == named
    assert [c['train_cfg']['max_iters'] for _, c in named] == [5, 10]


HEAD = dict(type='FCNHead', loss_decode=dict(type='CrossEntropyLoss'))
TWO = [dict(type='A', loss_weight=1.), dict(type='B', loss_weight=.4)]


@pytest.mark.parametrize('heads', [
    dict(decode_head=HEAD),
    dict(decode_head=HEAD, auxiliary_head=dict(HEAD, loss_decode=TWO)),
    dict(decode_head=[HEAD, HEAD], auxiliary_head=[HEAD, HEAD]),
])
def test_from_the_teacher_alone_means_every_head(cfg, heads):
    cfg.model = heads
    cfg.stages = dict(a=dict(task=False), b=dict())
    (_, first), (_, second) = stage_configs(cfg)
    assert second.model == heads and second.optim_wrapper == cfg.optim_wrapper
    for name in heads:
        found = first.model[name]
        for head in found if isinstance(found, list) else [found]:
            losses = head.loss_decode
            for loss in losses if isinstance(losses, list) else [losses]:
                assert loss.loss_weight == 0.
    assert first.task is False and 'task' not in second


def test_references_stand_for_what_the_whole_config_says(cfg):
    cfg.size = (3, 5)
    cfg.a = dict(b=['config:size.1', 'config:teacher.model'], c='config:d')
    cfg.d = 'config:size'
    resolve(cfg)
    assert cfg.a == dict(b=[5, 't.py'], c=(3, 5))
    for wrong in ('config:nothing', 'config:size.7', 'config:size.x'):
        cfg.e = wrong
        with pytest.raises(UserError, match=wrong):
            resolve(cfg)
    cfg.e = 'config:e'
    with pytest.raises(UserError, match='stands for itself'):
        resolve(cfg)


@pytest.mark.parametrize('form', ['by name', 'a list', 'a complete list'])
@pytest.mark.parametrize('name', ['KDHook', 'kd', '1'])
def test_options_name_hooks(cfg, form, name):
    if form != 'by name':
        cfg.custom_hooks = only(cfg).custom_hooks
    if form == 'a list':
        cfg.custom_hooks = cfg.custom_hooks[1:]
    set_option(cfg, f'custom_hooks.{name}.weight=7')
    set_option(cfg, 'custom_hooks.0.checkpoint=w.pth')
    set_option(cfg, 'custom_hooks.TeacherHook.evaluate=True')
    teacher, hook, _ = only(cfg).custom_hooks
    assert teacher == dict(checkpoint='w.pth', evaluate=True, **TEACHER)
    assert hook == dict(KD, weight=7)


def test_options_name_stages_and_transforms(cfg):
    cfg.pipeline = [dict(type='A'), dict(type='B', inner=[dict(type='C')])]
    set_option(cfg, 'pipeline.B.inner.C.x=(1,2)')
    assert cfg.pipeline[1].inner[0] == dict(type='C', x=(1, 2))
    cfg.stages = [dict(name='a'), dict(name='b')]
    set_option(cfg, 'stages.b.train_cfg.max_iters=3')
    cfg.stages[0].custom_hooks = dict(KDHook=dict(weight=1.))
    set_option(cfg, 'stages.0.custom_hooks.KDHook.weight=4')
    (_, a), (_, b) = stage_configs(cfg)
    assert b.train_cfg.max_iters == 3 and a.custom_hooks[1].weight == 4


def test_an_option_may_be_a_dict(cfg):
    set_option(cfg, "custom_hooks.1={'type': 'ATHook', 'student': 'a,b'}")
    assert only(cfg).custom_hooks[1] == dict(type='ATHook', student='a,b')
    cfg.custom_hooks = only(cfg).custom_hooks
    set_option(cfg, "custom_hooks.ATHook={'type': 'KDHook'}")
    assert only(cfg).custom_hooks[1] == dict(type='KDHook')


@pytest.mark.parametrize('option, words', [
    ('custom_hooks', 'KEY=VALUE is wanted'),
    ('train_cfg.max_iters.x=3', '--cfg-options train_cfg.max_iters.x=3'),
    ('stages.c.load_from=x', "called 'c'; there are: a, b"),
    ('custom_hooks.9.weight=3', 'no number 9'),
    ('custom_hooks.KDHok.weight=3', 'did you mean KDHook'),
    ("custom_hooks.1={'type': ", '--cfg-options custom_hooks.1='),
])
def test_options_that_fit_nothing(cfg, option, words):
    cfg.stages = [dict(name='a'), dict(name='b')]
    with pytest.raises(UserError) as error:
        set_option(cfg, option)
    assert words in str(error.value)


def test_a_runner_completes_the_hooks(plain_config, teacher_hook):
    from conftest import build_runner
    plain_config.teacher = teacher_hook
    plain_config.custom_hooks = dict(KDHook=dict())
    runner = build_runner(plain_config)
    kinds = [type(hook) for hook in runner.hooks]
    assert TeacherHook in kinds and KDHook in kinds


def test_without_a_hook_that_is_not_there():
    assert change_hooks({}, dict(EMAHook=None)) == []
    with pytest.raises(UserError, match="no hook 'EMAHok'"):
        change_hooks({}, dict(EMAHok=None))
