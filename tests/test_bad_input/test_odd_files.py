"""Names, links, pictures and weights that nobody has in mind."""
import argparse
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import dataset
from PIL import Image

from seg_kd import cli
from seg_kd.analysis import ledger
from seg_kd.datasets import check_dataset
from seg_kd.datasets.unlabelled import files_in
from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import read_checkpoint
from seg_kd.networks.classes import class_names
from seg_kd.predict.sources import find
from seg_kd.registry import config_of_file

NOT_UTF8 = os.fsdecode(b'\xff\xfe.png')


@pytest.fixture
def data(data_root, tmp_path):
    shutil.copytree(data_root / 'train', tmp_path / 'train')
    return dataset(tmp_path, 'train', training=False)


@pytest.fixture
def images(tmp_path):
    return tmp_path / 'train/images'


@pytest.fixture
def labels(tmp_path):
    return tmp_path / 'train/labels'


ODD = [
    (lambda f: shutil.copy(f / '1.png', f / NOT_UTF8), 'not UTF-8'),
    (lambda f: os.mkfifo(f / 'x.png'), 'x.png is no file'),
    (lambda f: (f / 'x.png').symlink_to('gone'), 'x.png is no file'),
    (lambda f: (f / 'x.png').symlink_to('x.png'), 'x.png'),
]


@pytest.mark.filterwarnings('ignore:.*ScandirIterator')
@pytest.mark.parametrize('make, words', ODD)
def test_what_opencv_would_crash_at_or_wait_for(data, images, make, words):
    make(images)
    with pytest.raises(UserError, match=words):
        check_dataset(data)
    with pytest.raises(UserError, match=words):
        find([str(images)])
    path = next(images.glob('[!0-9]*.png'))
    with pytest.raises(UserError, match='no file|not UTF-8|does not exist'):
        find([str(path)])


def test_hidden_files_and_loops(images, data):
    (images / '._1.png').write_bytes(b'of a Mac')
    (images / 'inner').mkdir()
    (images / '.ipynb_checkpoints').mkdir()
    shutil.copy(images / '1.png', images / '.ipynb_checkpoints/1.png')
    shutil.copy(images / '1.png', images / 'inner/7.png')
    (images / 'inner/loop').symlink_to('..')
    names = [os.path.relpath(p, images)
             for p in files_in(str(images), ('.png', ))]  # yapf: disable
    assert names == [*(f'{i}.png' for i in range(6)), 'inner/7.png']


@pytest.mark.parametrize('name', ['1.PNG', '1.jpg'])
def test_a_label_that_is_called_nearly_so(data, labels, name):
    (labels / '1.png').rename(labels / name)
    with pytest.raises(UserError, match=f'1.png .there is {name}'):
        check_dataset(data)


def test_a_photo_that_is_turned_when_it_is_shown(data, images):
    photo = Image.fromarray(np.zeros((64, 96, 3), np.uint8))
    exif = photo.getexif()
    exif[0x112] = 6
    photo.save(images / '1.png', 'JPEG', exif=exif)
    with pytest.raises(UserError, match='labels/1.png: size .* EXIF'):
        check_dataset(data, full=True)


def test_a_label_of_parts(data, labels):
    Image.fromarray(np.full((64, 96), .5,
                            np.float32)).save(labels / '1.png', 'TIFF')
    with pytest.raises(UserError, match='labels/1.png: .* whole numbers'):
        check_dataset(data, full=True)


# -- weights ---------------------------------------------------------------

ONES = torch.ones(3, 3)
CONTENTS = [
    (dict(state_dict={0: ONES}), 'no names'),
    ({
        0: ONES
    }, 'no names'),
    (dict(state_dict=dict(a=ONES.to_sparse())), 'a is no plain tensor'),
    (dict(state_dict=dict(a=ONES + 1j)), 'a is no plain tensor'),
    (dict(state_dict=dict(a=ONES.to('meta'))), 'a is no plain tensor'),
    (dict(a=ONES.to_sparse()), 'a is no plain tensor'),
    (dict(state_dict=dict(a=ONES), meta=[1]), 'its meta is a list'),
]


@pytest.mark.parametrize('content, words', CONTENTS)
@pytest.mark.filterwarnings('ignore:.*sparse')
def test_what_no_training_saves(content, words, tmp_path):
    torch.save(content, tmp_path / 'w.pth')
    with pytest.raises(UserError, match=f'w.pth: .*{words}'):
        read_checkpoint(str(tmp_path / 'w.pth'))


@pytest.mark.parametrize('meta', [
    None, {},
    dict(dataset_meta=5),
    dict(dataset_meta=dict(classes=5)),
    dict(CLASSES='road')
])
def test_classes_that_are_none(meta):
    assert class_names(dict(meta=meta)) is None


# -- command lines ---------------------------------------------------------


@pytest.mark.parametrize('text', ['', 'a\0b', NOT_UTF8])
def test_what_names_no_folder(text):
    with pytest.raises(argparse.ArgumentTypeError, match='UTF-8'):
        cli.folder(text)


def test_a_config_that_leaves(tmp_path):
    (tmp_path / 'c.py').write_text('raise SystemExit(0)')
    with pytest.raises(UserError, match='c.py cannot be read: SystemExit'):
        config_of_file(str(tmp_path / 'c.py'))


@pytest.mark.filterwarnings('ignore:.*line 1 is left out')
def test_a_ledger_that_is_no_text(tmp_path):
    path = Path(tmp_path, 'l.jsonl')
    path.write_bytes(b'\xff\0')
    with pytest.raises(UserError, match='l.jsonl holds no run'):
        ledger.read(str(path))
