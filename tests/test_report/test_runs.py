"""Folders of runs, faked: what is a run, what a stage, what goes together."""
import json

import pytest

from seg_kd.errors import UserError
from seg_kd.report.build import ledgers_in, together
from seg_kd.report.runs import find_runs, teacher_checkpoint

TEACHERS = 'work_dirs/teacher/iter_9.pth'


def write(folder, config, miou=None, after='', teacher=None, seed=0, **more):
    """A folder as a run, or a stage of one, leaves it."""
    logs = folder / more.pop('started', '20260101_000000') / 'vis_data'
    logs.mkdir(parents=True)
    lines = [dict(loss=1., time=2., lr=.1, step=5)]
    if miou is not None:
        lines.append({'mIoU': miou, 'IoU.sky': miou + 1, 'step': 10})
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    hooks = [] if teacher is None else [
        dict(type='TeacherHook', model='t.py', checkpoint=teacher),
        dict(type='KDHook', weight=1.)
    ]
    settings = dict(after=after,
                    custom_hooks=hooks,
                    **{'randomness.seed': seed})
    record = dict(config=config, settings=settings, finished=True)
    (folder / 'run.json').write_text(json.dumps(record))
    cfg = dict(
        custom_hooks=hooks,
        train_cfg=dict(max_iters=10),
        randomness=dict(seed=seed),
        test_dataloader=dict(
            dataset=dict(type='A', data_root=more.pop('data', 'data/camvid'))),
        **more)
    text = '\n'.join(f'{key} = {value!r}' for key, value in cfg.items())
    (folder / f'{config}.py').write_text(text)


def test_the_runs_of_train_with_stages_and_a_teacher(tmp_path, monkeypatch):
    work = tmp_path / 'work_dirs'
    write(work / 'teacher', 'teacher_net', 50.)
    (work / 'teacher/iter_9.pth').touch()
    write(work / 'student', 'student_net', 40.)
    write(work / 'kd/b_first', 'kd_net', started='20260101_000000')
    write(work / 'kd/a_second',
          'kd_net',
          42.,
          after='x',
          started='20260102_000000',
          teacher=TEACHERS,
          work_dir='work_dirs/kd/a_second')
    write(work / 'kd/a_second.before_20251231_000000', 'kd_net', 1.)
    (work / 'kd/teacher_cache').mkdir()
    teacher, student, kd = find_runs(
        [str(work / name) for name in ('teacher', 'student', 'kd')])
    assert (teacher.method, student.method, kd.method) == ('teacher',
                                                           'student', 'kd_net')
    assert list(kd.stages) == ['b_first', 'a_second']
    # its teacher, from where the training was started
    assert teacher_checkpoint(kd) == str(work / 'teacher/iter_9.pth')
    assert {run.experiment for run in (teacher, student, kd)} == {'camvid'}
    assert kd.entry() == dict(experiment='camvid',
                              method='kd_net',
                              fold=None,
                              seed=0,
                              iterations=10,
                              miou=42.,
                              iou=dict(sky=43.),
                              wall_s=20)
    assert {run.folder
            for run in find_runs([str(work)])
            } == {run.folder
                  for run in (teacher, student, kd)}


def test_the_runs_of_compare_are_named_as_there(tmp_path):
    for method in ('student', 'kd@own'):
        for seed in (0, 1):
            write(tmp_path / f'{method}_left_seed{seed}',
                  f'{method.partition("@")[0]}_half',
                  40. + seed,
                  teacher=None if method == 'student' else 'gone.pth',
                  seed=seed,
                  fold='left')
    found = find_runs([str(tmp_path)])
    assert [(r.method, r.experiment, r.fold, r.seed)
            for r in found] == [('kd@own', 'half', 'left', 0),
                                ('kd@own', 'half', 'left', 1),
                                ('student', 'half', 'left', 0),
                                ('student', 'half', 'left', 1)]
    assert found[1].name == 'kd@own, left, seed 1'
    one, = find_runs([str(tmp_path / 'student_left_seed1')])
    assert one.entry() == found[3].entry()


def test_runs_of_two_students_are_no_pair_and_in_a_ledger_once(tmp_path):
    wanted = ['half', 'half+small']
    folders = [tmp_path / f'compare_{name}' for name in wanted]
    for folder in folders:
        write(folder / 'kd_seed0', 'kd_half', 40., teacher='gone.pth')
    found = find_runs(list(map(str, folders)))
    assert [run.experiment for run in found] == wanted
    assert [run.method for run in found] == ['kd', 'kd']
    noted = [dict(run.entry(), commit='abc') for run in found]
    assert together(noted, found) == [run.entry() for run in found]
    one, = find_runs([str(folders[1] / 'kd_seed0')])
    assert one.experiment == 'half+small'


def test_a_method_that_replaces_the_student_is_marked(tmp_path):
    model = dict(type='Encoder', depth=18)
    for method, own in (('student', model), ('kd', model),
                        ('hnd', dict(model, type='Tail'))):
        write(tmp_path / f'{method}_seed0',
              f'{method}_half',
              40.,
              teacher=None if method == 'student' else 'gone.pth',
              model=own)
    found = find_runs([str(tmp_path)])
    assert [run.method for run in found] == ['hnd', 'kd', 'student']
    marked = [run.entry().get('other_network') for run in found]
    assert marked == [True, None, None]
    # without the student beside it, a ledger says so
    only, = find_runs([str(tmp_path / 'hnd_seed0')])
    assert not only.other_network
    only, = find_runs([str(tmp_path / 'hnd_seed0')], found[0].entry())
    assert only.other_network


def test_students_in_folders_of_any_name(tmp_path):
    """Which they are is in the ledgers."""
    for name, miou in ('a', 40.), ('b', 41.):
        for method in ('kd', 'student'):
            write(tmp_path / name / f'{method}_seed0',
                  f'{method}_half',
                  miou,
                  teacher=None if method == 'student' else 'gone.pth')
    folders = [str(tmp_path / name) for name in 'ab']
    noted = [
        dict(experiment='half+small',
             method=method,
             fold=None,
             seed=0,
             iterations=10,
             miou=41.,
             wall_s=10) for method in ('kd', 'student')
    ]
    wanted = [('kd', 'half'), ('student', 'half'), ('kd', 'half+small'),
              ('student', 'half+small')]
    found = find_runs(folders, *noted)
    assert [(run.method, run.experiment) for run in found] == wanted
    assert len(together(noted, found)) == 4
    assert ledgers_in(folders) == []
    (tmp_path / 'a/ledger.jsonl').write_text('')
    (tmp_path / 'b/ledger.jsonl').write_text('\n'.join(map(json.dumps, noted)))
    assert ledgers_in(folders) == noted


def test_the_same_method_trained_otherwise_is_told_apart(
        tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / 'a', 'kd_net', 1., teacher='t.pth')
    write(tmp_path / 'b', 'kd_net', 2., teacher='t.pth')
    assert [run.method for run in find_runs(['a', 'b'])] == ['kd_net', 'b']


def test_a_config_that_cannot_be_read_is_said(tmp_path):
    write(tmp_path, 'net', 1.)
    (tmp_path / 'net.py').write_text('a = = 1')
    found, = find_runs([str(tmp_path)])
    assert found.cfg is None and 'invalid syntax' in found.problem
    assert found.entry()['miou'] == 1.


def test_bad_folders_are_one_line(tmp_path):
    with pytest.raises(UserError, match='there is no folder'):
        find_runs([str(tmp_path / 'gone')])
    (tmp_path / 'empty/20260101/vis_data').mkdir(parents=True)
    (tmp_path / 'empty/20260101/vis_data/scalars.json').write_text(
        '{"mIoU": 5.0, "step": 1}\n')  # of a test
    with pytest.raises(UserError, match='empty holds no logs of training'):
        find_runs([str(tmp_path / 'empty')])
    write(tmp_path / 'a', 'net', 1.)
    write(tmp_path / 'b', 'net', 1., data='data/voc')
    with pytest.raises(UserError, match='a is of camvid, .*b of voc'):
        find_runs([str(tmp_path / 'a'), str(tmp_path / 'b')])


def test_a_run_that_is_too_short_to_log_a_loss(tmp_path):
    write(tmp_path, 'net', 40.)
    logs, = tmp_path.rglob('scalars.json')
    logs.write_text(logs.read_text().partition('\n')[2])
    assert 'loss' not in logs.read_text()
    found, = find_runs([str(tmp_path)])
    assert found.entry()['miou'] == 40.


def test_a_run_without_validation_has_no_entry(tmp_path):
    write(tmp_path, 'net')
    found, = find_runs([str(tmp_path)])
    assert found.entry() is None and found.iterations == 10
