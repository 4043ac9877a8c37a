"""A config that is written as another one with changes comes back whole."""
from seg_kd import cli
from seg_kd.engine.complete import assign
from seg_kd.engine.derived import derived
from seg_kd.engine.folds import choose_fold

BASE = '''
model = dict(type='A', head=dict(type='B', width=3), neck=None)
teacher = dict(type='TeacherHook', checkpoint='work_dirs/large/iter_9.pth')
loader = dict(dataset=dict(type='C', recordings=('x', ), moves=[1, 2]))
custom = dict(KDHook=dict(weight=1.))
changes = dict(model=dict(head=dict(width=4)))
folds = dict(a=dict(loader=dict(dataset=dict(recordings=('y', )))))
'''


def test_all_that_was_changed(tmp_path):
    path = tmp_path / 'base.py'
    path.write_text(BASE)
    cfg = cli.read_config(str(path))
    choose_fold(cfg, 'a')
    cfg.merge_from_dict({
        'custom.KDHook.weight': 2.,
        'model.head.width': 5,  # after what changes= say
        'more': dict(deep=dict(x=1))
    })
    assign(cfg, 'model.neck', dict(type='N'))
    settings = cfg.to_dict()
    settings['loader']['dataset'] = dict(type='E', moves=[1, 2])
    (tmp_path / 'new.py').write_text(derived(cfg, settings))
    found = cli.read_config(str(tmp_path / 'new.py')).to_dict()
    assert found.pop('folds') is None
    settings.pop('folds')
    assert found == settings
    assert found['teacher']['checkpoint'] == 'work_dirs/large_a/iter_9.pth'
