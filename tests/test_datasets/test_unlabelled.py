"""Images without labels: batches, pipelines, and what bad folders get."""
import itertools
import pickle

import cv2
import numpy as np
import pytest
from conftest import dataset as dataset_config
from mmengine.registry import init_default_scope

from seg_kd.datasets import SeededDataset, SeededSampler
from seg_kd.datasets.unlabelled import MixedSampler, WithUnlabelled, mix_in
from seg_kd.errors import UserError
from seg_kd.registry import DATASETS


@pytest.fixture(autouse=True)
def scope():
    init_default_scope('mmseg')


def labelled(data_root, **changes):
    return DATASETS.build({
        **dataset_config(data_root, 'train', training=True),
        **changes
    })


@pytest.fixture
def more(tmp_path):
    folder = tmp_path / 'more' / 'below'
    folder.mkdir(parents=True)
    for i in range(4):
        image = np.full((64, 96, 3), 20 * i, np.uint8)
        cv2.imwrite(str(folder / f'{i}.{"PNG" if i else "jpg"}'), image)
    (folder / 'notes.txt').write_text('no image')
    return tmp_path / 'more'


@pytest.fixture
def mixed(data_root, more):
    return WithUnlabelled(labelled(data_root), str(more))


def test_behind_the_labelled_come_the_others_without_a_label(mixed):
    assert len(mixed) == 6 + 4 and mixed.labelled == 6
    first, last = mixed[5]['data_samples'], mixed[9]['data_samples']
    assert first.get('unlabelled') is None
    assert (first.gt_sem_seg.data != 255).any()
    assert last.unlabelled is True and last.img_path.endswith('3.PNG')
    assert (last.gt_sem_seg.data == 255).all()
    assert last.gt_sem_seg.data.shape[1:] == mixed[9]['inputs'].shape[1:]


def test_a_pattern_in_place_of_a_folder(data_root, more):
    some = WithUnlabelled(labelled(data_root), str(more / '*' / '[12]*'))
    assert [path[-5:] for path in some.files] == ['1.PNG', '2.PNG']
    with pytest.raises(UserError, match='other.* is missing'):
        WithUnlabelled(labelled(data_root), str(more / 'other*'))


def test_labels_that_hold_other_ignored_values(data_root, more):
    base = labelled(data_root, ignore_index=7)
    sample = WithUnlabelled(base, str(more))[6]
    assert (sample['data_samples'].gt_sem_seg.data == 7).all()


def test_a_cache_of_decoded_images_holds_them_too(data_root, more):
    config = dataset_config(data_root, 'train', training=True)
    first, rest = config['pipeline'][:2], config['pipeline'][2:]
    base = labelled(data_root,
                    pipeline=[dict(type='Cached', transforms=first), *rest])
    mixed = WithUnlabelled(base, str(more))
    for _ in range(2):
        assert (mixed[7]['data_samples'].gt_sem_seg.data == 255).all()
        assert (mixed[0]['data_samples'].gt_sem_seg.data != 255).any()


def test_goes_to_a_loader_worker(mixed):
    copy = pickle.loads(pickle.dumps(SeededDataset(mixed)))
    assert copy[8, 3]['data_samples'].sample_idx == 8


def take(sampler, count):
    return list(itertools.islice(iter(sampler), count))


def at(sampler, rank, world_size):
    sampler.rank, sampler.world_size = rank, world_size
    sampler.indices = sampler._indices_of_rank()
    return sampler


@pytest.mark.parametrize('rank, world_size', [(0, 1), (0, 2), (1, 2)])
def test_the_labelled_are_drawn_as_they_are_alone(mixed, rank, world_size):
    alone = at(SeededSampler(mixed.dataset, seed=3), rank, world_size)
    both = at(MixedSampler(mixed, labelled=2, unlabelled=3, seed=3), rank,
              world_size)
    draws = take(both, 25)
    batches = [draws[i:i + 5] for i in range(0, 25, 5)]
    assert [d for b in batches for d in b[:2]] == take(alone, 10)
    others = [d for b in batches for d in b[2:]]
    assert all(6 <= index < 10 for index, _ in others)
    assert len({seed for _, seed in draws}) == 25


def test_every_unlabelled_image_once_in_a_round(mixed):
    draws = take(MixedSampler(mixed, labelled=1, unlabelled=2, seed=0), 6)
    found = sorted(i for i, _ in draws if i >= 6)
    assert found == [6, 7, 8, 9]


def test_a_resumed_run_draws_what_an_unbroken_one_does(mixed):
    options = dict(labelled=2, unlabelled=1, seed=5)
    resumed = MixedSampler(mixed, **options)
    resumed.skip(9)
    assert take(resumed, 6) == take(MixedSampler(mixed, **options), 15)[9:]


def test_folders_that_do_not_do(data_root, tmp_path):
    base = labelled(data_root)
    with pytest.raises(UserError, match='is missing'):
        WithUnlabelled(base, str(tmp_path / 'nowhere'))
    with pytest.raises(UserError, match='no image in'):
        WithUnlabelled(base, str(tmp_path))
    with pytest.raises(UserError, match='not a list'):
        WithUnlabelled([1], str(tmp_path))


@pytest.mark.parametrize('options, words', [
    (dict(img_path=''), "img_path is .*, not ''"),
    (dict(img_path=None), 'img_path is .*, not None'),
    (dict(img_path=['a', 'b']), 'img_path is a folder or a pattern'),
    (dict(suffixes=5), 'suffixes are endings .*, not 5'),
    (dict(suffixes=[]), 'suffixes are endings'),
    (dict(suffixes=['.png', 1]), 'suffixes are endings'),
    (dict(ratio=float('inf')), 'a ratio of inf'),
    (dict(ratio=float('nan')), 'a ratio of nan'),
])
def test_options_that_do_not_do(data_root, more, options, words):
    loader = dict(dataset=labelled(data_root),
                  batch_size=2,
                  sampler=dict(type='InfiniteSampler'),
                  unlabelled={
                      'img_path': str(more),
                      **options
                  })
    with pytest.raises(UserError, match=f'unlabelled: {words}'):
        mix_in(loader)


def test_what_a_pattern_finds_is_a_file(data_root, more):
    (more / 'below' / 'folder.png').mkdir()
    found = WithUnlabelled(labelled(data_root), f'{more}/*/*', '.PNG')
    assert len(found.files) == 3
    (more / 'below' / 'gone.png').symlink_to('nowhere')
    with pytest.raises(UserError, match='gone.png is no file'):
        WithUnlabelled(labelled(data_root), f'{more}/*/*')


def test_an_image_of_other_channels_is_named(data_root, tmp_path):
    cv2.imwrite(str(tmp_path / 'depth.png'), np.zeros((64, 96), np.uint16))
    config = dataset_config(data_root, 'train', training=True)
    config['pipeline'][0]['color_type'] = 'unchanged'
    mixed = WithUnlabelled(DATASETS.build(config), str(tmp_path))
    with pytest.raises(UserError, match='depth.png.*labels have 3 channels'):
        mixed[6]


def test_grey_images_go_with_grey_ones(data_root, more):
    config = dataset_config(data_root, 'train', training=False)
    config['pipeline'][0]['color_type'] = 'grayscale'
    mixed = WithUnlabelled(DATASETS.build(config), str(more))
    assert mixed[0]['inputs'].shape == mixed[6]['inputs'].shape == (1, 64, 96)


def test_images_of_the_labelled_set_are_said(data_root, caplog, monkeypatch):
    said = []
    monkeypatch.setattr('seg_kd.datasets.unlabelled.print_log',
                        lambda text, logger: said.append(text))
    WithUnlabelled(labelled(data_root), str(data_root / 'train' / 'images'))
    assert said and said[0].startswith('6 of 6 unlabelled images are in')
