"""One method after the other: the same but for the method, of any length."""
from pathlib import Path

import pytest
from conftest import run_tool
from mmengine.config import Config

from seg_kd import shipped
from seg_kd.analysis import comparison
from seg_kd.analysis.comparison import combine, shorten
from seg_kd.analysis.ledger import ALONE, append
from seg_kd.commands.compare import in_one_spelling, turn
from seg_kd.engine.stages import stage_configs
from seg_kd.errors import UserError


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path / 'empty')


def load(name):
    return Config.fromfile(shipped.find(name))


def test_methods_and_data():
    assert 'ka' in comparison.methods()
    assert not {'student', 'ka_camvid'} & set(comparison.methods())
    assert {
        'cityscapes', 'cityscapes_pspnet', 'camvid', 'camvid_grid',
        'camvid_by_recording', 'camvid_few_labels', 'camvid_footage',
        'synthetic', 'synthetic_unlabelled', 'voc'
    } == set(comparison.data_sets())


@pytest.mark.parametrize('method', [comparison.ALONE, *comparison.methods()])
def test_only_the_data_changes(method):
    plain = load('student_deeplab_camvid')
    stages = list(stage_configs(comparison.combine(method, 'camvid')))
    (_, only), (_, last) = list(stage_configs(plain))[0], stages[-1]
    for key in ('train_dataloader', 'val_dataloader', 'train_cfg'):
        assert last[key] == only[key]
    merged = comparison.combine(method, 'camvid')
    other = comparison.other_network(merged, plain)
    assert other == (dict(other_network=True) if method == 'hnd' else {})
    if method == 'hnd':  # a student of its own
        assert last.model.teacher == last.teacher.model
        return
    assert last.model == only.model
    if method != comparison.ALONE:
        for name, cfg in stages:
            hooks = cfg.custom_hooks
            assert not hooks or hooks[0].model == (
                'seg_kd::teacher_deeplab_camvid.py')


@pytest.mark.parametrize('method', comparison.methods())
def test_a_leaf_is_what_compare_merges(method):
    leaf = stage_configs(load(f'{method}_deeplab'))
    merged = stage_configs(comparison.combine(method, 'cityscapes'))
    for (name, one), (other_name, other) in zip(leaf, merged, strict=True):
        assert name == other_name and one.to_dict() == other.to_dict()


def test_no_such_method():
    with pytest.raises(UserError, match='method kaa does .* mean ka'):
        comparison.combine('kaa', 'camvid')
    with pytest.raises(UserError, match='experiment camvit .* mean camvid'):
        comparison.combine('ka', 'camvit')


def test_methods_and_experiments_of_a_users_own():
    Path('mine.py').write_text("custom_hooks = dict(KDHook=dict(weight=9.))")
    Path('place.py').write_text(
        "_base_ = 'seg_kd::_base_/experiments/synthetic.py'\n"
        'crop_size = (64, 64)')
    cfg = comparison.combine('mine.py', 'place.py')
    assert cfg.custom_hooks.KDHook.weight == 9.
    (_, complete), = stage_configs(cfg)
    crop = complete.train_dataloader.dataset.pipeline[1].transforms[1]
    assert (crop.height, crop.width) == (64, 64)
    assert cfg.filename == 'mine_place.py'


def test_shorter_in_proportion():
    cfg = load('ka_deeplab_camvid')
    cfg.custom_hooks.KAHook.update(start=600, warmup=301)
    cfg.train_cfg.max_iters = cfg.param_scheduler[0].end = 3000
    cfg.stages.translator.train_cfg.max_iters = 200
    comparison.shorten(cfg, 300)
    assert cfg.train_cfg.max_iters == cfg.train_cfg.val_interval == 300
    assert cfg.param_scheduler[0].begin == 0
    assert cfg.param_scheduler[0].end == 300
    assert cfg.stages.translator.train_cfg.max_iters == 20
    assert cfg.custom_hooks.KAHook.start == 60
    assert cfg.custom_hooks.KAHook.warmup == 30


@pytest.mark.parametrize('method, kind', [('ab', 'KDHook'), ('vid', 'VIDHook'),
                                          ('ka', 'KAHook')])
def test_measured_weights_in_the_last_stage_only(method, kind):
    cfg = load(f'{method}_deeplab')
    comparison.pull_alike(cfg, .5)
    *earlier, (_, last) = stage_configs(cfg)
    teacher, hook = last.custom_hooks
    assert hook.to_dict().items() >= dict(type=kind,
                                          weight='auto',
                                          auto_ratio=.5).items()
    assert 'weight' not in teacher
    assert all(stage.custom_hooks[1].get('weight') != 'auto'
               for _, stage in earlier)


def own_experiment(tmp_path, text):
    path = tmp_path / 'mine.py'
    path.write_text("_base_ = 'seg_kd::_base_/experiments/synthetic.py'\n" +
                    text)
    return str(path)


@pytest.mark.parametrize('text', [
    "custom_hooks = [dict(type='EMAHook'), dict(type='KDHook')]",
    'custom_hooks = dict(EMAHook=dict(), KDHook=dict())',
])
@pytest.mark.parametrize('method', [ALONE, 'fitnet'])
def test_an_experiments_other_hooks_are_everybodys(tmp_path, text, method):
    cfg = combine(method, own_experiment(tmp_path, text))
    for name, stage in stage_configs(cfg):
        kinds = [hook['type'] for hook in stage.custom_hooks]
        assert kinds.count('EMAHook') == (name in ('', 'task'))
        assert kinds.count('KDHook') == (method == 'fitnet' and name == 'task')


def test_all_schedules_are_shortened(tmp_path):
    path = own_experiment(
        tmp_path, """
train_cfg = dict(max_iters=1000)
optim_wrapper = dict(accumulative_counts=4)
randomness = dict(deterministic=True)
param_scheduler = dict(_delete_=True, type='MultiStepLR', by_epoch=False,
                       milestones=[600, 900])
custom_hooks = dict(FitNetHook=dict(connector_iters=100))
""")
    made = comparison.Comparison(path, 'out', max_iters=500).config(ALONE, 3)
    assert made.param_scheduler.milestones == [300, 450]
    assert made.default_hooks.checkpoint.interval % 4 == 0
    assert made.randomness == dict(seed=3, deterministic=True)
    cfg = combine('fitnet', path)
    cfg.custom_hooks.FitNetHook.connector_iters = 100
    shorten(cfg, 500)
    assert cfg.custom_hooks.FitNetHook.connector_iters == 50


@pytest.mark.parametrize('text, said', [
    ('train_cfg = dict(_delete_=True, by_epoch=True, max_epochs=5)',
     'train_cfg.max_iters'),
    ('val_dataloader = val_cfg = val_evaluator = None', 'val_dataloader'),
    ("val_evaluator = dict(iou_metrics=['mDice'])", r"iou_metrics=\['mIoU'"),
])
def test_what_could_not_be_compared_is_not_trained(tmp_path, text, said):
    job = comparison.Comparison(own_experiment(tmp_path, text), 'out')
    with pytest.raises(UserError, match=f'a comparison needs .*{said}'):
        job.check([ALONE], [None])


@pytest.mark.parametrize('method, data, said', [
    ('recipe_camvid', 'camvid', 'has another val_dataloader.dataset'),
    ('kd_deeplab', 'camvid_grid', 'does not fit camvid_grid'),
])
def test_a_method_of_other_data_is_refused(method, data, said):
    """As a whole config of another experiment is."""
    path = shipped.find(method)
    job = comparison.Comparison(data, 'out')
    with pytest.raises(UserError, match=f'{method}.py {said}'):
        job.check([ALONE, path], [None])


def test_another_student_where_the_experiment_names_no_classes(tmp_path):
    path = tmp_path / 'mine.py'
    path.write_text(
        "_base_ = 'seg_kd::student_deeplab_synthetic.py'\n"
        "model = dict(auxiliary_head=dict(type='FCNHead', num_classes=19))")
    cfg = Config.fromfile(path)
    for key in ('num_classes', 'data_preprocessor'):
        cfg.pop(key)
    cfg.dump(tmp_path / 'plain.py')
    made = combine(ALONE, str(tmp_path / 'plain.py'), 'mobilenetv2_pspnet')
    assert made.model.data_preprocessor == cfg.model.data_preprocessor
    heads = [made.model.decode_head, made.model.get('auxiliary_head')]
    assert {h.num_classes for h in heads if h} == {19}


def test_two_methods_of_one_name(tmp_path, monkeypatch, capsys):
    path = own_experiment(tmp_path, '').replace('mine', 'kd')
    Path(path).write_text('custom_hooks = dict(KDHook=dict(weight=2.))')
    status = run_tool('compare', ['kd', path], monkeypatch, tmp_path)
    assert status == 2
    assert "both called 'kd': rename the file" in capsys.readouterr().err


@pytest.fixture
def pretended(monkeypatch):
    """Trains at once, but for AT, which fails; what was trained."""
    trained = []

    def train(job, method, fold, seed):
        if method == 'at':
            raise UserError('too steep')
        trained.append((method, seed))
        return dict(method=method,
                    experiment='camvid',
                    seed=seed,
                    fold=fold,
                    iterations=9,
                    settings='x',
                    miou=40. + seed * (1 + (method != 'student')),
                    wall_s=10)

    monkeypatch.setattr(comparison.Comparison, 'train', train)
    monkeypatch.setattr(comparison.Comparison, 'check', lambda *args: None)
    return trained


def test_what_has_no_pair_yet_hides_no_table(pretended, tmp_path, monkeypatch,
                                             capsys):
    folder = tmp_path / 'out'
    folder.mkdir()
    (folder / 'ledger.jsonl').touch()  # a disk was full
    status = run_tool('compare', [
        'at', 'kd', '--data', 'camvid', '--seeds', 0, 1, '--work-dir', folder
    ], monkeypatch, tmp_path)
    printed = capsys.readouterr()
    assert status == 2 and '2 runs did not end' in printed.err
    assert '| kd' in printed.out and '| at' not in printed.out


def test_what_is_named_twice_counts_once(pretended, tmp_path, monkeypatch,
                                         capsys):
    arguments = ['--data', 'camvid', '--work-dir', tmp_path / 'out']
    shown = []
    for named in (['kd', '--seeds', 0, 1,
                   2], ['kd', 'kd', '--seeds', 0, 1, 1, 2,
                        0], ['kd', 'kd',
                             '--table'], ['student', 'kd', '--table']):
        assert run_tool('compare', [*named, *arguments], monkeypatch,
                        tmp_path) == 0
        rows = capsys.readouterr().out.splitlines()
        shown.append([row for row in rows if row.startswith('| kd')])
        assert not [row for row in rows if row.startswith('| student')]
    assert shown[0] == shown[1] == shown[2] == shown[3] and len(shown[0]) == 1
    assert len(pretended) == 12
    run_tool('compare', ['student', *arguments], monkeypatch, tmp_path)
    assert 'No pair' not in capsys.readouterr().out


def test_no_hours_for_a_ledger_that_cannot_be_written(pretended, tmp_path,
                                                      monkeypatch, capsys):
    (tmp_path / 'file').touch()
    arguments = ['kd', '--data', 'camvid', '--ledger', 'file/ledger.jsonl']
    assert run_tool('compare', arguments, monkeypatch, tmp_path) == 2
    assert 'file/ledger.jsonl cannot be written' in capsys.readouterr().err
    assert not pretended


def test_a_ledger_of_other_experiments(pretended, tmp_path, monkeypatch,
                                       capsys):
    arguments = ['kd', '--work-dir', tmp_path / 'out', '--data']
    run_tool('compare', [*arguments, 'camvid'], monkeypatch, tmp_path)
    capsys.readouterr()
    assert run_tool('compare', [*arguments, 'synthetic', '--table'],
                    monkeypatch, tmp_path) == 2
    assert ('holds no run of synthetic (--data), but of camvid'
            in capsys.readouterr().err)


def test_no_hook_to_measure():
    for name in ('student_deeplab', 'fsp_deeplab'):
        cfg = load(name)
        comparison.pull_alike(cfg, .5)
        assert list(stage_configs(cfg))[-1][1].custom_hooks == []


def test_the_split_network_has_no_task_to_measure_by():
    assert comparison.taskless(load('hnd_deeplab'))
    assert not comparison.taskless(load('kd_deeplab'))
    job = comparison.Comparison('synthetic', 'out', ratio=.5)
    assert job.config('hnd').custom_hooks.HNDHook.weight == 1.
    assert job.config('kd').custom_hooks[1].weight == 'auto'


def test_nothing_is_trained_before_every_teacher_is_there(
        monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(comparison, 'run_stages', None)
    status = run_tool('compare', ['kd', '--data', 'camvid_grid'], monkeypatch,
                      tmp_path)
    assert status == 2
    assert ('train the teacher first: seg-kd train teacher_deeplab_camvid'
            in capsys.readouterr().err)


def test_the_tool(tmp_path, monkeypatch, capsys):
    trained = []

    def train(job, method, fold, seed):
        Path(job.folder).mkdir(exist_ok=True)
        trained.append((method, job.experiment, seed, fold, job.max_iters,
                        job.ratio, job.student))
        return dict(method=method,
                    experiment=shipped.stem(job.experiment),
                    seed=seed,
                    fold=fold,
                    iterations=9,
                    settings='x',
                    miou=40. + seed + (method != 'student'),
                    wall_s=10)

    monkeypatch.setattr(comparison.Comparison, 'train', train)
    monkeypatch.setattr(comparison.Comparison, 'check', lambda *args: None)
    folder = tmp_path / 'out'
    arguments = ['ka', '--data', 'camvid', '--seeds', 0, 2, '--max-iters', 9]
    status = run_tool('compare', [*arguments, '--work-dir', folder],
                      monkeypatch, tmp_path)
    assert status == 0
    assert trained == [(m, 'camvid', s, None, 9, None, None) for s in (0, 2)
                       for m in ('ka', 'student')]  # longest first
    assert '+1.00' in (folder / 'table.txt').read_text()
    assert (folder / 'methods.png').exists()
    assert '+1.00' in capsys.readouterr().out
    noted = (folder / 'ledger.jsonl').read_text()
    assert len(noted.splitlines()) == 4
    run_tool('compare', [*arguments, '--work-dir', folder], monkeypatch,
             tmp_path)
    assert (folder / 'ledger.jsonl').read_text() == noted
    trained.clear()
    status = run_tool(
        'compare', ['ka', '--data', 'camvid', '--chart', '--work-dir', folder],
        monkeypatch, tmp_path)
    assert status == 0 and not trained
    assert '+1.00' in capsys.readouterr().out
    run_tool('compare', [
        'kd', '--data', 'camvid_by_recording', '--folds', 'a', 'b',
        '--work-dir', folder
    ], monkeypatch, tmp_path)
    assert [found[3] for found in trained] == ['a', 'a', 'b', 'b']


def test_a_fold_has_a_folder_of_its_own(monkeypatch):
    ran = []
    monkeypatch.setattr(comparison, 'run_stages',
                        lambda cfg, folder, resume: ran.append(folder))
    monkeypatch.setattr(comparison, 'final_miou', lambda folder: 40.)
    monkeypatch.setattr(comparison, 'made_of', lambda *args: 'x')
    job = comparison.Comparison('camvid_by_recording', 'out')
    one = job.train('kd', 'without_0016E5', 1)
    other = job.train('kd', 'without_0016E5', 2)
    assert one['settings'] == other['settings']
    assert one['unfolded'] == other['unfolded'] != one['settings']
    assert (one['fold'], one['seed'], one['miou']) == ('without_0016E5', 1, 40)
    ran.pop()
    job.train('kd', None, 1)
    assert ran == ['out/kd_without_0016E5_seed1', 'out/kd_seed1']


def test_settings_are_the_same_however_the_folder_was_typed(tmp_path):
    """They name the weights of the controls, which are in it."""
    for typed in ('runs/a', './runs//a/', str(tmp_path / 'empty/runs/a')):
        assert in_one_spelling(typed) == 'runs/a'
    assert in_one_spelling('../a') == str(tmp_path / 'a')


def test_what_learns_from_the_student_alone_comes_after_it():
    names = ['student', 'kd', 'at', 'kd@random', 'kd@own', 'at@own']
    assert sorted(names, key=turn) == [
        'kd', 'at', 'kd@random', 'student', 'kd@own', 'at@own'
    ]


def test_runs_of_two_students_are_no_pair(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(comparison, 'run_stages', lambda *args, **kw: None)
    monkeypatch.setattr(comparison, 'final_miou', lambda folder: 40.)
    monkeypatch.setattr(comparison, 'made_of', lambda *args: 'x')
    ledger = tmp_path / 'ledger.jsonl'
    for student, method in (None, 'student'), ('mobilenetv2_s16', 'kd'):
        job = comparison.Comparison('camvid', 'out', student=student)
        append(str(ledger), job.train(method, None, 0))
    arguments = ['kd', '--data', 'camvid', '--table', '--ledger', ledger]
    for more in [], ['--student', 'mobilenetv2_s16']:
        assert run_tool('compare', [*arguments, *more], monkeypatch,
                        tmp_path) == 2
        assert 'paired' in capsys.readouterr().err


def test_a_hook_of_both_is_there_once(tmp_path):
    (tmp_path / 'base.py').write_text(
        "_base_ = 'seg_kd::_base_/experiments/synthetic.py'\n"
        "custom_hooks = [dict(type='EMAHook', momentum=.1),\n"
        "                dict(type='TeacherHook', model='x')]")
    (tmp_path / 'own.py').write_text(
        "custom_hooks = [dict(type='EMAHook', momentum=.2),\n"
        "                dict(type='TeacherHook', model='y'),\n"
        "                dict(type='KDHook')]")
    hooks = combine(str(tmp_path / 'own.py'), str(tmp_path / 'base.py'))
    assert [h.type for h in hooks.custom_hooks.values()
            ] == ['EMAHook', 'TeacherHook', 'KDHook']
    assert hooks.custom_hooks['0'].momentum == .2


def test_a_length_that_nothing_can_be_in_proportion_to(tmp_path):
    path = own_experiment(
        tmp_path, 'train_cfg = dict(_delete_=True, by_epoch=True, '
        'max_epochs=5)')
    with pytest.raises(UserError, match='measured in iterations'):
        comparison.Comparison(path, 'x', 10).config('kd')


def test_checkpoints_may_be_left_out(tmp_path):
    path = own_experiment(tmp_path, 'default_hooks = dict(checkpoint=None)')
    cfg = comparison.Comparison(path, 'x', 10).config('kd')
    assert cfg.default_hooks.checkpoint is None
