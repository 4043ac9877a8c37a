"""A teacher's labels as a data set: what they are, and that it trains."""
import re
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import CLASSES, run_tool
from mmengine.config import Config

from seg_kd.engine.pseudo_labels import certainty
from seg_kd.engine.records import latest_checkpoint
from seg_kd.networks.checkpoint import read_checkpoint


@pytest.fixture
def config(plain_config, teacher_hook, tmp_path):
    weights = torch.load(teacher_hook['checkpoint'])
    weights['state_dict']['decode_head.conv_seg.weight'] *= 100  # more sure
    torch.save(weights, tmp_path / 'teacher.pth')
    plain_config.custom_hooks = [
        dict(teacher_hook, checkpoint=str(tmp_path / 'teacher.pth')),
        dict(type='KDHook')
    ]
    plain_config.train_cfg.max_iters = 2
    plain_config.default_hooks.checkpoint.interval = 2
    plain_config.dump(str(tmp_path / 'mine.py'))
    return 'mine.py'


@pytest.fixture
def images(data_root, tmp_path):
    folder = tmp_path / 'more'
    (folder / 'deep').mkdir(parents=True)
    for number, name in enumerate(('a.png', 'deep/b.png')):
        shutil.copy(data_root / f'val/images/{number}.png', folder / name)
    return folder


def test_labels_where_the_teacher_is_sure(config, images, tmp_path,
                                          monkeypatch, capsys):

    def written(threshold):
        assert run_tool('prepare_data', [
            'pseudo-labels', config, 'more', '--out', f'out{threshold}',
            '--threshold', threshold
        ], monkeypatch, tmp_path) == 0
        return [
            cv2.imread(str(tmp_path / f'out{threshold}/labels/{name}.png'), -1)
            for name in ('a', 'deep/b')
        ]

    whole, sure = written(0), written(.5)
    said = capsys.readouterr().out
    assert all(name in said for name in CLASSES)
    ignored = np.mean([label == 255 for label in sure])
    assert 0 < ignored < 1
    assert float(re.findall(r'unsure: ([\d.]+) %',
                            said)[-1]) == pytest.approx(100 * ignored, abs=.05)
    for all_of_it, part in zip(whole, sure):
        assert all_of_it.shape == (64, 96) and all_of_it.max() < len(CLASSES)
        kept = part != 255
        assert (part[kept] == all_of_it[kept]).all()
    copied = tmp_path / 'out0/images/deep/b.png'
    assert copied.read_bytes() == (images / 'deep/b.png').read_bytes()


def test_labels_are_not_taken_for_images(config, images, tmp_path, monkeypatch,
                                         capsys):
    arguments = ['prepare_data', 'pseudo-labels', config, 'more', '--out']
    (tmp_path / 'elsewhere').symlink_to(images)
    for out in ('more/labelled', 'more', 'elsewhere/labelled'):
        assert run_tool(arguments[0], [*arguments[1:], out], monkeypatch,
                        tmp_path) == 2
        assert 'choose another --out' in capsys.readouterr().err
    assert len(list(images.rglob('*'))) == 3


def test_out_is_whole_or_absent(config, images, tmp_path, monkeypatch, capsys):
    whole = (images / 'deep/b.png').read_bytes()
    (images / 'deep/b.png').write_bytes(whole[:99])
    arguments = ['pseudo-labels', config, 'more', '--out', 'out']
    assert run_tool('prepare_data', arguments, monkeypatch, tmp_path) == 2
    assert 'b.png: cannot be loaded' in capsys.readouterr().err
    assert not list(tmp_path.glob('out*'))
    (images / 'deep/b.png').write_bytes(whole)
    assert run_tool('prepare_data', arguments, monkeypatch, tmp_path) == 0
    assert [p.name for p in tmp_path.glob('out*')] == ['out']
    (tmp_path / 'file').touch()
    assert run_tool('prepare_data', [*arguments[:-1], 'file/out'], monkeypatch,
                    tmp_path) == 2
    assert 'file/out.part: Not a directory' in capsys.readouterr().err


def test_the_teacher_sees_its_finer_view(config, images, tmp_path,
                                         monkeypatch):
    """Of images that are made half as large, twice that is the original."""

    def written(out, scale):
        cfg.custom_hooks[0].scale = scale
        cfg.dump(str(tmp_path / 'mine.py'))
        assert run_tool(
            'prepare_data',
            ['pseudo-labels', config, 'more', '--out', out, '--threshold', .5],
            monkeypatch, tmp_path) == 0
        return cv2.imread(str(tmp_path / out / 'labels/a.png'), -1)

    cfg = Config.fromfile(tmp_path / 'mine.py')
    pipeline = cfg.test_dataloader.dataset.pipeline
    expected = written('whole', 1.)
    cfg.test_dataloader.dataset.pipeline = [
        pipeline[0],
        dict(type='Resize', scale=(48, 32)), *pipeline[1:]
    ]
    assert np.array_equal(written('finer', 2.), expected)
    assert not np.array_equal(written('coarse', 1.), expected)


@pytest.mark.parametrize('reduced', [False, True])
def test_it_trains(config, images, tmp_path, monkeypatch, reduced):
    if reduced:  # as MMSegmentation's configs of ADE20K say it
        cfg = Config.fromfile(tmp_path / config)
        dataset = cfg.train_dataloader.dataset
        dataset.reduce_zero_label = True
        dataset.pipeline[1].reduce_zero_label = True
        flips = [[dict(type='RandomFlip', prob=p)] for p in (0., 1.)]
        dataset.pipeline.insert(2, dict(type='RandomChoice', transforms=flips))
        cfg.dump(str(tmp_path / config))
    assert run_tool('prepare_data',
                    ['pseudo-labels', config, 'more', '--out', 'out'],
                    monkeypatch, tmp_path) == 0
    dataset = Config.fromfile(tmp_path / 'out/config.py')
    assert dataset.train_dataloader.dataset.metainfo.classes == CLASSES
    assert run_tool('train', ['out/config.py', '--work-dir', 'work'],
                    monkeypatch, tmp_path) == 0
    state = read_checkpoint(latest_checkpoint(str(tmp_path / 'work')))
    assert state['meta']['dataset_meta']['classes'] == CLASSES


@pytest.mark.filterwarnings('ignore:the teacher .* is that of all folds')
def test_a_fold_and_options_last(config, images, tmp_path, monkeypatch,
                                 capsys):
    """The data set of labels has no recordings, and its teacher one fold."""
    cfg = Config.fromfile(tmp_path / 'mine.py')
    cfg.train_dataloader.dataset.type = 'CamVidDataset'
    cfg.train_dataloader.unlabelled = dict(img_path='nowhere')
    dataset = dict(recordings=('x', ))
    cfg.folds = dict(a=dict(train_dataloader=dict(dataset=dataset),
                            val_dataloader=dict(batch_size=3)))
    cfg.dump(str(tmp_path / 'mine.py'))
    assert run_tool('prepare_data', [
        'pseudo-labels', config, 'more', '--out', 'out', '--fold', 'a',
        '--cfg-options', 'train_cfg.max_iters=1'
    ], monkeypatch, tmp_path) == 0
    made = Config.fromfile(tmp_path / 'out/config.py')
    assert (made.fold, made.train_cfg.max_iters) == ('a', 1)
    assert made.val_dataloader.batch_size == 3
    pipeline = cfg.train_dataloader.dataset.pipeline
    assert made.train_dataloader.dataset.pipeline == pipeline
    assert run_tool('train', ['out/config.py', '--work-dir', 'work'],
                    monkeypatch, tmp_path) == 0
    capsys.readouterr()
    assert run_tool('train', ['out/config.py', '--fold', 'a'], monkeypatch,
                    tmp_path) == 2
    assert 'defines no folds' in capsys.readouterr().err


@pytest.mark.parametrize('options, said', [
    (['--threshold', '1.5'], 'a probability from 0 to below 1, not 1.5'),
    (['--out', '.'], '. holds files'),
    (['nowhere'], 'nowhere is no folder'),
    (['more/*.png'], 'more/*.png is no folder'),
])
def test_mistakes(config, images, options, said, tmp_path, monkeypatch,
                  capsys):
    arguments = [config, 'more', '--out', 'out', *options]
    if len(options) == 1:
        arguments = [config, *options, '--out', 'out']
    assert run_tool('prepare_data', ['pseudo-labels', *arguments], monkeypatch,
                    tmp_path) == 2
    assert said in capsys.readouterr().err
    assert not Path(tmp_path / 'out').exists()


def test_images_that_are_none(config, images, tmp_path, monkeypatch, capsys):

    def fails():
        assert run_tool('prepare_data',
                        ['pseudo-labels', config, 'more', '--out', 'out'],
                        monkeypatch, tmp_path) == 2
        return capsys.readouterr().err

    (images / 'c.png').write_bytes(b'no image')
    assert 'more/c.png: cannot be loaded' in fails()
    (images / 'c.png').rename(images / 'c.jpg')
    assert 'images that end in .jpg, .png' in fails()


def test_certainty():
    logits = torch.tensor([[2., 0.], [0., 0.], [-1., 0.]])[:, None]
    expected = logits.softmax(0).max(0)[0]
    torch.testing.assert_close(certainty(logits, logits.argmax(0)), expected)


def test_certainty_of_a_head_with_one_output():
    """MMSegmentation gives probabilities; the threshold here is 0.3."""
    second = torch.tensor([[[.99, .02, .6, .4]]])
    expected = torch.tensor([[.99, .98, .6, .4]])
    torch.testing.assert_close(certainty(second, (second > .3)[0].float()),
                               expected)
