"""prepare_data: each layout in circulation, made by hand, known values."""
import io
import json
import sys
import tarfile
import zipfile

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from seg_kd import cli
from seg_kd.datasets.prepare import files
from seg_kd.datasets.prepare.camvid import COLOURS, split_of


@pytest.fixture
def ok():

    def run(*args):
        assert cli.main(['prepare-data', *map(str, args)]) == 0

    return run


@pytest.fixture
def fails(capsys):

    def run(*args):
        assert cli.main(['prepare-data', *map(str, args)]) == 2
        line = capsys.readouterr().err.strip().splitlines()[-1]
        assert line.startswith('error: ')
        return line

    return run


def put(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.asarray(array, np.uint8)
    Image.fromarray(array).save(path)
    return path


def read(path):
    return np.array(Image.open(path)).tolist()


def snapshot(root):
    return {
        p: (p.read_bytes(), p.stat().st_mtime_ns)
        for p in root.rglob('*') if p.is_file()
    }


def zipped(folder, path):
    with zipfile.ZipFile(path, 'w') as archive:
        for file in sorted(folder.rglob('*')):
            archive.write(file, file.relative_to(folder))
    return path


# --- Cityscapes --------------------------------------------------------------
IDS = [[7, 8, 11, 0], [26, 33, 1, 29]]  # 29 is a caravan: not scored
TRAIN_IDS = [[0, 1, 2, 255], [13, 18, 255, 255]]


@pytest.fixture
def cityscapes(tmp_path):
    root = tmp_path / 'download'
    for split in ('train', 'val', 'test'):
        stem = f'{split}/ulm/ulm_000000_000019'
        put(root / f'leftImg8bit/{stem}_leftImg8bit.png', np.zeros((2, 4, 3)))
        put(root / f'gtFine/{stem}_gtFine_labelIds.png', IDS)
    return root


LABEL = 'gtFine/val/ulm/ulm_000000_000019_gtFine_labelTrainIds.png'


def test_cityscapes_folder_in_place(cityscapes, ok):
    ok('cityscapes', '--out', cityscapes)
    assert read(cityscapes / LABEL) == TRAIN_IDS
    assert not list(cityscapes.glob('gtFine/test/*/*TrainIds.png'))
    before = snapshot(cityscapes)
    ok('cityscapes', '--out', cityscapes)
    assert snapshot(cityscapes) == before


def test_cityscapes_zips(cityscapes, tmp_path, ok, fails):
    out = tmp_path / 'out'
    ok('cityscapes', zipped(cityscapes, tmp_path / 'all.zip'), '--out', out)
    assert read(out / LABEL) == TRAIN_IDS
    assert (out / 'leftImg8bit/train/ulm').is_dir()
    text = fails('check', 'cityscapes', '--root', out)
    assert 'train has 1 images, not 2975' in text


def test_cityscapes_polygons(cityscapes, ok, fails):
    folder = cityscapes / 'gtFine/val/ulm'
    (folder / 'ulm_000000_000019_gtFine_labelIds.png').unlink()
    left = dict(label='road', polygon=[[0, 0], [1, 0], [1, 1], [0, 1]])
    right = dict(label='cargroup', polygon=[[2, 0], [3, 0], [3, 1], [2, 1]])
    path = folder / 'ulm_000000_000019_gtFine_polygons.json'
    content = dict(imgWidth=4, imgHeight=2, objects=[left, right])
    path.write_text(json.dumps(content))
    ok('cityscapes', '--out', cityscapes)
    assert read(cityscapes / LABEL) == [[0, 0, 13, 13]] * 2
    (cityscapes / LABEL).unlink()
    left['label'] = 'dragon'
    path.write_text(json.dumps(content))
    assert 'dragon' in fails('cityscapes', '--out', cityscapes)


def test_cityscapes_wrong_source(tmp_path, fails):
    assert 'no leftImg8bit' in fails('cityscapes', tmp_path)
    assert 'does not exist' in fails('cityscapes', tmp_path / 'no.zip')
    (tmp_path / 'half.zip').write_bytes(b'PK\3\4 cut off')
    assert 'cut off' in fails('cityscapes', tmp_path / 'half.zip')


def test_cityscapes_without_its_scripts(tmp_path, fails, monkeypatch):
    monkeypatch.delitem(sys.modules,
                        'seg_kd.datasets.prepare.cityscapes',
                        raising=False)
    monkeypatch.setitem(sys.modules, 'cityscapesscripts.helpers.labels', None)
    assert 'pip install cityscapesscripts' in fails('cityscapes', tmp_path)


# --- VOC ---------------------------------------------------------------------
@pytest.fixture
def voc(tmp_path):
    """VOC: a, b train, c val. SBD: a, d train, c, e val."""
    root = tmp_path / 'VOCdevkit' / 'VOC2012'
    for stem in 'abcde':
        put(root / f'JPEGImages/{stem}.jpg', np.zeros((2, 3, 3)))
    for number, stem in enumerate('abc'):
        palette = Image.fromarray(np.full((2, 3), number, np.uint8))
        palette.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
        (root / 'SegmentationClass').mkdir(exist_ok=True)
        palette.save(root / f'SegmentationClass/{stem}.png')
    lists = root / 'ImageSets/Segmentation'
    lists.mkdir(parents=True)
    (lists / 'train.txt').write_text('a\nb\n')
    (lists / 'val.txt').write_text('c\n')
    return root


@pytest.fixture
def sbd(tmp_path):
    root = tmp_path / 'benchmark_RELEASE' / 'dataset'
    (root / 'cls').mkdir(parents=True)
    for stem in 'acde':
        label = np.array([[20, 0, 255], [1, 2, 3]], np.uint8)
        savemat(root / f'cls/{stem}.mat', dict(GTcls=dict(Segmentation=label)))
    (root / 'train.txt').write_text('a\nd\n')
    (root / 'val.txt').write_text('c\ne\n')
    return root.parent


def tarred(folder, path):
    with tarfile.open(path, 'w:gz') as archive:
        archive.add(folder, folder.name)
    return path


def check_voc(root):
    labels = root / 'SegmentationClassAug'
    assert sorted(p.stem for p in labels.iterdir()) == list('abcde')
    for number, stem in enumerate('abc'):  # VOC's own win
        assert read(labels / f'{stem}.png') == [[number] * 3] * 2
    assert read(labels / 'd.png') == [[20, 0, 255], [1, 2, 3]]
    lists = root / 'ImageSets/Segmentation'
    assert (lists / 'trainaug.txt').read_text().split() == list('abde')
    assert (lists / 'aug.txt').read_text().split() == list('de')


def test_voc_in_place(voc, sbd, ok, fails):
    ok('voc', voc, sbd, '--out', voc)
    check_voc(voc)
    before = snapshot(voc)
    ok('voc', voc, sbd, '--out', voc)
    assert snapshot(voc) == before
    assert 'trainaug has 4 images' in fails('check', 'voc', '--root', voc)


def test_voc_archives(voc, sbd, tmp_path, ok):
    out = tmp_path / 'data/VOCdevkit/VOC2012'
    ok('voc', tarred(voc.parent, tmp_path / 'voc.tar'),
       tarred(sbd, tmp_path / 'benchmark.tgz'), '--out', out)
    check_voc(out)
    assert len(list((out / 'JPEGImages').iterdir())) == 5


def test_voc_errors_keep_what_the_user_has(voc, sbd, fails):
    mine = voc / 'ImageSets/Segmentation/trainaug.txt'
    mine.write_text('mine\n')
    assert 'trainaug.txt' in fails('voc', voc, sbd, '--out', voc)
    assert mine.read_text() == 'mine\n'
    assert 'benchmark.tgz' in fails('voc', voc, voc, '--out', voc)


# --- CamVid ------------------------------------------------------------------
def check_camvid(root, split='train', expected=((0, 10, 255), )):
    label, = (root / 'labels' / split).iterdir()
    assert read(label) == [list(row) for row in expected]
    image, = (root / 'images' / split).iterdir()
    assert image.stem == label.stem


def test_camvid_segnet(tmp_path, ok, fails):
    for split in ('train', 'val'):
        put(tmp_path / f'in/{split}/x.png', np.zeros((1, 3, 3)))
        put(tmp_path / f'in/{split}annot/x.png', [[0, 10, 11]])
    out = tmp_path / 'out'
    ok('camvid', tmp_path / 'in', '--out', out)
    check_camvid(out)
    before = snapshot(out)
    ok('camvid', tmp_path / 'in', '--out', out)
    assert snapshot(out) == before
    assert 'train has 1 images, not 367' in fails('check', 'camvid', '--root',
                                                  out)


SKY_BICYCLIST_VOID = [[(128, 128, 128), (0, 128, 192), (0, 0, 0)]]


def test_camvid_kaggle(tmp_path, ok):
    put(tmp_path / 'in/train/x.png', np.zeros((1, 3, 3)))
    put(tmp_path / 'in/train_labels/x_L.png', SKY_BICYCLIST_VOID)
    ok('camvid', tmp_path / 'in', '--out', tmp_path / 'out')
    check_camvid(tmp_path / 'out')


@pytest.mark.parametrize('lists', [False, True])
def test_camvid_cambridge(tmp_path, ok, lists):
    frames = dict(train='0016E5_07960', val='0016E5_07961', test='Seq05VD_f1')
    raw = tmp_path / 'in/701_StillsRaw_full/701_StillsRaw_full'
    approved = tmp_path / 'in/LabeledApproved_full'
    for stem in frames.values():
        put(raw / f'{stem}.png', np.zeros((1, 3, 3)))
        put(approved / f'{stem}_L.png', SKY_BICYCLIST_VOID)
    if lists:
        frames = dict(val=frames['train'])
        (tmp_path /
         'in/val.txt').write_text(f'/some/where/{frames["val"]}.png /x.png\n')
    out = tmp_path / 'out'
    ok('camvid', tmp_path / 'in', '--out', out)
    for split, stem in frames.items():
        check_camvid(out, split)
        assert (out / f'images/{split}/{stem}.png').is_file()
    assert len(list(out.rglob('*.png'))) == 2 * len(frames)


def test_camvid_own_layout(tmp_path, ok):
    put(tmp_path / 'in/images/train/x.jpg', np.zeros((1, 3, 3)))
    put(tmp_path / 'in/labels/train/x.png', [[0, 10, 255]])
    ok('camvid', tmp_path / 'in', '--out', tmp_path / 'out')
    check_camvid(tmp_path / 'out')


def test_camvid_errors(tmp_path, fails):
    assert 'known layouts' in fails('camvid', tmp_path)
    put(tmp_path / 'train/x.png', np.zeros((1, 3, 3)))
    (tmp_path / 'trainannot').mkdir()
    out = '--out', tmp_path / 'out'
    assert 'no label' in fails('camvid', tmp_path, *out)
    put(tmp_path / 'trainannot/x.png', [[0, 12, 1]])
    assert '[12]' in fails('camvid', tmp_path, *out)
    put(tmp_path / 'trainannot/x.png', [[(1, 2, 3)] * 3])
    assert '(1, 2, 3)' in fails('camvid', tmp_path, *out)


def test_camvid_has_32_colours_and_segnets_split():
    colours = [c for group in COLOURS.values() for c in group]
    assert len(colours) == 32 == len(set(colours))
    splits = [
        split_of(stem, {})
        for stem in ('0001TP_008520', '0001TP_008550', '0006R0_f00930')
    ]
    assert splits == ['train', 'test', 'train']


# --- synthetic, and files in general -----------------------------------------
def test_synthetic(tmp_path, ok, fails, capsys):
    small = ('--train', 2, '--val', 1, '--extra', 1, '--size', '64x32',
             '--out')
    out = tmp_path / 'synthetic'
    ok('synthetic', *small, out)
    before = snapshot(out)
    image = next(out.glob('leftImg8bit/train/*/*_leftImg8bit.png'))
    assert cv2.imread(str(image)).shape == (32, 64, 3)
    image.unlink()  # as after a kill
    ok('synthetic', *small, out)
    assert {
        p: c
        for p, (c, _) in snapshot(out).items()
    } == {
        p: c
        for p, (c, _) in before.items()
    }
    ok('check', 'synthetic', '--root', out)
    assert 'synthetic train: 2 images, 64x32' in capsys.readouterr().out
    assert 'other scenes' in fails('synthetic', *small, out, '--seed', 1)
    (tmp_path / 'mine').write_text('')
    assert 'not empty' in fails('synthetic', *small, tmp_path)
    assert 'positive' in fails('synthetic', '--train', 0, '--out',
                               tmp_path / 'no')


def test_damaged_file_is_reported_and_kept(tmp_path, ok, fails):
    small = ('synthetic', '--train', 1, '--val', 1, '--extra', 1, '--size',
             '64x32', '--out')
    ok(*small, tmp_path / 's')
    image = next(tmp_path.glob('s/leftImg8bit/val/*/*.png'))
    image.write_bytes(image.read_bytes()[:-9])
    assert 'is damaged' in fails(*small, tmp_path / 's')


def test_check_of_a_config_file(tmp_path, ok, fails, capsys):
    for kind in ('images', 'labels'):
        put(tmp_path / f'{kind}/train/x.png', np.zeros((2, 3)))
    config = tmp_path / 'config.py'
    config.write_text(
        'train_dataloader = dict(dataset=dict(type="CamVidDataset", '
        f'data_root={str(tmp_path)!r}, data_prefix=dict('
        'img_path="images/train", seg_map_path="labels/train")))')
    ok('check', config)
    assert 'images/train: 1 images, 3x2' in capsys.readouterr().out
    (tmp_path / 'train.txt').write_text('x')
    config.write_text(config.read_text().replace(
        'data_prefix', 'ann_file="train.txt", data_prefix'))
    ok('check', config)
    assert 'images/train train.txt: 1 images' in capsys.readouterr().out
    assert 'neither a config' in fails('check', 'nothing')
    (tmp_path / 'empty.py').write_text('model = None')
    assert 'names no data set' in fails('check', tmp_path / 'empty.py')


def test_check_of_a_class_of_the_users_own(tmp_path, ok, capsys, monkeypatch):
    """Found in this folder; not derived from MMSegmentation's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'path', [p for p in sys.path if p])
    (tmp_path / 'set_of_mine.py').write_text(
        'from seg_kd.registry import DATASETS\n'
        '@DATASETS.register_module()\n'
        'class SetOfMine(list):\n    pass\n')
    (tmp_path / 'config.py').write_text(
        'custom_imports = dict(imports=["set_of_mine"])\n'
        'root = "."\n'
        'train_dataloader = dict(dataset=dict(type="SetOfMine", '
        'data_root="config:root"))')
    ok('check', 'config.py')
    assert 'SetOfMine: its folders are there' in capsys.readouterr().out


def test_write_leaves_no_half_file(tmp_path, monkeypatch):

    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files.os, 'replace', fail)
    with pytest.raises(KeyboardInterrupt):
        files.write(tmp_path / 'x.png', b'x')
    assert not list(tmp_path.iterdir())


def test_entries_may_not_leave_the_folder(tmp_path, fails):
    with tarfile.open(tmp_path / 'bad.tar', 'w') as archive:
        info = tarfile.TarInfo('gtFine/../../x.png')
        archive.addfile(info, io.BytesIO(b''))
    assert 'leaves' in fails('cityscapes', tmp_path / 'bad.tar')
