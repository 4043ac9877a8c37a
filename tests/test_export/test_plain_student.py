"""The plain student: without seg_kd the same numbers, and what cannot be."""
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import CLASSES, PALETTE, run_tool
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmseg.apis import inference_model
from mmseg.registry import MODELS

from seg_kd import shipped
from seg_kd.engine.evaluate import last_stage, load_student
from seg_kd.errors import UserError
from seg_kd.export.plain_config import (check_model, plain_config,
                                        plain_dataset, plain_optimizer,
                                        plain_pipeline)
from seg_kd.export.student import compact
from seg_kd.registry import DATASETS

ALONE = """
import sys
class Blocked:
    def find_spec(self, name, *_):
        if name.split('.')[0] == 'seg_kd':
            raise ImportError(name)
sys.meta_path.insert(0, Blocked())
import numpy as np
from mmengine.config import Config
from mmengine.runner import Runner
from mmseg.apis import inference_model, init_model
config, checkpoint, image, out = sys.argv[1:]
found = inference_model(init_model(config, checkpoint, device='cpu'), image)
np.savez(out, logits=found.seg_logits.data, labels=found.pred_sem_seg.data)
cfg = Config.fromfile(config)
cfg.work_dir, cfg.load_from, cfg.train_cfg.max_iters = 'work', checkpoint, 1
runner = Runner.from_cfg(cfg)
assert 'mIoU' in runner.test()
runner.train()
assert not [name for name in sys.modules if name.startswith('seg_kd')]
"""
AUGMENT = dict(type='Albumentations',
               transforms=[
                   dict(type='RandomScale', scale_limit=0.1, p=1.),
                   dict(type='CropWithClassCap', height=48, width=80),
                   dict(type='HorizontalFlip', p=0.5),
                   dict(type='ColorJitter', p=0.8)
               ])


@pytest.fixture
def config(ka_config, tmp_path) -> str:
    """Two stages, and all that only seg_kd has."""
    load, labels, *_, pack = ka_config.train_dataloader.dataset.pipeline
    ka_config.train_dataloader.dataset.pipeline = [
        dict(type='Cached',
             transforms=[load, labels, dict(type='CheckLabels')]), AUGMENT,
        pack
    ]
    for loader in (ka_config.val_dataloader, ka_config.test_dataloader):
        loader.dataset.pipeline.insert(-1, dict(type='CheckLabels'))
    ka_config.optim_wrapper.paramwise_cfg = dict(custom_keys=dict(distill=dict(
        lr_mult=10.)))
    ka_config.custom_imports = dict(imports=['seg_kd.register'])
    ka_config.pop('work_dir')
    ka_config.dump(str(tmp_path / 'ka.py'))
    return str(tmp_path / 'ka.py')


def test_mmseg_alone_infers_tests_and_trains(config, student_checkpoint,
                                             tmp_path, data_root, monkeypatch,
                                             capsys):
    """In a process that cannot import seg_kd: equal, bit for bit."""
    out = tmp_path / 'plain'
    assert run_tool('export', [config, student_checkpoint, '--out', out],
                    monkeypatch, tmp_path) == 0
    assert 'bit for bit' in capsys.readouterr().out
    image = str(data_root / 'val/images/0.png')
    (tmp_path / 'elsewhere').mkdir()
    done = subprocess.run([
        sys.executable, '-c', ALONE, out / 'student.py', out / 'student.pth',
        image, tmp_path / 'found.npz'
    ],
                          cwd=tmp_path / 'elsewhere',
                          env={
                              k: v
                              for k, v in os.environ.items()
                              if k != 'PYTHONPATH'
                          },
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr[-2000:]

    cfg = last_stage(Config.fromfile(config))
    model, _ = load_student(cfg, student_checkpoint)
    model.cfg = Config(
        dict(test_pipeline=cfg.test_dataloader.dataset.pipeline))
    expected = inference_model(model, image)
    found = np.load(tmp_path / 'found.npz')
    assert np.array_equal(found['logits'], expected.seg_logits.data.numpy())
    assert np.array_equal(found['labels'], expected.pred_sem_seg.data.numpy())


def test_the_files_hold_the_student_and_no_more(config, student_checkpoint,
                                                tmp_path, monkeypatch):
    assert run_tool('export', [config, student_checkpoint, '--out', 'plain'],
                    monkeypatch, tmp_path) == 0
    text = (tmp_path / 'plain/student.py').read_text()
    for word in ('seg_kd', 'seg-kd', '_base_', 'distill', 'stage', 'Teacher',
                 'Cached', 'CheckLabels', 'Albumentations'):
        assert word not in text, word
    content = torch.load(tmp_path / 'plain/student.pth')
    made = MODELS.build(Config.fromstring(text, '.py').model)
    assert content['state_dict'].keys() == made.state_dict().keys()
    assert content['meta'] == dict(
        dataset_meta=dict(classes=CLASSES, palette=PALETTE))


def test_the_default_place_is_beside_the_checkpoint(config, student_checkpoint,
                                                    tmp_path, monkeypatch,
                                                    capsys):
    checkpoint = tmp_path / 'iter_6.pth'
    checkpoint.symlink_to(student_checkpoint)
    call = [config, checkpoint]
    assert run_tool('export', call, monkeypatch, tmp_path) == 0
    written = tmp_path / 'student/student.py'
    written.write_text('mine')
    assert run_tool('export', call, monkeypatch, tmp_path) == 2
    assert 'student.py exists: give another place' in capsys.readouterr().err
    assert written.read_text() == 'mine'
    assert run_tool('export', [*call, '--force'], monkeypatch, tmp_path) == 0
    assert written.read_text() != 'mine'


# -- the config ------------------------------------------------------------


def test_transforms():
    load = dict(type='LoadImageFromFile')
    found = plain_pipeline([
        dict(type='Cached', transforms=[load, dict(type='CheckLabels')]),
        AUGMENT,
        dict(type='TestTimeAug',
             transforms=[[dict(type='CheckLabels')], [load]])
    ])
    assert found == [
        load,
        dict(type='Albu', transforms=[AUGMENT['transforms'][0]]),
        dict(type='RandomCrop',
             crop_size=(48, 80),
             cat_max_ratio=0.75,
             ignore_index=255),
        dict(type='Pad',
             size=(80, 48),
             pad_val=dict(img=(104, 116, 124), seg=255)),
        dict(type='RandomFlip', prob=0.5, direction='horizontal'),
        dict(type='Albu', transforms=[AUGMENT['transforms'][3]]),
        dict(type='TestTimeAug', transforms=[[load]])
    ]


def test_optimizer():
    adam = dict(type='Adam', lr=1.)
    keys = dict(distill=dict(lr_mult=10.), head=dict(lr_mult=2.))
    keys['distill.kd'] = dict(lr_mult=3.)
    found = plain_optimizer(
        dict(type='BFloat16OptimWrapper',
             optimizer=adam,
             paramwise_cfg=dict(custom_keys=keys)))
    assert found == dict(
        type='AmpOptimWrapper',
        dtype='bfloat16',
        optimizer=adam,
        paramwise_cfg=dict(custom_keys=dict(head=dict(lr_mult=2.))))


@pytest.fixture
def camvid(tmp_path) -> dict:
    """Frames of two recordings, one of them in two formats."""
    frames = ['train/a_0.png', 'train/b_0.png', 'val/a_1.png', 'val/a_2.jpg']
    for frame in frames:
        for kind in ('images', 'labels'):
            path = tmp_path / kind / frame
            path = path if kind == 'images' else path.with_suffix('.png')
            path.parent.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(path), np.zeros((4, 6, 3), np.uint8))
    return dict(type='CamVidDataset',
                data_root=str(tmp_path),
                data_prefix=dict(img_path='images', seg_map_path='labels'),
                pipeline=[])


def files(cfg: dict) -> set[tuple[str, str]]:
    init_default_scope('mmseg')
    made = DATASETS.build(cfg)
    infos = [made.get_data_info(i) for i in range(len(made))]
    return {(x['img_path'], x['seg_map_path']) for x in infos}


@pytest.mark.parametrize('part, kinds', [(dict(recordings=('a', )), 2),
                                         (dict(recordings=('b', )), 1),
                                         (dict(splits=('train', )), 1)])
def test_a_part_of_camvid(camvid, part, kinds):
    cfg = {**camvid, **part}
    found = plain_dataset(cfg, [])
    parts = found.get('datasets', [found])
    assert len(parts) == kinds
    assert {x['type'] for x in parts} == {'BaseSegDataset'}
    assert files(found) == files(cfg)


def test_camvid_without_its_files(camvid):
    notes = []
    cfg = {**camvid, 'data_root': 'nowhere'}
    found = plain_dataset(cfg, notes)
    assert found['type'] == 'BaseSegDataset' and found['img_suffix'] == '.jpg'
    assert 'nowhere is missing' in notes[0] and 'assumed' in notes[0]


@pytest.mark.parametrize('name', [
    'ka_deeplab', 'ka_deeplab_voc', 'ka_deeplab_camvid_by_recording',
    'student_mobilenetv3_lraspp'
])
def test_shipped_configs(name):
    cfg = last_stage(Config.fromfile(shipped.find(name)))
    found = plain_config(cfg, [])
    assert 'seg_kd' not in found.pretty_text
    assert found.model == cfg.model and found.train_cfg == cfg.train_cfg
    assert found.test_pipeline[0].type == 'LoadImageFromFile'


def test_numbers_stand_side_by_side():
    text = 'a = (\n    1,\n)\nb = [\n    -1.5,\n    2e-3,\n]\nc = [\n  f(),\n]'
    assert compact(text) == 'a = (1,)\nb = [-1.5, 2e-3]\nc = [\n  f(),\n]'
    long = 'a = [\n' + ''.join(f'    {i},\n' for i in range(99)) + ']'
    assert eval(compact(long)[4:]) == [*range(99)]
    assert max(map(len, compact(long).splitlines())) <= 79


# -- what cannot be --------------------------------------------------------


@pytest.mark.parametrize('model, words', [
    (dict(type='EncoderDecoder', backbone=dict(type='EfficientNetLite')),
     'model.backbone is EfficientNetLite, and seg_kd.models'),
    (dict(type='SplitSegmentor'), 'seg-kd export-split'),
])
def test_networks_of_ours(model, words):
    with pytest.raises(UserError, match=words):
        check_model(Config(dict(model=model)))


def test_a_network_of_the_user_that_imports_ours(tmp_path, monkeypatch):
    (tmp_path / 'own_net.py').write_text(
        'from seg_kd.registry import MODELS\n'
        '@MODELS.register_module(force=True)\n'
        'class OwnNet:\n    pass\n')
    monkeypatch.syspath_prepend(tmp_path)
    __import__('own_net')
    with pytest.raises(UserError, match='OwnNet, and own_net needs seg_kd'):
        check_model(Config(dict(model=dict(type='OwnNet'))))


def test_a_checkpoint_of_another_config(config, teacher_checkpoint, tmp_path,
                                        monkeypatch, capsys):
    assert run_tool('export', [config, teacher_checkpoint, '--out', 'plain'],
                    monkeypatch, tmp_path) == 2
    assert 'does not fit EncoderDecoder' in capsys.readouterr().err
    assert not (tmp_path / 'plain').exists()


def test_a_checkpoint_of_other_classes(config, student_checkpoint, tmp_path,
                                       monkeypatch, capsys):
    content = torch.load(student_checkpoint)
    content['meta']['dataset_meta']['classes'] = ('a', 'road', 'car', 'tree')
    torch.save(content, tmp_path / 'other.pth')
    assert run_tool('export', [config, 'other.pth'], monkeypatch,
                    tmp_path) == 2
    assert "class 0 is 'a', in the data it is 'sky'" in capsys.readouterr().err


def test_a_config_that_cannot_be_built(config, student_checkpoint, tmp_path,
                                       monkeypatch, capsys):
    assert run_tool('export', [
        config, student_checkpoint, '--cfg-options',
        'model.backbone.out_indices=(1,99)'
    ], monkeypatch, tmp_path) == 2
    error, = capsys.readouterr().err.splitlines()
    assert 'ka.py cannot be built: ValueError' in error
    assert not list(Path(tmp_path).glob('**/student.py'))
