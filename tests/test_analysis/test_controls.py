"""Controls: what stands in the place of the teacher."""
import shutil
from pathlib import Path

import pytest
import torch
from conftest import forget_instances
from mmengine.config import Config

from seg_kd.analysis import controls
from seg_kd.analysis.comparison import ALONE, Comparison
from seg_kd.analysis.controls import random_weights
from seg_kd.engine.complete import teachers_of
from seg_kd.engine.needs import check_teacher
from seg_kd.errors import UserError
from seg_kd.hooks.softened import SoftenedTerm, soften
from seg_kd.losses import KDLoss
from seg_kd.networks.checkpoint import read_checkpoint
from seg_kd.teacher.teacher import Step


def test_names():
    assert controls.with_controls(['kd', 'a/my.py'], ['own', 'random']) == [
        'kd', 'a/my.py', 'kd@own', 'a/my.py@own', 'kd@random', 'a/my.py@random'
    ]
    assert controls.title('a/my.py@own') == 'my@own'
    assert controls.title('a/my.py') == 'my'
    with pytest.raises(UserError, match='kd@owm: a control is one of own'):
        controls.split('kd@owm')


@pytest.mark.parametrize('temperature', [1., 4.])
def test_softened_labels(temperature):
    torch.manual_seed(0)
    teacher = 3 * torch.randn(2, 5, 3, 4)
    labels = torch.randint(5, (2, 6, 8))
    labels[0, :2] = 255
    found = soften(teacher, labels, temperature)
    shares = (found / temperature).softmax(1)
    sure = (teacher / temperature).softmax(1).amax(1)
    for n in range(2):
        for y in range(3):
            for x in range(4):
                label = labels[n, 2 * y + 1, 2 * x + 1]
                if label == 255:
                    continue
                expected = torch.full((5, ), (1 - sure[n, y, x]) / 4)
                expected[label] = sure[n, y, x]
                torch.testing.assert_close(shares[n, :, y, x], expected)


def test_nothing_is_learnt_where_a_label_is_ignored():
    """A position of which most is labelled, but not its centre."""
    torch.manual_seed(0)
    labels = torch.randint(5, (1, 6, 8))
    labels[0, 1, 1] = 255  # the centre of the first position of 3 x 4
    student = torch.randn(1, 5, 3, 4, requires_grad=True)
    step = Step(labels, labels != 255)
    term = SoftenedTerm(KDLoss(), 'x', 'x', name='softened')
    losses = term.compute(KDLoss(), student, torch.randn(1, 5, 3, 4), step)
    sum(losses.values()).backward()
    slopes = student.grad[0].abs().sum(0)
    assert slopes[0, 0] < 1e-7 and (slopes.flatten()[1:] > 1e-4).all()


def test_a_teacher_that_is_certain_stays_finite():
    teacher = torch.tensor([1000., 0., 0.]).view(1, 3, 1, 1)
    found = soften(teacher, torch.ones(1, 1, 1, dtype=torch.long), 1.)
    assert found.isfinite().all() and found.argmax(1) == 1


def test_softened_is_for_kd_alone():
    job = Comparison('synthetic', 'out')
    cfg = job.config('kd@softened')
    hook = cfg.custom_hooks.KDHook
    assert hook.type == 'SoftenedLabelsHook' and hook.weight == .27
    for method in ('recipe@softened', 'fitnet@softened'):
        with pytest.raises(UserError, match='a KDHook and nothing else'):
            job.config(method)


@pytest.fixture
def experiment(plain_config, teacher_hook, tmp_path, monkeypatch):
    """A path of one, with the small networks of the tests."""
    monkeypatch.chdir(tmp_path)
    plain_config.teacher = teacher_hook
    plain_config.train_cfg.update(max_iters=2, val_interval=2)
    plain_config.default_hooks.checkpoint.interval = 2
    plain_config.custom_imports = dict(imports=['seg_kd.register'])
    plain_config.pop('work_dir')
    plain_config.dump('tiny.py')
    return 'tiny.py'


def test_each_control_trains(experiment):
    job = Comparison(experiment, 'out')
    runs = {}
    for method in (ALONE, 'kd', 'kd@own', 'kd@random', 'kd@softened'):
        forget_instances()
        runs[method] = job.train(method, None, 0)
        assert runs[method]['method'] == method
    assert len({run['settings'] for run in runs.values()}) == 5
    assert job.learns_from(('kd@own', None, 1)) == (ALONE, None, 1)
    assert job.learns_from(('kd', None, 1)) is None
    # what the teacher is made of is in its row, not what the seed made
    assert len({run['made_of'] for run in runs.values()}) == 2
    assert runs['kd']['made_of'] == runs['kd@softened']['made_of']
    own = Config.fromfile('out/kd@own_seed0/kd_tiny.py')
    assert own.teacher.checkpoint.startswith('out/student_seed0/iter_2')
    assert own.teacher.model.backbone == own.model.backbone


def test_another_random_teacher_has_a_file_of_its_own(teacher_hook, tmp_path):
    model = Config(dict(m=teacher_hook['model'])).m
    path = random_weights(teacher_hook, str(tmp_path))
    assert random_weights(teacher_hook, str(tmp_path)) == path
    model.decode_head.num_classes = 7
    other = random_weights(dict(model=model), str(tmp_path))
    weight = read_checkpoint(other)['state_dict']['decode_head.conv_seg.bias']
    assert other != path and weight.shape == (7, )


def test_random_weights_are_made_once(experiment):
    job = Comparison(experiment, 'out')
    path = job.config('kd@random').teacher.checkpoint
    first = read_checkpoint(path)['state_dict']
    assert job.config('kd@random').teacher.checkpoint == path
    given = read_checkpoint(Config.fromfile(experiment).teacher.checkpoint)
    key = 'backbone.stem.0.weight'
    assert not torch.equal(first[key], given['state_dict'][key])
    means = [v for k, v in first.items() if k.endswith('running_mean')]
    assert means and all(v.abs().sum() > 0 for v in means)
    check_teacher(job.config('kd@random'))


def test_stages_teach_nothing_behind_a_control(tmp_path):
    (tmp_path / 'first.py').write_text("""
_base_ = 'seg_kd::_base_/stages/features.py'
custom_hooks = dict(KDHook=dict())
stages = dict(features=dict(custom_hooks=dict(
    KDHook=None,
    FitNetHook=dict(student='backbone[2]', teacher='backbone[2]'))))
""")
    (tmp_path / 'second.py').write_text("""
_base_ = 'seg_kd::_base_/stages/features.py'
custom_hooks = dict(KDHook=dict())
stages = dict(task=dict(teacher=dict(checkpoint='another.pth')))
""")
    (tmp_path / 'third.py').write_text("""
_base_ = 'seg_kd::_base_/stages/features.py'
custom_hooks = dict(KDHook=dict())
stages = dict(task=dict(teacher=dict(precision='bf16')))
""")
    job = Comparison('synthetic', str(tmp_path))
    third = job.config(str(tmp_path / 'third.py') + '@own', own='own.pth')
    assert [t.get('checkpoint') for t in teachers_of(third)] == ['own.pth']
    with pytest.raises(UserError, match='a KDHook and nothing else'):
        job.config(str(tmp_path / 'first.py') + '@softened')
    with pytest.raises(UserError, match='this config has 2'):
        job.config(str(tmp_path / 'second.py') + '@random')


def test_the_layers_of_a_control_are_checked_ahead(experiment):
    """The student in its teacher's place has no such layer."""
    Path('my.py').write_text("custom_hooks = dict(FitNetHook=dict(student="
                             "'backbone[1]', teacher='decode_head.bottleneck'"
                             "))\n")
    job = Comparison(experiment, 'out')
    job.check(['my.py', 'my.py@random'], [None])
    Comparison('synthetic', 'out', ratio=.5).check(['fitnet@own'], [None])
    with pytest.raises(UserError, match="no layer .*bottleneck"):
        job.check(['my.py@own'], [None])


@pytest.mark.parametrize('hooks, number', [
    ('[]', 0),
    ("[dict(type='TeacherHook', model='a'),"
     " dict(type='TeacherHook', name='b', model='a')]", 2),
])
@pytest.mark.parametrize('control', ['own', 'random'])
def test_the_place_of_one_teacher(hooks, number, control, tmp_path):
    (tmp_path / 'base.py').write_text(
        "_base_ = 'seg_kd::_base_/experiments/synthetic.py'\n"
        f'teacher = None\ncustom_hooks = {hooks}')
    job = Comparison(str(tmp_path / 'base.py'), str(tmp_path))
    with pytest.raises(UserError, match=f'one teacher: this .* has {number}'):
        job.check([f'kd@{control}'], [None])


def test_a_run_of_other_data_or_measurement_is_not_taken(
        experiment, data_root, tmp_path):
    cfg = Config.fromfile(experiment)
    root = tmp_path / 'data'
    shutil.copytree(data_root, root)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.dataset.data_root = str(root)
    cfg.dump(experiment)
    job = Comparison(experiment, 'out')
    first = job.train(ALONE, None, 0)
    assert job.train(ALONE, None, 0)['made_of'] == first['made_of']

    def refused():
        with pytest.raises(UserError, match='student_seed0: this run ended '):
            job.train(ALONE, None, 0)

    cfg.val_dataloader.dataset.data_root = 'data'  # the same
    cfg.dump(experiment)
    assert job.train(ALONE, None, 0)['made_of'] == first['made_of']
    cfg.val_evaluator.ignore_index = 0
    cfg.dump(experiment)
    refused()
    cfg.val_evaluator.pop('ignore_index')
    cfg.dump(experiment)
    for split in ('val', 'train'):
        extra = [
            root / split / kind / '9.png' for kind in ('images', 'labels')
        ]
        for path in extra:
            shutil.copy(path.with_name('0.png'), path)
        refused()
        for path in extra:
            path.unlink()
    assert job.train(ALONE, None, 0)['made_of'] == first['made_of']
