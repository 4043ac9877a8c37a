"""A fold changes the data, and the teacher is that of the same fold."""
import pytest
from mmengine.config import Config

from seg_kd.engine.folds import choose_fold
from seg_kd.errors import UserError


def config(**fold):
    return Config(
        dict(seed=1,
             teacher=dict(type='TeacherHook',
                          checkpoint='work_dirs/large/iter_9.pth'),
             folds=dict(a=dict(seed=2, **fold))))


def test_the_teacher_has_seen_no_more_than_the_student():
    cfg = config()
    choose_fold(cfg, 'a')
    assert (cfg.fold, cfg.seed) == ('a', 2)
    assert cfg.teacher.checkpoint == 'work_dirs/large_a/iter_9.pth'


@pytest.mark.parametrize('checkpoint', ['mine.pth', 'work_dirs/x/iter_1.pth'])
def test_what_a_fold_names_stays(checkpoint):
    cfg = config(teacher=dict(checkpoint=checkpoint))
    choose_fold(cfg, 'a')
    assert cfg.teacher.checkpoint == checkpoint


def test_no_such_fold():
    with pytest.raises(UserError, match="no fold 'b'"):
        choose_fold(config(), 'b')


@pytest.mark.parametrize('form', [list, dict])
def test_a_teacher_among_the_hooks(form):
    hook = dict(type='TeacherHook', checkpoint='work_dirs/large/iter_9.pth')
    cfg = config()
    cfg.pop('teacher')
    cfg.custom_hooks = [hook] if form is list else dict(teacher=hook)
    choose_fold(cfg, 'a')
    found, = cfg.custom_hooks if form is list else cfg.custom_hooks.values()
    assert found.checkpoint == 'work_dirs/large_a/iter_9.pth'


def test_one_teacher_of_all_folds_is_warned_of():
    cfg = config()
    cfg.teacher.checkpoint = 'weights/mine.pth'
    with pytest.warns(match="weights/mine.pth is that of all folds.*'a'"):
        choose_fold(cfg, 'a')
