"""docs/own_data.md from one end to the other, as it stands there."""
import re
import runpy
import shlex
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import run_tool
from mmengine.config import Config
from PIL import Image

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'docs/own_data.md').read_text(encoding='utf-8')
FILES = dict(re.findall(r'```python\n# (\S+)\n(.*?)```', TEXT, re.DOTALL))
BLOCKS = re.findall(r'```sh\n(.*?)```', TEXT, re.DOTALL)
COMMANDS = [line for block in BLOCKS for line in block.splitlines()]
COLOURS = np.array([(121, 85, 72), (76, 175, 80), (244, 67, 54), (0, 0, 0)],
                   np.uint8)
SIZE = (64, 96)
# What makes it a matter of seconds. The files stay as they are.
SHORT = {
    'default_hooks.logger.interval': 1,
    'model.data_preprocessor.size': SIZE,
    'train_dataloader.dataset.pipeline.2.scale': SIZE[::-1],
    'train_dataloader.dataset.pipeline.3.crop_size': SIZE,
    'train_cfg.max_iters': 1,
    'train_cfg.val_interval': 1,
    'train_dataloader.num_workers': 0,
    'train_dataloader.persistent_workers': False,
    'train_dataloader.batch_size': 2,
    'val_dataloader.num_workers': 0,
    'val_dataloader.persistent_workers': False,
    'test_dataloader.num_workers': 0,
    'test_dataloader.persistent_workers': False
}


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    """The files of the page, photos, and masks in colour."""
    root = tmp_path_factory.mktemp('my_project')
    (root / 'orchard').mkdir()
    for name, text in FILES.items():
        (root / name).write_text(text)
    rng = np.random.default_rng(0)
    for split, count in (('train', 3), ('val', 1)):
        for kind in ('data/orchard/photos', 'coloured'):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            mask = rng.integers(0, 4, (4, 6)).repeat(16, 0).repeat(16, 1)
            photo = COLOURS[mask] // 2 + rng.integers(0, 99, (*SIZE, 3))
            Image.fromarray(photo.astype(np.uint8)).save(
                root / f'data/orchard/photos/{split}/{i}_rgb.jpg')
            Image.fromarray(COLOURS[mask]).save(
                root / f'coloured/{split}/{i}_mask.png')
    return root


def options(**more) -> list[str]:
    return [f'{k}={v}'.replace(' ', '') for k, v in {**SHORT, **more}.items()]


@pytest.mark.filterwarnings('ignore:The draw is False')  # mmseg's runtime
def test_the_page(project, monkeypatch, capsys):
    monkeypatch.chdir(project)
    monkeypatch.setattr(sys, 'argv', ['', 'coloured', 'data/orchard/masks'])
    runpy.run_path('orchard/colours.py')

    def call(*more):
        line = COMMANDS.pop(0)
        _, tool, *arguments = shlex.split(re.sub(r'iter_\d+', 'iter_1', line))
        status = run_tool(tool, [*arguments, *more], monkeypatch, project)
        shown = capsys.readouterr()
        assert status == 0, shown.err
        return line, shown.out

    line, out = call()
    assert 'prepare-data check' in line
    assert 'photos/train: 3 images, 96x64, 3 of 3 classes, 2' in out

    # The teacher, in MMEngine's own runner: nothing of ours is in it.
    cfg = Config.fromfile('orchard/teacher.py')
    assert 'seg_kd' not in cfg.pretty_text and 'runner_type' not in cfg
    with warnings.catch_warnings():  # MMEngine's own, of MMEngine
        warnings.simplefilter('ignore')
        line, _ = call(
            '--cfg-options',
            *options(
                **{
                    'model.pretrained': None,
                    'default_hooks.checkpoint.save_optimizer': False
                }))
    assert line == 'seg-kd train orchard/teacher.py'
    _, out = call('--cfg-options', *options())
    assert re.search(r'student: aAcc \d', out)

    given = options(
        **{
            'model.backbone.init_cfg': None,
            'teacher.checkpoint': 'work_dirs/teacher/iter_1.pth'
        })
    line, out = call('--cfg-options', *given)
    assert 'experiment.py' in line and 'loss_kd' not in out
    line, out = call('--cfg-options', *given)
    assert re.search(r'loss_fitnet: \d.*loss_kd: \d', out)
    line, out = call('--cfg-options', *given)
    assert re.search(r'student: .*mIoU.*\nteacher: .*mIoU', out)

    line, out = call()
    with Image.open('seen/labels/0_rgb.png') as file:
        assert file.size == SIZE[::-1]
    line, out = call()
    assert 'export' in line and 'bit for bit' in out
    state = torch.load('student/student.pth')['state_dict']
    assert not [key for key in state if key.startswith('distill')]
    assert not COMMANDS


def test_the_page_names_its_files():
    tree = re.search(r'```\nmy_project/(.*?)```', TEXT, re.DOTALL)[1]
    named = re.findall(r'── (\w+\.py)', tree)
    assert {f'orchard/{name}'
            for name in named} | {'orchard/colours.py'} == FILES.keys()
