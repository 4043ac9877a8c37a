"""Every shipped config is built, and each of its stages takes one step.

On images of 64x96 (LR-ASPP pools 49 x 49 windows at stride 8 and needs 400),
with random teachers in place of the model zoo's, and no download. KA has these
in their full size, the other methods a thin network of the same layers.
"""
import ast
import importlib.util
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import forget_instances, student
from mmengine.config import Config, ConfigDict
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model, init_model

from seg_kd import shipped
from seg_kd.analysis.comparison import ALONE, Comparison, combine, methods
from seg_kd.cli import main
from seg_kd.engine.folds import choose_fold
from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.stages import named_stages, run_stages, stage_configs
from seg_kd.errors import UserError
from seg_kd.registry import MODELS
from seg_kd.teacher.build import teacher_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(ROOT.glob('configs/*.py'))
DATA = sorted(ROOT.glob('configs/_base_/datasets/*.py'))
METHODS = {
    'ab', 'at', 'cckd', 'crd', 'dist', 'fitnet', 'fsp', 'ft', 'hnd', 'ickd',
    'ka', 'kd', 'logit_std', 'pad', 'pkt', 'reviewkd', 'rkd', 'sp', 'srd',
    'vid', 'cwd', 'balanced', 'recipe'
}
LAYOUTS = {  # image, label
    'CityscapesDataset': ('leftImg8bit/{0}/a/{1}_leftImg8bit.png',
                          'gtFine/{0}/a/{1}_gtFine_labelTrainIds.png'),
    'PascalVOCDataset':
    ('JPEGImages/{0}{1}.jpg', 'SegmentationClassAug/{0}{1}.png'),
    'CamVidDataset': ('images/{0}/{1}.jpg', 'labels/{0}/{1}.png')
}


def test_there_are_configs():
    names = {path.stem for path in CONFIGS}
    assert {
        'ka_deeplab', 'ka_pspnet', 'ka_deeplab_voc', 'ka_deeplab_camvid',
        'student_deeplab', 'student_deeplab_voc', 'student_deeplab_camvid'
    } <= names
    assert set(methods()) == METHODS
    assert {f'{name}_deeplab' for name in METHODS} <= names
    assert names == set(shipped.names())


def bases(path: Path) -> list:
    """What ``_base_`` of a config names; the only thing in it, or fails."""
    (only, ) = ast.parse(path.read_text()).body
    assert only.targets[0].id == '_base_'
    found = ast.literal_eval(only.value)
    return found if isinstance(found, list) else [found]


@pytest.mark.parametrize('path', [
    path for path in CONFIGS
    if not path.stem.startswith(('teacher_', 'student_mobilenet'))
],
                         ids=lambda path: path.stem)
def test_a_leaf_is_an_experiment_and_a_method(path):
    experiment, *method = bases(path)
    assert experiment.startswith('_base_/experiments/')
    if path.stem.startswith('student_'):
        assert not method
    else:
        assert len(method) == 1 and method[0].startswith('_base_/methods/')


def test_no_six_lines_stand_twice():
    seen = defaultdict(set)
    for path in sorted(ROOT.glob('configs/**/*.py')):
        lines = [line.strip() for line in path.read_text().splitlines()]
        lines = [x for x in lines if x.strip('()[]{},') and x[0] != '#']
        for i in range(len(lines) - 5):
            seen['\n'.join(lines[i:i + 6])].add((path.stem, i))
    assert len(seen) > 100
    assert [text for text, places in seen.items() if len(places) > 1] == []


def draw(root: Path, kind: str, classes: int, size, recorded=False) -> None:
    """Two images to train on, one to validate."""
    rng = np.random.default_rng(0)
    for split, number in (('train', 0), ('train', 1), ('val', 0)):
        if recorded:
            number = {
                'train': '0016E5_',
                'val': '0006R0_'
            }[split] + f'{number}'
        for name, shape, high in zip(LAYOUTS[kind], ((*size, 3), size),
                                     (256, classes)):
            path = root / name.format(split, number)
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), rng.integers(0, high, shape, np.uint8))
        if kind == 'PascalVOCDataset':
            lists = root / 'ImageSets/Segmentation'
            lists.mkdir(parents=True, exist_ok=True)
            name = 'trainaug' if split == 'train' else 'val'
            with open(lists / f'{name}.txt', 'a') as f:
                f.write(f'{split}{number}\n')


def shrink(cfg: Config, root: Path, size) -> None:
    """The same experiment on tiny crops, two images a batch, one step."""
    recorded = 'recordings' in cfg.train_dataloader.dataset
    draw(root, cfg.train_dataloader.dataset.type, cfg.num_classes, size,
         recorded)
    cfg.crop_size = size
    cfg.model.data_preprocessor.size = size
    cfg.data_preprocessor.size = size
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    cfg.model.backbone.init_cfg = None
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(root)
    if recorded:
        cfg.train_dataloader.dataset.recordings = ['0016E5']
        cfg.val_dataloader.dataset.recordings = ['0006R0']
    cfg.train_dataloader.batch_size = 2
    if cfg.train_dataloader.get('unlabelled'):
        cfg.train_dataloader.unlabelled.img_path = 'leftImg8bit/train'
    for changes in named_stages(cfg).values():
        if 'train_cfg' in changes:
            changes['train_cfg']['max_iters'] = 1


@pytest.fixture(scope='module')
def random_teacher(tmp_path_factory):
    """A checkpoint for a TeacherHook, made once for each model."""
    made = {}

    def make(model) -> str:
        if str(model) not in made:
            config, _ = teacher_config(model, 'none yet')
            init_default_scope('mmseg')
            path = tmp_path_factory.mktemp('teacher') / 'random.pth'
            torch.save(MODELS.build(config).state_dict(), path)
            made[str(model)] = str(path)
        return made[str(model)]

    return make


def thin(name: str) -> ConfigDict:
    """A teacher of the model zoo with an eighth of its channels."""
    config, _ = teacher_config(name, 'none yet')
    config.backbone.update(depth=50, base_channels=8)
    for head in (config.decode_head, config.auxiliary_head):
        for key in ('in_channels', 'channels', 'c1_in_channels'):
            if key in head:
                head[key] //= 8
    return config


@pytest.fixture(autouse=True)
def in_an_empty_folder(monkeypatch, tmp_path):
    (tmp_path / 'empty').mkdir()
    monkeypatch.chdir(tmp_path / 'empty')


def step(cfg, name, folder, random_teacher, size=(64, 96)):
    """Every stage takes one step: their names, and the last state."""
    if importlib.util.find_spec('efficientnet_lite_pytorch') is None:
        if 'camvid' in name and 'student' not in name:
            pytest.skip("needs the teacher of pip install 'seg_kd[teacher]'")
    forget_instances()
    shrink(cfg, folder / 'data', size)
    if cfg.get('custom_hooks') or cfg.get('changes'):
        model = cfg.teacher.model
        if model.startswith('mmseg::') and not name.startswith('ka_'):
            cfg.teacher.model = thin(model)
        cfg.teacher.checkpoint = random_teacher(cfg.teacher.model)
    run_stages(cfg, str(folder / 'work'))
    stages = list(named_stages(cfg))
    for stage in stages or ['']:
        state = torch.load(latest_checkpoint(str(folder / 'work' / stage)),
                           weights_only=False)['state_dict']
        assert all(value.isfinite().all() for value in state.values())
        alone = stage in ('translator', 'paraphraser')
        assert alone or 'decode_head.conv_seg.weight' in state
    return stages, state


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.filterwarnings('ignore:In MMCV v1.4.4')
@pytest.mark.parametrize('name', [path.stem for path in CONFIGS])
def test_one_step(name, tmp_path, random_teacher):
    size = (400, 416) if 'lraspp' in name else (64, 96)
    cfg = Config.fromfile(shipped.find(name))
    stages, state = step(cfg, name, tmp_path, random_teacher, size)
    if name.startswith('ka_'):
        first = ['features'] if 'camvid' in name else []
        assert stages == [*first, 'translator', 'distill']
        assert any(key.startswith('distill.ka.translator') for key in state)


@pytest.mark.parametrize('method, data',
                         [(name, 'synthetic')
                          for name in (ALONE, *sorted(METHODS))] +
                         [(name, 'camvid')
                          for name in ('ka', 'fitnet', 'hnd')])
def test_on_other_data(method, data, tmp_path, random_teacher):
    """All that changes is the one base that brings the data.

    What the methods merge to on CamVid is in test_comparison.py.
    """
    step(combine(method, data), f'{method} {data}', tmp_path, random_teacher)


@pytest.mark.parametrize('data', DATA, ids=lambda path: path.stem)
@pytest.mark.parametrize('loaded', [True, False])
def test_mmsegs_own_inference(tmp_path, data, loaded):
    """On an image alone: no label, no data set."""
    cfg = Config.fromfile(data)
    cfg.model = student()
    cfg.default_scope = 'mmseg'
    image = np.zeros((64, 96, 3), np.uint8)
    if not loaded:
        cv2.imwrite(str(tmp_path / 'image.png'), image)
        image = str(tmp_path / 'image.png')
    found = inference_model(init_model(cfg, None, device='cpu'), image)
    assert found.pred_sem_seg.shape == (64, 96)


# -- what a user adds ------------------------------------------------------

BLOBS = '''
"""Blobs: a data set of a user's own."""
from mmseg.datasets import BaseSegDataset
from seg_kd.registry import DATASETS


@DATASETS.register_module()
class BlobsDataset(BaseSegDataset):
    METAINFO = dict(classes=('ground', 'blob', 'sky'),
                    palette=[[0, 0, 0], [9, 9, 9], [99, 99, 99]])

    def __init__(self, **kwargs):
        super().__init__(img_suffix='.png', seg_map_suffix='.png', **kwargs)
'''
BLOBS_BASE = '''
_base_ = 'seg_kd::_base_/datasets/standard.py'

num_classes = 3
crop_size = (32, 48)
data_preprocessor = dict(size=crop_size)
files = dict(type='BlobsDataset', data_root='blobs')
train_dataloader = dict(batch_size=2, dataset=dict(
    data_prefix=dict(img_path='train', seg_map_path='train_labels'), **files))
val_dataloader = dict(dataset=dict(
    data_prefix=dict(img_path='val', seg_map_path='val_labels'), **files))
test_dataloader = val_dataloader
'''
EXPERIMENT = '''
_base_ = [{student}, 'seg_kd::_base_/teachers/synthetic.py', {data},
          'seg_kd::_base_/schedules/synthetic.py']

model = dict(data_preprocessor={{{{_base_.data_preprocessor}}}},
             decode_head=dict(num_classes={{{{_base_.num_classes}}}}))
'''
SMALL = "'seg_kd::_base_/students/mobilenetv2_s16_half.py'"
TINY = '''
_base_ = 'seg_kd::_base_/students/mobilenetv2_s16_half.py'

model = dict(backbone=dict(widen_factor=.25),
             decode_head=dict(in_channels=80, channels=80))
'''
NEAR = '''
"""Near: a method of a user's own."""
from torch import nn
from seg_kd.hooks import DistillHook
from seg_kd.registry import HOOKS


class NearLoss(nn.Module):

    def forward(self, student, teacher, mask=None):
        return (student.mean() - teacher.mean()).square()


@HOOKS.register_module()
class NearHook(DistillHook):
    loss_cls = NearLoss
'''
NEAR_BASE = """
taps = dict(student='backbone[3]', teacher='backbone[3]')
custom_hooks = dict(NearHook=taps)
"""


def write(**files) -> None:
    for name, text in files.items():
        Path(f'{name}.py').write_text(text)


@pytest.fixture
def mine(monkeypatch):
    """Modules of this folder can be imported, once."""
    monkeypatch.syspath_prepend('.')
    yield
    for name in ('blobs', 'near'):
        sys.modules.pop(name, None)


def test_a_data_set_is_a_class_and_one_base(mine, random_teacher):
    rng = np.random.default_rng(0)
    for folder, high in (('train', 255), ('val', 255), ('train_labels', 3),
                         ('val_labels', 3)):
        Path('blobs', folder).mkdir(parents=True)
        for i in range(2):
            shape = (64, 96, 3) if high == 255 else (64, 96)
            cv2.imwrite(f'blobs/{folder}/{i}.png',
                        rng.integers(0, high, shape, np.uint8))
    imports = "custom_imports = dict(imports=['seg_kd.register', 'blobs'])\n"
    write(blobs=BLOBS,
          blobs_base=BLOBS_BASE,
          mine=EXPERIMENT.format(student=SMALL, data="'blobs_base.py'") +
          imports)
    cfg = combine('kd', 'mine.py')
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
    # a teacher of as many classes
    teacher = Config.fromfile(shipped.find('teacher_deeplab_synthetic')).model
    teacher.decode_head.num_classes = 3
    cfg.teacher.update(model=teacher, checkpoint=random_teacher(teacher))
    run_stages(cfg, 'work')
    state = torch.load(latest_checkpoint('work'), weights_only=False)
    assert state['state_dict']['decode_head.conv_seg.weight'].shape[0] == 3


def test_a_student_is_one_base():
    write(tiny=TINY)
    cfg = combine('kd', 'synthetic', 'tiny.py')
    assert cfg.model.backbone.widen_factor == .25
    assert cfg.model.decode_head.num_classes == 19
    assert cfg.model.data_preprocessor.size == (96, 192)
    other = combine('kd', 'synthetic', 'mobilenetv2_pspnet')
    assert other.model.decode_head.type == 'PSPHead'
    write(small=EXPERIMENT.format(
        student="'tiny.py'", data="'seg_kd::_base_/datasets/synthetic.py'"))
    assert combine('kd', 'small.py').model.backbone.widen_factor == .25


def test_a_method_is_one_file_and_a_line(mine):
    imports = "custom_imports = dict(imports=['seg_kd.register', 'near'])\n"
    write(near=NEAR, near_base=NEAR_BASE + imports)
    (_, cfg), = stage_configs(combine('near_base.py', 'synthetic'))
    assert [h.type for h in cfg.custom_hooks] == ['TeacherHook', 'NearHook']
    write(leaf="_base_ = 'seg_kd::_base_/experiments/synthetic.py'\n" +
          NEAR_BASE + imports)
    (_, leaf), = stage_configs(Config.fromfile('leaf.py'))
    assert leaf.custom_hooks == cfg.custom_hooks


# -- folds -----------------------------------------------------------------


def recordings(cfg) -> tuple:
    return tuple(
        set(cfg[f'{kind}_dataloader'].dataset.recordings)
        for kind in ('train', 'val', 'test'))


@pytest.mark.parametrize('name', [
    'teacher_deeplab_camvid_by_recording',
    'student_deeplab_camvid_by_recording', 'ka_deeplab_camvid_by_recording'
])
def test_a_fold_leaves_one_recording_out(name):
    everything = {'0016E5', '0006R0', '0001TP'}
    path = shipped.find(name)
    assert recordings(Config.fromfile(path)) == ({'0016E5', '0001TP'},
                                                 {'0006R0'}, {'0006R0'})
    for left in everything:
        cfg = Config.fromfile(path)
        choose_fold(cfg, f'without_{left}')
        assert recordings(cfg) == (everything - {left}, {left}, {left})
        if 'teacher' in cfg:
            assert cfg.teacher.checkpoint == (
                'work_dirs/teacher_deeplab_camvid_by_recording_without_'
                f'{left}/iter_1200.pth')
            assert Path(cfg.teacher.checkpoint).parent.name.startswith(
                shipped.stem(cfg.teacher.model))


def test_an_unknown_fold_is_named():
    cfg = Config.fromfile(shipped.find('ka_deeplab_camvid_by_recording'))
    with pytest.raises(UserError, match='without_0016.*without_0016E5'):
        choose_fold(cfg, 'without_0016')
    with pytest.raises(UserError, match='defines no folds'):
        choose_fold(Config.fromfile(shipped.find('ka_deeplab')), 'a')


def test_a_fold_names_its_own_teacher():
    cfg = Config(
        dict(teacher=dict(checkpoint='work_dirs/a/b.pth'),
             folds=dict(x=dict(teacher=dict(checkpoint='c.pth')), y=dict())))
    other = cfg.copy()
    choose_fold(cfg, 'x')
    assert cfg.teacher.checkpoint == 'c.pth'
    choose_fold(other, 'y')
    assert other.teacher.checkpoint == 'work_dirs/a_y/b.pth'


def test_a_missing_teacher_of_a_fold_says_how_to_train_it():
    job = Comparison('camvid_by_recording', 'out')
    job.check([ALONE], ['without_0001TP'])
    with pytest.raises(UserError) as error:
        job.check([ALONE, 'kd'], ['without_0001TP'])
    assert str(error.value).endswith(
        'train the teacher first: seg-kd train '
        'teacher_deeplab_camvid_by_recording --fold without_0001TP')


# -- names -----------------------------------------------------------------


@pytest.mark.parametrize('name', [
    'ka_deeplab', 'ka_deeplab.py', 'seg_kd::ka_deeplab.py',
    'seg_kd::ka_deeplab'
])
def test_a_config_is_found_by_name(name):
    assert Path(shipped.find(name)).samefile(ROOT / 'configs/ka_deeplab.py')


def test_a_file_comes_before_a_shipped_config():
    write(ka_deeplab='x = 1')
    assert shipped.find('ka_deeplab.py') == 'ka_deeplab.py'
    assert shipped.stem('seg_kd::ka_deeplab') == 'ka_deeplab'
    assert Path(shipped.find('ka_deeplab')).parent.name == 'configs'


def test_an_unknown_config_has_neighbours():
    for name in ('ka_deeplb', 'seg_kd::ka_deeplb.py', 'configs/ka_deeplb.py'):
        with pytest.raises(UserError, match='did you mean ka_deeplab'):
            shipped.find(name)
    with pytest.raises(UserError, match='method kaa .*did you mean ka'):
        shipped.find('kaa', shipped.METHODS)


def test_shipped_bases_in_a_users_file():
    write(mine="_base_ = 'seg_kd::_base_/experiments/camvid.py'\n"
          'hook = {{_base_.teacher}}')
    cfg = Config.fromfile('mine.py')
    assert cfg.num_classes == 11 and '_scope_' not in cfg.hook
    write(other="_base_ = 'seg_kd::ka_deeplab.py'")
    assert 'KAHook' in Config.fromfile('other.py').custom_hooks


def test_the_list_says_what_each_is(capsys):
    assert main(['configs']) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == shipped.names()
    assert all(len(line.split()) > 3 for line in lines)
    assert main(['configs', 'methods']) == 0
    assert METHODS <= {
        x.split()[0]
        for x in capsys.readouterr().out.splitlines()
    }


def test_the_wheel_has_the_configs(tmp_path):
    """As pip installs them: built from a copy of what git would give."""
    pytest.importorskip('setuptools')
    copy = tmp_path / 'copy'
    for name in ('setup.cfg', 'pyproject.toml', 'README.md', 'LICENSE',
                 'seg_kd', 'configs'):
        subprocess.run(
            ['cp', '-a', str(ROOT / name),
             str(copy / name)] if copy.mkdir(exist_ok=True) is None else [],
            check=True)
    code = ('import sys; from setuptools import build_meta as b; '
            'print(b.build_wheel(sys.argv[1]))')
    done = subprocess.run(
        [sys.executable, '-c', code, str(tmp_path)],
        cwd=copy,
        capture_output=True,
        text=True)
    assert done.returncode == 0, done.stderr
    import zipfile
    held = zipfile.ZipFile(tmp_path / done.stdout.split()[-1]).namelist()
    for path in ROOT.glob('configs/**/*.py'):
        assert f'seg_kd/.mim/{path.relative_to(ROOT)}' in held
    assert 'seg_kd/.mim/model-index.yml' in held
