"""The two commands, as a user calls them: what they do, and their errors."""
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import run_tool
from mmengine.config import Config


@pytest.fixture
def call(monkeypatch, tmp_path, capsys):
    """Runs a tool in ``tmp_path``; gives exit status and what it printed."""

    def run(tool, *arguments):
        status = run_tool(tool, arguments, monkeypatch, tmp_path)
        shown = capsys.readouterr()
        return status, shown.out, shown.err

    return run


@pytest.fixture
def config(ka_config, tmp_path):
    """The tiny experiment as a file, with what test.py needs."""
    ka_config.tta_model = dict(type='SegTTAModel')
    ka_config.tta_pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='TestTimeAug',
             transforms=[[
                 dict(type='Resize', scale_factor=r, keep_ratio=True)
                 for r in (1., 1.5)
             ], [dict(type='RandomFlip', prob=p) for p in (0., 1.)],
                         [dict(type='LoadAnnotations')],
                         [dict(type='PackSegInputs')]])
    ]
    del ka_config.work_dir
    ka_config.dump(str(tmp_path / 'ka.py'))
    return 'ka.py'


def test_train_then_test(call, config, tmp_path, data_root):
    """Training's last validation and test.py agree on the same weights."""
    status, _, _ = call('train', config, '--seed', 3, '--amp')
    assert status == 0
    folder = tmp_path / 'work_dirs/ka/distill'
    log = next(folder.glob('*/vis_data/scalars.json')).read_text()
    last = json.loads(log.splitlines()[-1])
    checkpoint = folder / 'iter_6.pth'
    assert torch.load(checkpoint, weights_only=False)['meta']['seed'] == 3

    status, out, _ = call('test', config, checkpoint, '--teacher', '--out',
                          'labels', '--show-dir', 'shown')
    assert status == 0
    student, teacher = out.splitlines()[-2:]
    assert f'student: aAcc {last["aAcc"]:.2f}, mIoU {last["mIoU"]:.2f}' \
        in student
    assert teacher.startswith('teacher: aAcc')
    for name in ('student', 'teacher'):
        label = cv2.imread(str(tmp_path / f'labels/{name}/0.png'),
                           cv2.IMREAD_UNCHANGED)
        assert label.shape == (64, 96) and label.max() < 4
        assert len(list((tmp_path / 'shown' / name).rglob('*.png'))) == 3
    truth = [
        cv2.imread(str(data_root / f'val/labels/{i}.png'), 0) for i in range(3)
    ]
    guess = [
        cv2.imread(str(tmp_path / f'labels/student/{i}.png'), 0)
        for i in range(3)
    ]
    valid = np.array(truth) != 255
    accuracy = (np.array(truth) == np.array(guess))[valid].mean() * 100
    assert accuracy == pytest.approx(last['aAcc'], abs=0.01)

    status, out, _ = call('test', config, checkpoint, '--tta')
    assert status == 0 and 'student: aAcc' in out

    status, out, _ = call('test', config, checkpoint, '--cfg-options',
                          'model.test_cfg.mode=slide',
                          'model.test_cfg.crop_size=(48,64)',
                          'model.test_cfg.stride=(32,32)')
    assert status == 0 and 'student: aAcc' in out
    assert out.splitlines()[-1] != student

    status, out, _ = call('train', config, '--seed', 3, '--amp')
    assert status == 0 and out.count('finished, nothing to do') == 2


def edit(tmp_path, change):
    cfg = Config.fromfile(str(tmp_path / 'ka.py'))
    change(cfg)
    cfg.dump(str(tmp_path / 'ka.py'))


def unknown_hook(cfg):
    cfg.custom_hooks[1].type = 'KAHok'


def unknown_model(cfg):
    cfg.model.type = 'EncoderDecodr'


def unknown_backbone(cfg):
    cfg.model.backbone.type = 'MobileNetV22'


def no_data(cfg):
    cfg.train_dataloader.dataset.update(type='CityscapesDataset',
                                        data_root='data/cityscapes',
                                        img_suffix='_leftImg8bit.png',
                                        metainfo=None,
                                        data_prefix=dict(
                                            img_path='leftImg8bit/train',
                                            seg_map_path='gtFine/train'))


def no_data_and_no_teacher(cfg):
    """The data comes first: nothing is fetched for a run that cannot be."""
    no_data(cfg)
    cfg.stages[0].custom_hooks[0].checkpoint = 'nowhere.pth'


def wrong_layer(cfg):
    cfg.stages[0].custom_hooks[1].teacher = 'decode_head.botleneck'


def no_checkpoint(cfg):
    cfg.stages[0].custom_hooks[0].checkpoint = 'nowhere.pth'


def wrong_classes(cfg):
    cfg.model.decode_head.num_classes = 7
    cfg.stages.pop(0)
    cfg.stages[0].custom_hooks = []


def unknown_stage(cfg):
    cfg.custom_hooks[1].translator = 'stage:translatr'


def bad_label(cfg):
    """Met by a loader worker, whose traceback nobody wants to read."""
    root = Path(cfg.train_dataloader.dataset.data_root)
    copy = Path(cfg.work_dir).parent / 'bad'
    for kind in ('images', 'labels'):
        (copy / 'train' / kind).mkdir(parents=True)
        for path in (root / 'train' / kind).iterdir():
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            if kind == 'labels':
                image[5, 7] = 9
            cv2.imwrite(str(copy / 'train' / kind / path.name), image)
    cfg.train_dataloader.dataset.data_root = str(copy)
    cfg.train_dataloader.dataset.pipeline.insert(
        2, dict(type='CheckLabels', num_classes=4))
    cfg.train_dataloader.num_workers = 1


@pytest.mark.parametrize('change, words', [
    (unknown_hook, ['unknown hook', 'KAHok', 'KAHook']),
    (unknown_model, ['unknown model', 'EncoderDecodr', 'EncoderDecoder']),
    (unknown_backbone, ['unknown model', 'MobileNetV22', 'MobileNetV2']),
    (no_data, ['data/cityscapes', 'make demo', 'cityscapes']),
    (no_data_and_no_teacher, ['data/cityscapes', 'make demo']),
    (wrong_layer, ['botleneck', 'decode_head.bottleneck']),
    (no_checkpoint, ['nowhere.pth', 'does not exist']),
    (wrong_classes, ['student has 7 classes', 'data set has 4']),
    (unknown_stage, ['stage:translatr', "'translator'"]),
    (bad_label, ['labels/', '9']),
],
                         ids=lambda value: getattr(value, '__name__', ''))
def test_a_mistake_is_one_line(call, config, tmp_path, change, words):
    edit(tmp_path, change)
    status, _, err = call('train', config)
    assert status == 2
    error = [line for line in err.splitlines() if line.startswith('error: ')]
    assert len(error) == 1 and len(error[0]) < 500, err
    for word in words:
        assert word in error[0]
    assert 'Traceback' not in err


def test_mistakes_in_the_arguments(call, config, tmp_path):
    for arguments, word in [(('none.py', ), 'does not exist'),
                            (('broken.py', ), 'cannot be read'),
                            (('orphan.py', ), 'cannot be read')]:
        (tmp_path / 'broken.py').write_text('model = dict(')
        (tmp_path / 'orphan.py').write_text("_base_ = 'nobody.py'")
        status, _, err = call('train', *arguments)
        assert status == 2 and word in err and len(err.splitlines()) == 1
    (tmp_path / 'junk.pth').write_bytes(b'junk')
    torch.save(dict(state_dict={}), tmp_path / 'empty.pth')
    for checkpoint, word in [('none.pth', 'does not exist'),
                             ('junk.pth', 'not readable'),
                             ('empty.pth', 'weights are missing')]:
        status, _, err = call('test', config, checkpoint)
        assert status == 2 and word in err and len(err.splitlines()) == 1
