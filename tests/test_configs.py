"""Every shipped config is built, and each of its stages takes one step.

On images of 64x96 (LR-ASPP pools 49 x 49 windows at stride 8 and needs 400),
with random teachers in place of the model zoo's, and no download.
"""
import importlib.util
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import forget_instances, student
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model, init_model

from seg_kd.analysis.comparison import on_data
from seg_kd.engine.stages import latest_checkpoint, run_stages
from seg_kd.registry import MODELS
from seg_kd.teacher.build import teacher_config

ROOT = Path(__file__).parents[1]
CONFIGS = sorted(ROOT.glob('configs/*.py'))
DATA = sorted(ROOT.glob('configs/_base_/datasets/*.py'))
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
    assert len(names) >= 14


def draw(root: Path, kind: str, classes: int, size) -> None:
    """Two images to train on, one to validate."""
    rng = np.random.default_rng(0)
    for split, number in (('train', 0), ('train', 1), ('val', 0)):
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
    draw(root, cfg.dataset_type, cfg.num_classes, size)
    cfg.model.data_preprocessor.size = size
    cfg.train_cfg.update(max_iters=1, val_interval=1)
    for backbone in (cfg.model.backbone, ):
        backbone.init_cfg = None
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, persistent_workers=False)
        loader.dataset.data_root = str(root)
    cfg.train_dataloader.batch_size = 2
    for transform in cfg.train_dataloader.dataset.pipeline:
        if transform.type == 'Albumentations':
            transform.transforms[1].update(height=size[0], width=size[1])
        if transform.type == 'Resize':
            transform.scale = size[::-1]
    for stage in cfg.get('stages', []):
        if 'train_cfg' in stage:
            stage.train_cfg.max_iters = 1


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


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)  # configs name other configs from here


def step(path, folder, random_teacher, size=(64, 96)):
    """Every stage takes one step: their names, and the last state."""
    if importlib.util.find_spec('efficientnet_lite_pytorch') is None:
        if 'camvid' in path.stem and 'student' not in path.stem:
            pytest.skip("needs the teacher of pip install 'seg_kd[bench]'")
    forget_instances()
    cfg = Config.fromfile(str(path))
    shrink(cfg, folder / 'data', size)
    if cfg.get('custom_hooks'):
        hook = cfg.custom_hooks[0]
        hook.checkpoint = random_teacher(hook.model)
    run_stages(cfg, str(folder / 'work'))
    stages = [stage.name for stage in cfg.get('stages', [])]
    for stage in stages or ['']:
        state = torch.load(latest_checkpoint(str(folder / 'work' / stage)),
                           weights_only=False)['state_dict']
        assert all(value.isfinite().all() for value in state.values())
        alone = stage in ('translator', 'paraphraser')
        assert alone or 'decode_head.conv_seg.weight' in state
    return stages, state


@pytest.mark.filterwarnings('ignore:Default ``avg_non_ignore``')
@pytest.mark.filterwarnings('ignore:In MMCV v1.4.4')
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_one_step(path, tmp_path, random_teacher):
    size = (400, 416) if 'lraspp' in path.stem else (64, 96)
    stages, state = step(path, tmp_path, random_teacher, size)
    if path.stem.startswith('ka_'):
        assert stages == ['translator', 'distill']
        assert any(key.startswith('distill.ka.translator') for key in state)


@pytest.mark.parametrize('data', ['camvid', 'synthetic'])
@pytest.mark.parametrize('path',
                         sorted(ROOT.glob('configs/*_deeplab.py')),
                         ids=lambda path: path.stem)
def test_on_other_data(path, data, tmp_path, random_teacher):
    """All that changes is the one base that brings the data."""
    method = path.stem.removesuffix('_deeplab')
    path = Path(on_data(method, data, str(tmp_path / 'configs')))
    step(path, tmp_path, random_teacher)


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
