"""Files of a data set that are not what they should be, and bad numbers."""
import io
import math
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_runner, dataset
from mmcv.transforms import BaseTransform
from mmengine.registry import init_default_scope
from PIL import Image

from seg_kd.datasets import check_dataset, make_ready
from seg_kd.datasets.prepare import camvid, cityscapes, synthetic, voc
from seg_kd.datasets.prepare.files import Entry
from seg_kd.engine.records import latest_checkpoint
from seg_kd.errors import UserError
from seg_kd.registry import DATASETS, TRANSFORMS


def encoded(array, dtype=np.uint8, kind='PNG') -> bytes:
    made = io.BytesIO()
    Image.fromarray(np.asarray(array, dtype)).save(made, kind)
    return made.getvalue()


GOOD = encoded(np.zeros((64, 96)))
TOO_LARGE = GOOD.replace((96).to_bytes(4, 'big') + (64).to_bytes(4, 'big'),
                         (60_000).to_bytes(4, 'big') * 2)
NO_FILES = [
    b'', b'no image', b'<html>', GOOD[:-40], GOOD[:30], b'\0' * 999, TOO_LARGE,
    b'GIF89a' + b'\0' * 50, b'\x89PNG\r\n\x1a\n' + os.urandom(99)
]
NO_LABELS = [
    encoded(np.full((64, 96), 261), np.uint16),
    encoded(np.zeros((64, 96, 3))),
    encoded(np.zeros((64, 96, 4))),
    encoded(np.zeros((64, 95))),
    encoded(np.zeros((1, 1))),
    encoded(np.full((64, 96), 4)),
    encoded(np.full((64, 96), 254)),
]


@pytest.fixture
def cfg(data_root, tmp_path):
    shutil.copytree(data_root, tmp_path / 'data')
    found = dataset(tmp_path / 'data', 'train', training=False)
    found['pipeline'].insert(2, dict(type='CheckLabels'))
    return found


@pytest.fixture
def spoil(cfg, tmp_path):

    def write(kind: str, content: bytes) -> str:
        path = tmp_path / f'data/train/{kind}/1.png'
        path.write_bytes(content)
        return f'{kind}/1.png'

    return write


def every_sample(cfg) -> None:
    init_default_scope('mmseg')
    found = make_ready(DATASETS.build(dict(cfg)))
    for i in range(len(found)):
        found[i]


@pytest.mark.parametrize('kind', ['images', 'labels'])
@pytest.mark.parametrize('number', range(len(NO_FILES)))
@pytest.mark.filterwarnings('ignore::PIL.Image.DecompressionBombWarning')
def test_a_file_that_cannot_be_read(cfg, spoil, kind, number):
    name = spoil(kind, NO_FILES[number])
    for look in (every_sample, lambda cfg: check_dataset(cfg, full=True)):
        with pytest.raises(UserError, match=name):
            look(cfg)


@pytest.mark.parametrize('number', range(len(NO_LABELS)))
def test_a_label_that_is_none(cfg, spoil, number):
    name = spoil('labels', NO_LABELS[number])
    with pytest.raises(UserError, match=name):
        check_dataset(cfg, full=True)
    with pytest.raises(UserError, match=name):
        check_dataset(cfg)  # before a training: 16 bits
        every_sample(cfg)


@pytest.mark.parametrize('make', [
    lambda path: path.symlink_to('nowhere'), lambda path: path.mkdir(),
    lambda path: os.mkfifo(path)
])
def test_what_is_no_file_is_not_read(make, tmp_path):
    """A pipe would be waited for without end."""
    for kind in ('train', 'trainannot'):
        (tmp_path / kind).mkdir()
        (tmp_path / kind / 'a.png').write_bytes(GOOD)
    make(tmp_path / 'train/b.png')
    with pytest.raises(UserError, match='b.png is no file'):
        camvid.convert(tmp_path, tmp_path / 'out')


def test_endings_in_capitals_count(tmp_path):
    for kind in ('train', 'trainannot'):
        (tmp_path / kind).mkdir()
    (tmp_path / 'train/a.PNG').write_bytes(GOOD)
    (tmp_path / 'trainannot/a.png').write_bytes(GOOD)
    camvid.convert(tmp_path, tmp_path / 'out')
    assert (tmp_path / 'out/images/train/a.png').is_file()


def test_a_list_that_is_no_text(tmp_path):
    (tmp_path / 'train.txt').write_bytes(b'\xff\xfe\0a')
    with pytest.raises(UserError, match='train.txt is no text'):
        camvid.read_lists(tmp_path)


@pytest.mark.parametrize('text', [
    '', '[]', '{}', '{"imgWidth": 4}', 'null', '5', '{"objects": 5}',
    '{"imgWidth": 1e9, "imgHeight": 1e9, "objects": []}',
    '{"imgWidth": -1, "imgHeight": 2, "objects": []}',
    '{"imgWidth": 4, "imgHeight": 2, "objects": [{"label": "road", '
    '"polygon": [[0]]}]}',
    '{"imgWidth": 4, "imgHeight": 2, "objects": [{"label": 5}]}',
    '{"imgWidth": 4, "imgHeight": 2, "objects": [{"label": "dragon", '
    '"polygon": [[0, 0]]}]}', '\xff'
])
def test_polygons_that_are_none(text, capsys):
    with pytest.raises(UserError, match='a_polygons.json: '):
        cityscapes.from_polygons(text.encode('latin1'), 'a_polygons.json')
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('content', [
    b'', b'MATLAB 7.3 MAT-file', b'MATLAB 5.0 MAT-file' + b'\0' * 200,
    os.urandom(300), b'\0' * (voc.MOST + 1), GOOD
])
def test_matlab_files_that_are_none(content):
    with pytest.raises(UserError, match='cls/a.mat: not a label file'):
        voc.from_mat(Entry('cls/a.mat', lambda: content))


@pytest.mark.parametrize('array', [
    np.full((2, 2), 261, np.uint16),
    np.full((2, 2), 21, np.uint8),
    np.full((2, 2), .5),
    np.zeros((2, 2, 3), np.uint8)
])
def test_class_numbers_of_voc(array):
    with pytest.raises(UserError, match='x: '):
        voc.indices(array, 'x')


@pytest.mark.parametrize('text', ['', '[]', '{"train": 3}', '{"train": "x"}',
                                  '5', '{', '\0'])  # yapf: disable
def test_a_damaged_manifest(tmp_path, text):
    (tmp_path / 'synthetic.json').write_text(text)
    with pytest.raises(UserError, match='synthetic.json is damaged'):
        synthetic.convert(tmp_path)


# -- numbers ------------------------------------------------------------------


@TRANSFORMS.register_module()
class SpoilImage(BaseTransform):
    """One pixel of an image that is not finite."""

    def __init__(self, value: float) -> None:
        self.value = value

    def transform(self, results: dict) -> dict:
        results['img'] = results['img'].astype(np.float32)
        if results['img_path'].endswith('1.png'):
            results['img'][3, 4, 1] = self.value
        return results


@pytest.mark.parametrize('value', [math.nan, math.inf, -math.inf])
def test_an_image_that_is_not_finite_is_named(cfg, value):
    cfg['pipeline'].insert(1, dict(type='SpoilImage', value=value))
    with pytest.raises(UserError, match='images/1.png: the image is NaN or'):
        every_sample(cfg)


@pytest.mark.parametrize('lr', [1e6, 1e30])
def test_an_absurd_learning_rate(plain_config, lr):
    """The run stops, says where, and no checkpoint is bad."""
    plain_config.optim_wrapper.optimizer.lr = lr
    plain_config.default_hooks.checkpoint.interval = 1
    plain_config.train_cfg.max_iters = 3
    runner = build_runner(plain_config)
    learned = dict(runner.model.named_parameters())
    try:
        runner.train()
    except UserError as error:
        assert 'iteration' in str(error) and 'learning rate' in str(error)
    last = latest_checkpoint(runner.work_dir)
    if last:
        state = torch.load(last, weights_only=False)['state_dict']
        assert all(state[name].isfinite().all() for name in learned)


def test_a_batch_without_a_label(plain_config, teacher_hook, data_root,
                                 tmp_path):
    """Nothing counts: every loss is 0, and the weights stay finite."""
    shutil.copytree(data_root, tmp_path / 'data')
    for path in Path(tmp_path, 'data/train/labels').iterdir():
        path.write_bytes(encoded(np.full((64, 96), 255)))
    plain_config.train_dataloader.dataset.data_root = str(tmp_path / 'data')
    plain_config.train_cfg.max_iters = 1
    plain_config.custom_hooks = [teacher_hook, dict(type='KDHook')]
    runner = build_runner(plain_config)
    runner.train()
    scalars = runner.message_hub.log_scalars
    assert scalars['train/loss'].current() == 0
    assert all(w.isfinite().all() for w in runner.model.state_dict().values())
