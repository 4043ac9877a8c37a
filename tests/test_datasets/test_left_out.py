"""Images that a data set does not take because of how they are called."""
import logging
import shutil
from pathlib import Path

import pytest
from conftest import dataset

from seg_kd.datasets import check_dataset
from seg_kd.errors import UserError


@pytest.fixture
def data(data_root, tmp_path):
    shutil.copytree(data_root / 'train', tmp_path / 'train')
    return dataset(tmp_path, 'train', training=False)


def rename(cfg, count: int, ending: str) -> None:
    for i in range(count):
        path = Path(cfg['data_root'], f'train/images/{i}.png')
        path.rename(path.with_suffix(ending))


def warned(caplog) -> list[str]:
    return [r.getMessage() for r in caplog.records
            if r.levelno == logging.WARNING]  # yapf: disable


@pytest.fixture
def log(caplog):
    from mmengine.logging import MMLogger
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield caplog
    logger.removeHandler(caplog.handler)


@pytest.mark.parametrize('ending', ['.PNG', '.jpg', '.JPEG', '.tif'])
def test_some_end_otherwise(data, log, ending):
    rename(data, 2, ending)
    for _ in range(2):  # said once, however often it is looked at
        assert check_dataset(data)['images'] == 4
    line, = warned(log)
    assert "4 images end in '.png'; 2 images there end otherwise" in line
    assert f'0{ending}' in line and '\n' not in line


def test_all_end_otherwise(data):
    rename(data, 6, '.PNG')
    with pytest.raises(UserError,
                       match="no image in .*/images ends in '.png'; 6 images "
                       'there end otherwise, such as 0.PNG; see img_suffix'):
        check_dataset(data)


def test_labels_beside_the_images_and_lists(data, log):
    folder = Path(data['data_root'], 'train/images')
    for path in Path(data['data_root'], 'train/labels').iterdir():
        path.rename(folder / f'{path.stem}_label.png')
    rename(data, 6, '.jpg')
    data.update(img_suffix='.jpg', seg_map_suffix='_label.png')
    data['data_prefix']['seg_map_path'] = 'train/images'
    assert check_dataset(data)['images'] == 6
    (folder / '0.jpg').rename(folder / '0.JPG')
    Path(data['data_root'], 'list.txt').write_text('1\n2\n')
    assert check_dataset(dict(data, ann_file='list.txt'))['images'] == 2
    assert warned(log) == []
