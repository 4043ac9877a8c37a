"""Bad data folders and labels: each gets its own clear line."""
import cv2
import numpy as np
import pytest
from mmengine.config import ConfigDict
from mmseg.registry import DATASETS

from seg_kd.datasets import CheckLabels, check_dataset, check_files
from seg_kd.datasets.check import dataset_configs
from seg_kd.datasets.sources import SOURCES, split_config
from seg_kd.errors import UserError


@pytest.fixture
def root(tmp_path):
    for split in ('train', 'val'):
        for i in range(3):
            put(tmp_path / f'images/{split}/{i}.png', np.zeros((4, 6, 3)))
            put(tmp_path / f'labels/{split}/{i}.png', np.full((4, 6), i))
    return tmp_path


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.asarray(array, np.uint8))


def cfg(root, split='train'):
    return split_config('camvid', split, str(root))


def message(call, *args, **kwargs):
    with pytest.raises(UserError) as error:
        call(*args, **kwargs)
    assert '\n' not in str(error.value)
    return str(error.value)


def test_sound_data_pass_and_are_counted(root):
    assert check_dataset(cfg(root)) == dict(images=3)
    report = check_dataset(cfg(root), full=True)
    assert report['sizes'] == {(6, 4): 3}
    assert report['pixels'][:4].tolist() == [24, 24, 24, 0]


@pytest.mark.parametrize('kind', SOURCES)
def test_missing_folder_says_how_to_get_it(kind, tmp_path):
    text = message(check_dataset,
                   split_config(kind, 'val', str(tmp_path / kind)))
    assert f'prepare-data {kind}' in text and str(tmp_path) in text
    assert ('make demo' in text) == (kind == 'cityscapes')


def test_missing_split_and_list(root):
    assert 'images/test is missing' in message(check_dataset,
                                               cfg(root, 'test'))
    listed = dict(cfg(root), ann_file='no.txt')
    assert 'no.txt is missing' in message(check_dataset, listed)


def test_missing_labels_may_be_left_out(root):
    unlabelled = dict(cfg(root))
    unlabelled['data_prefix'] = dict(img_path='images/train',
                                     seg_map_path='nowhere')
    assert 'set data_prefix.seg_map_path=' in message(check_dataset,
                                                      unlabelled)


def test_names_that_do_not_fit(root):
    own = dict(cfg(root), type='BaseSegDataset', img_suffix='.jpeg')
    text = message(check_dataset, own)
    assert 'no image in' in text and 'img_suffix' in text
    own.update(img_suffix='.png', seg_map_suffix='_mask.png')
    text = message(check_dataset, own)
    assert '0_mask.png' in text and 'seg_map_suffix' in text
    own['metainfo'] = dict(classes=('a', 'b'), palette=[[0, 0, 0]])
    assert 'palette does not match classes' in message(check_dataset, own)


def test_empty_split(root):
    (root / 'images/test').mkdir()
    (root / 'labels/test').mkdir()
    assert 'no image in' in message(check_dataset, cfg(root, 'test'))


def test_image_without_label_is_named(root):
    (root / 'labels/train/1.png').unlink()
    text = message(check_dataset, cfg(root))
    assert '1 of 3' in text and 'labels/train/1.png' in text


@pytest.mark.parametrize('label, expected', [
    (np.full((4, 6), 11), 'label value 11 outside 0 to 10'),
    (np.full((3, 6), 1), 'size (6, 3) differs'),
    (np.zeros((4, 6, 3)), 'one channel'),
    (np.full((4, 6), 11), 'reduce_zero_label=True'),
])
def test_full_check_names_file_and_problem(root, label, expected):
    put(root / 'labels/train/2.png', label)
    check_dataset(cfg(root))  # the quick one does not open files
    text = message(check_dataset, cfg(root), full=True)
    assert expected in text and 'labels/train/2.png' in text


def test_full_check_finds_cut_off_files(root):
    for name in ('labels/train/2.png', 'images/train/2.png'):
        path = root / name
        path.write_bytes(path.read_bytes()[:40])
        assert name in message(check_dataset, cfg(root), full=True)


def test_wrapped_datasets_are_checked(root):
    both = dict(type='ConcatDataset', datasets=[cfg(root), cfg(root, 'val')])
    wrapped = ConfigDict(type='RepeatDataset', times=2, dataset=both)
    check_files(wrapped)
    (root / 'labels/val/0.png').unlink()
    assert 'labels/val/0.png' in message(check_files, wrapped)
    wrapped.dataset.datasets[0].data_root = 'nowhere'
    assert 'nowhere' in message(check_files, wrapped)


def test_config_names_each_dataset_once(root):
    loaders = dict(train_dataloader=dict(dataset=cfg(root)),
                   val_dataloader=dict(dataset=cfg(root, 'val')),
                   test_dataloader=dict(dataset=cfg(root, 'val')))
    assert dataset_configs(loaders) == [cfg(root), cfg(root, 'val')]
    assert dataset_configs(dict(loaders,
                                train_dataloader=None)) == [cfg(root, 'val')]


def results(label, shape=(4, 6)):
    return dict(gt_seg_map=np.asarray(label, np.uint8),
                ori_shape=shape,
                seg_map_path='x/y.png')


def test_labels_met_in_training_are_checked():
    check = CheckLabels(num_classes=3)
    label = np.array([[0, 1, 2, 255, 0, 0]] * 4)
    assert check(results(label))['gt_seg_map'].max() == 255
    label[0, :2] = 3, 254
    text = message(check, results(label))
    assert text.startswith('x/y.png: label value 3, 254 outside 0 to 2')
    assert 'size' in message(check, results(label[:2]))


def test_without_a_label():
    """Inference has none; a sample of a data set must have been loaded."""
    check = CheckLabels(num_classes=3)
    assert check(dict(img_path='x.png')) == dict(img_path='x.png')
    unread = dict(seg_map_path='x/y.png', img_path='x.png')
    assert 'x/y.png: the label was not loaded' in message(check, unread)


def test_training_without_labels_stops_where_they_are_loaded(root):
    unlabelled = dict(cfg(root), data_prefix=dict(img_path='images/train'))
    unlabelled['pipeline'] = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='CheckLabels', num_classes=11)
    ]
    dataset = DATASETS.build(dict(unlabelled, _scope_='mmseg'))
    with pytest.raises(KeyError, match='seg_map_path'):
        dataset[0]
