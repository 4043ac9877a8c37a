"""Before a runner takes a data set: its classes, its errors, its draws."""
import cv2
import numpy as np
import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.dataset import DefaultSampler, InfiniteSampler
from mmseg.registry import DATASETS

from seg_kd.datasets import (CheckLabels, SeededDataset, SeededSampler,
                             check_files, make_ready, seed_draws)
from seg_kd.datasets.prepare.report import check_config
from seg_kd.datasets.seeded import SeededDraws
from seg_kd.engine.runner import DistillRunner
from seg_kd.errors import UserError

CLASSES = ('ground', 'blob')


@pytest.fixture
def root(tmp_path):
    rng = np.random.default_rng(0)
    for i in range(6):
        for kind, array in (('images', rng.integers(0, 256, (8, 12, 3))),
                            ('labels', np.zeros((8, 12)))):
            path = tmp_path / kind / f'{i}.png'
            path.parent.mkdir(exist_ok=True)
            cv2.imwrite(str(path), array.astype(np.uint8))
    return tmp_path


def config(root, *transforms, **changes):
    return ConfigDict(type='BaseSegDataset',
                      data_root=str(root),
                      metainfo=dict(classes=CLASSES),
                      data_prefix=dict(img_path='images',
                                       seg_map_path='labels'),
                      img_suffix='.png',
                      seg_map_suffix='.png',
                      pipeline=[
                          dict(type='LoadImageFromFile'),
                          dict(type='LoadAnnotations'), *transforms,
                          dict(type='PackSegInputs')
                      ],
                      _scope_='mmseg',
                      **changes)


def test_check_labels_learns_the_number_of_classes(root):
    check = dict(type='CheckLabels')
    nested = dict(type='Cached', transforms=[check])
    tta = dict(type='TestTimeAug', transforms=[[check], [check]])
    own = dict(type='CheckLabels', num_classes=7)
    dataset = make_ready(DATASETS.build(config(root, check, nested, tta, own)))
    first, cached, moved, last = dataset.pipeline.transforms[2:6]
    assert first.num_classes == 2
    assert cached.transforms.transforms[0].num_classes == 2
    assert all(t.num_classes == 2 for chain in moved.subroutines
               for t in chain.transforms if isinstance(t, CheckLabels))
    assert last.num_classes == 7
    cv2.imwrite(str(root / 'labels/0.png'), np.full((8, 12), 2, np.uint8))
    with pytest.raises(UserError, match='labels/0.png: label value 2'):
        dataset[0]


def test_half_a_jpeg_is_named(root):
    """OpenCV decodes it from a file, and not from memory."""
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3))
    cv2.imwrite(str(root / 'images/0.jpg'), noise.astype(np.uint8))
    whole = (root / 'images/0.jpg').read_bytes()
    (root / 'images/0.jpg').write_bytes(whole[:len(whole) // 2])
    (root / 'images/0.jpg').rename(root / 'images/0.png')
    dataset = make_ready(DATASETS.build(config(root)))
    with pytest.raises(UserError, match='images/0.png: not a readable image'):
        dataset[0]


def test_a_transform_of_ones_own_fails_as_it_does(root):
    dataset = make_ready(DATASETS.build(config(root)))
    dataset.pipeline.transforms.insert(0, lambda results: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        dataset[0]
    (root / 'images/0.png').write_bytes(b'junk')
    dataset.pipeline.transforms.pop(0)
    with pytest.raises(UserError, match='images/0.png: not a readable image'):
        dataset[0]


def loader(root, sampler, skip_epochs=0, **options):
    flip = dict(type='RandomFlip', prob=.5)
    cfg = ConfigDict(dataset=config(root, flip),
                     sampler=sampler,
                     batch_size=2,
                     collate_fn=dict(type='pseudo_collate'),
                     num_workers=0,
                     **options)
    made = DistillRunner.build_dataloader(cfg, seed=3)
    if hasattr(made.sampler, 'set_epoch'):
        made.sampler.set_epoch(skip_epochs)
    return made


def draws(made, count=6):
    images = [x for batch in made for x in batch['inputs']][:count]
    return torch.stack(images)


def test_every_draw_of_a_shuffling_sampler_has_a_seed(root):
    sampler = dict(type='DefaultSampler', shuffle=True)
    np.random.seed(0)
    first = draws(loader(root, sampler))
    np.random.seed(1)
    assert torch.equal(draws(loader(root, sampler)), first)
    # as many workers as one likes, and a later epoch by itself
    later = draws(loader(root, sampler, skip_epochs=2))
    assert not torch.equal(later, first)
    made = loader(root, sampler)
    for epoch in range(3):
        made.sampler.set_epoch(epoch)
        last = draws(made)
    assert torch.equal(last, later)


def test_a_sampler_as_a_class_is_seeded(root):
    for kind in (InfiniteSampler, 'InfiniteSampler'):
        made = loader(root, dict(type=kind, shuffle=True))
        assert type(made.sampler) is SeededSampler
        assert isinstance(made.dataset, SeededDataset)
    for kind in (DefaultSampler, 'DefaultSampler'):
        assert type(loader(root, dict(type=kind)).sampler) is SeededDraws


def test_what_draws_nothing_is_left_as_it_is(root):
    given = dict(dataset=DATASETS.build(config(root)),
                 sampler=dict(type='DefaultSampler', shuffle=False))
    assert seed_draws(given) == given
    toy = dict(dataset=torch.utils.data.TensorDataset(torch.zeros(3)),
               sampler=dict(type='DefaultSampler'))
    assert seed_draws(toy) == toy


def test_the_draws_of_ranks_are_those_of_one(root, monkeypatch):
    dataset = DATASETS.build(config(root))
    sampler = dict(type='DefaultSampler', shuffle=True)
    whole = list(SeededDraws(dataset, sampler, 3))
    parts = []
    for rank in (0, 1):
        for place in ('seg_kd.datasets.seeded', 'mmengine.dataset.sampler'):
            monkeypatch.setattr(f'{place}.get_dist_info', lambda: (rank, 2))
        parts.append(list(SeededDraws(dataset, sampler, 3)))
    assert [x for pair in zip(*parts) for x in pair] == whole


class Toy(torch.utils.data.Dataset):
    """Takes no arguments; not mmseg's."""
    metainfo: dict = {}

    def __len__(self):
        return 2

    def __getitem__(self, index):
        return index


def test_a_data_set_that_is_not_mmsegs_is_not_built_to_be_checked():
    check_files(dict(type=Toy))


# -- the thorough check ----------------------------------------------------


def test_check_by_metainfo_and_class(root, capsys):
    cfg = ConfigDict(train_dataloader=dict(dataset=config(root)))
    check_config(cfg)
    out = capsys.readouterr().out
    assert 'BaseSegDataset images: 6 images, 12x8, 1 of 2 classes' in out
    assert 'warning: no pixel anywhere is blob; labels are' in out
    cv2.imwrite(str(root / 'labels/0.png'), np.ones((8, 12), np.uint8))
    check_config(cfg)
    assert 'warning' not in capsys.readouterr().out


def test_check_without_any_classes(root, capsys):
    cfg = config(root)
    cfg.pop('metainfo')
    check_config(ConfigDict(train_dataloader=dict(dataset=cfg)))
    assert 'no classes named' in capsys.readouterr().out


def test_a_truncated_label_is_named_by_the_check(root):
    path = root / 'labels/3.png'
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match='labels/3.png'):
        check_config(ConfigDict(train_dataloader=dict(dataset=config(root))))


def test_floats_before_colours(root):
    moves = [dict(type='ColorJitter', p=1.)]
    dataset = DATASETS.build(
        config(root, dict(type='Albumentations', transforms=moves)))
    dataset.pipeline.transforms[0].to_float32 = True
    with pytest.raises(UserError, match='ColorJitter .*to_float32=True'):
        dataset[0]
    flips = DATASETS.build(
        config(
            root,
            dict(type='Albumentations',
                 transforms=[dict(type='HorizontalFlip', p=1.)])))
    flips.pipeline.transforms[0].to_float32 = True
    assert flips[0]['inputs'].max() > 1
