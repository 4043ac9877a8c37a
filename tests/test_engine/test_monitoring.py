"""What one sees of a training, and that the training does not."""
import importlib.util
import json
import struct
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import CLASSES, build_runner, watch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmseg.apis import init_model

from seg_kd.engine import trackers
from seg_kd.engine.evaluate import last_stage
from seg_kd.engine.pictures import mean_iou
from seg_kd.engine.progress import ProgressHook, validations
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError
from seg_kd.export.plain_config import plain_config as config_for_mmseg
from seg_kd.registry import HOOKS

TRACKERS = dict(tensorboard='TensorboardVisBackend',
                wandb='WandbVisBackend',
                mlflow='MLflowVisBackend')
THERE = {
    package: importlib.util.find_spec(package) is not None
    for package in TRACKERS
}


def state(path):
    return torch.load(path, weights_only=False)['state_dict']


def assert_same(one, other):
    assert one.keys() == other.keys()
    for key, value in one.items():
        assert torch.equal(value, other[key]), key


def with_all(cfg):
    """Everything that can be seen, and every tracker that is there."""
    cfg = watch(Config(cfg.to_dict()))
    cfg.custom_hooks[1].weight = 3.
    cfg.visualizer = dict(
        type='SegLocalVisualizer',
        vis_backends=[dict(type='LocalVisBackend')] +
        [dict(type=TRACKERS[name]) for name, there in THERE.items() if there])
    return cfg


@pytest.fixture(scope='module')
def watched_dir(tmp_path_factory):
    return tmp_path_factory.mktemp('watched') / 'ka'


@pytest.fixture
def watched(watched_dir, ka_config, monkeypatch):
    """Folder of a training of two stages; all tests share it."""
    monkeypatch.setenv('WANDB_MODE', 'offline')
    monkeypatch.setenv('WANDB_SILENT', 'true')
    if not watched_dir.exists():
        run_stages(with_all(ka_config), str(watched_dir))
    return watched_dir


def log_of(folder, pattern='*/*.log'):
    return next(folder.glob(pattern)).read_text()


def scalars_of(folder):
    text = log_of(folder, '*/vis_data/scalars.json')
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.filterwarnings('ignore')  # of the trackers' own packages
def test_the_log_tells_stage_and_eta_of_the_whole_training(watched):
    for number, name in enumerate(('translator', 'distill'), 1):
        lines = [
            line for line in log_of(watched / name).splitlines()
            if 'Iter(' in line
        ]
        assert lines
        assert all(f'Stage {number}/2 {name}  Iter(' in x for x in lines)
    etas = [
        line['eta'] for name in ('translator', 'distill')
        for line in scalars_of(watched / name) if 'eta' in line
    ]
    assert len(etas) == 12 and etas[-1] == 0
    assert etas[5] > 0  # another stage is to come


@pytest.mark.filterwarnings('ignore')
def test_the_log_tells_each_term_its_weight_and_its_gradient(watched):
    lines = [x for x in scalars_of(watched / 'distill') if 'loss' in x]
    assert all(line['ka_weight'] == 3. for line in lines)
    assert 'ka_gradient_ratio' not in lines[0]
    ratios = [line['ka_gradient_ratio'] for line in lines[1:]]
    assert min(ratios) > 0
    assert ratios[0] == ratios[1] != ratios[2]  # of iterations 2 and 4
    text = log_of(watched / 'distill')
    assert '  ka_weight: 3.0000  ' in text and '  ka_gradient_ratio: ' in text
    first = scalars_of(watched / 'translator')
    assert not any('translator_gradient_ratio' in line for line in first)


@pytest.mark.filterwarnings('ignore')
def test_the_weights_are_those_of_a_training_that_nobody_watches(
        watched, ka_config, tmp_path):
    """Bit for bit, in both stages."""
    alone = with_all(ka_config)
    for name in ('gradient_ratio', 'pictures', 'student_copies'):
        alone.default_hooks[name] = None
    alone.default_hooks.loss_guard = dict(type='LossGuardHook', factor=None)
    alone.default_hooks.checkpoint.pop('save_best')
    alone.pop('visualizer')
    run_stages(alone, str(tmp_path / 'alone'))
    for stage in ('translator', 'distill'):
        assert_same(state(watched / stage / 'iter_6.pth'),
                    state(tmp_path / 'alone' / stage / 'iter_6.pth'))
    assert not list(tmp_path.rglob('pictures'))
    assert not list(tmp_path.rglob('student_*.pth'))


@pytest.mark.filterwarnings('ignore')
def test_pictures_of_every_validation(watched):
    files = sorted((watched / 'distill/pictures').iterdir())
    assert [f.name for f in files] == [f'iter_{i:06d}.png' for i in (2, 4, 6)]
    image = cv2.imread(str(files[0]))
    assert image.shape[1] == 4 * (96 + 6) + 6  # image, truth, two networks
    assert image.std() > 30
    assert not (watched / 'translator/pictures').exists()
    assert list(watched.glob('distill/*/vis_data/vis_image/pictures_2.png'))


@pytest.mark.filterwarnings('ignore')
def test_best_and_students_alone(watched, ka_config):
    folder = watched / 'distill'
    best = next(folder.glob('best_mIoU_iter_*.pth'))
    assert not list((watched / 'translator').glob('student_*.pth'))
    for name, source in (('best', best), ('last', folder / 'iter_6.pth')):
        copy = torch.load(folder / f'student_{name}.pth', weights_only=True)
        assert copy.keys() == {'meta', 'state_dict'}
        assert copy['meta']['dataset_meta']['classes'] == CLASSES
        whole = state(source)
        assert_same(copy['state_dict'], {
            k: v
            for k, v in whole.items() if not k.startswith('distill.')
        })
        plain = config_for_mmseg(last_stage(ka_config), [])
        init_model(plain, str(folder / f'student_{name}.pth'), device='cpu')
    saved = torch.load(folder / 'iter_6.pth', weights_only=False)
    assert saved['message_hub']['runtime_info']['best_ckpt'] == str(best)


@pytest.mark.filterwarnings('ignore')
@pytest.mark.skipif(not THERE['tensorboard'], reason='no tensorboard')
def test_tensorboard(watched):
    from tensorboard.backend.event_processing import event_accumulator
    for stage in ('translator', 'distill'):
        folder, = watched.glob(f'{stage}/*/vis_data')
        events = event_accumulator.EventAccumulator(str(folder)).Reload()
        losses = events.Scalars('loss')
        assert [event.step for event in losses] == [1, 2, 3, 4, 5, 6]
    assert [x.step for x in events.Scalars('mIoU')] == [2, 4, 6]
    assert {'ka_gradient_ratio', 'ka_weight',
            'loss_ka_affinity'} <= set(events.Tags()['scalars'])
    assert events.Tags()['images'] == ['pictures']


def written(path):
    """The records in a file of W&B: LevelDB's log, in blocks of 32 KiB."""
    data, position, whole = path.read_bytes(), 7, b''
    while position + 7 <= len(data):
        left = 32768 - position % 32768
        if left < 7:
            position += left
            continue
        _, size, kind = struct.unpack_from('<IHB', data, position)
        whole += data[position + 7:position + 7 + size]
        position += 7 + size
        if kind in (1, 4):  # all of it, or the last part
            yield whole
            whole = b''


@pytest.mark.filterwarnings('ignore')
@pytest.mark.skipif(not THERE['wandb'], reason='no wandb')
def test_wandb_offline(watched):
    from wandb.proto import wandb_internal_pb2
    for stage, images in (('translator', 0), ('distill', 3)):
        path, = watched.glob(f'{stage}/*/vis_data/wandb/offline-run-*/*.wandb')
        steps, shown = {}, 0
        for data in written(path):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.WhichOneof('record_type') == 'run':
                assert record.run.run_group == 'ka'
                assert record.run.display_name == stage
            if record.WhichOneof('record_type') == 'history':
                items = {
                    item.key or '/'.join(item.nested_key)
                    for item in record.history.item
                }
                shown += any(key.startswith('pictures') for key in items)
                for key in items:
                    steps.setdefault(key, []).append(record.history.step.num)
        assert steps['loss'] == [1, 2, 3, 4, 5, 6]
        assert shown == images
    assert steps['mIoU'] == [2, 4, 6]


@pytest.mark.filterwarnings('ignore')
@pytest.mark.skipif(not THERE['mlflow'], reason='no mlflow')
def test_mlflow_in_a_store_of_files(watched):
    from mlflow.tracking import MlflowClient
    client = MlflowClient(f'file://{watched}/mlruns')
    experiment = client.get_experiment_by_name('ka')
    runs = client.search_runs([experiment.experiment_id])
    found = {run.data.tags['mlflow.runName']: run for run in runs}
    assert found.keys() == {'translator', 'distill'}
    for run in found.values():
        losses = client.get_metric_history(run.info.run_id, 'loss')
        assert sorted(m.step for m in losses) == [1, 2, 3, 4, 5, 6]
        assert run.info.status == 'FINISHED'
    pictures = client.list_artifacts(found['distill'].info.run_id, 'pictures')
    assert len(pictures) == 3


@pytest.mark.parametrize('package', TRACKERS)
def test_a_tracker_that_is_not_installed(plain_config, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    plain_config.visualizer = dict(type='SegLocalVisualizer',
                                   vis_backends=[dict(type=TRACKERS[package])])
    with pytest.raises(UserError, match=rf"install 'seg_kd\[{package}\]'"):
        build_runner(plain_config)


def test_what_a_config_says_of_its_trackers_counts(tmp_path, monkeypatch):
    monkeypatch.setattr(trackers.importlib.util, 'find_spec', lambda n: True)
    given = dict(vis_backends=[
        dict(type='WandbVisBackend', init_kwargs=dict(name='mine')),
        dict(type='MLflowVisBackend', exp_name='mine')
    ])
    wandb, mlflow = trackers.filled_in(given, str(tmp_path / 'ka/distill'),
                                       'distill')['vis_backends']
    assert wandb['init_kwargs'] == dict(project='seg_kd',
                                        group='ka',
                                        name='mine')
    assert mlflow['exp_name'] == 'mine' and mlflow['run_name'] == 'distill'
    assert mlflow['tracking_uri'] == f'file://{tmp_path}/ka/mlruns'
    assert given['vis_backends'][0]['type'] == 'WandbVisBackend'


@pytest.mark.parametrize('settings, epoch', [
    (dict(max_iters=10, val_interval=3), 1),
    (dict(max_iters=9, val_interval=3), 1),
    (dict(max_iters=10, val_interval=20), 1),
    (dict(max_iters=12, val_interval=4, val_begin=6), 1),
    (dict(max_iters=12), 1),
    (dict(max_epochs=5, val_interval=2), 7),
])
def test_validations_that_are_to_come(settings, epoch):
    last = settings.get('max_iters') or settings['max_epochs'] * epoch
    unit = 1 if 'max_iters' in settings else epoch
    every = settings.get('val_interval', 1000) * unit
    points = [
        i for i in range(1, last + 1) if i >= settings.get('val_begin', 1) *
        unit and (i % every == 0 or i == last)
    ]
    for done in range(last + 1):
        assert validations(settings, epoch,
                           done) == sum(i > done for i in points)


def test_eta_counts_validations_and_later_stages(monkeypatch):
    """10 s an iteration, 4 s a validation, and a stage of the same after."""
    clock = [0.]
    monkeypatch.setattr('seg_kd.engine.progress.time.monotonic',
                        lambda: clock[0])
    train = dict(max_iters=4, val_interval=2)
    found = {}

    class Runner:
        iter, train_dataloader, val_dataloader = 0, [0], [0, 0]
        cfg = Config(
            dict(train_cfg=train,
                 val_cfg=dict(type='ValLoop'),
                 stage=dict(later=[dict(train_cfg=train, validates=False)])))

        class message_hub:
            update_info = found.__setitem__

    hook, runner, etas = ProgressHook(), Runner(), []
    hook.before_train(runner)
    for runner.iter in range(2):
        hook.before_train_iter(runner)
        clock[0] += 10
        hook.after_train_iter(runner)
        etas.append(found['eta'])
    assert etas == [7 * 10, 6 * 10]  # of validations nothing is known yet
    runner.iter = 2
    hook.before_val(runner)
    for batch in range(2):
        clock[0] += 2
        hook.after_val_iter(runner, batch)
        etas.append(found['eta'])
    hook.after_val(runner)
    assert etas[2:] == [60 + 4 + 2, 60 + 4]
    clock[0] += 10
    hook.after_train_iter(runner)
    assert found['eta'] == 50 + 4


def test_a_picture_that_fails_is_a_warning(plain_config, monkeypatch):
    plain_config.train_cfg.update(max_iters=2, val_interval=1)
    plain_config.default_hooks.pictures = dict(type='PicturesHook')
    calls = []

    def fail(*args):
        calls.append(args)
        raise OSError('disk full')

    monkeypatch.setattr('seg_kd.engine.pictures.side_by_side', fail)
    build_runner(plain_config).train()
    assert len(calls) == 1
    log = log_of(Path(plain_config.work_dir))
    assert log.count('no pictures from here on: OSError: disk full') == 1


def test_a_validation_without_the_metric_keeps_no_best(plain_config):
    plain_config.train_cfg.update(max_iters=2, val_interval=1)
    plain_config.val_evaluator.iou_metrics = ['mDice']
    plain_config.default_hooks.checkpoint.save_best = 'mIoU'
    build_runner(plain_config).train()
    folder = Path(plain_config.work_dir)
    assert log_of(folder).count('no best checkpoint is kept') == 1
    assert not list(folder.glob('best_*'))


@HOOKS.register_module()
class Rising(Hook):
    """Each validation is better than the one before."""

    priority = 'VERY_HIGH'

    def after_val_epoch(self, runner, metrics=None):
        metrics['mIoU'] = runner.iter


@pytest.mark.filterwarnings('ignore:Detected call of `scheduler.step')
def test_a_new_best_writes_no_further_whole_checkpoint(plain_config):
    """It would lack the gradients that are being accumulated."""
    plain_config.custom_hooks = [dict(type='Rising')]
    plain_config.train_cfg.update(max_iters=4, val_interval=1)
    plain_config.default_hooks.checkpoint.update(interval=2, save_best='mIoU')
    plain_config.optim_wrapper.accumulative_counts = 2
    build_runner(plain_config).train()
    files = {p.name for p in Path(plain_config.work_dir).glob('*.pth')}
    assert files == {'iter_2.pth', 'iter_4.pth', 'best_mIoU_iter_4.pth'}


def test_iou_of_one_image():
    seen = np.array([[0, 1, 1, 2]], np.uint8)
    truth = np.array([[0, 1, 3, 255]], np.uint8)
    assert mean_iou(seen, truth) == pytest.approx(100 * (1 + .5 + 0) / 3)
    assert np.isnan(mean_iou(seen, np.full_like(truth, 255)))


@pytest.mark.parametrize('name, wrong', [
    ('GradientRatioHook', dict(interval=0)),
    ('PicturesHook', dict(count=0)),
    ('LossGuardHook', dict(factor=.5)),
])
def test_mistakes_in_what_is_watched(name, wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        HOOKS.build(dict(type=name, **wrong))
