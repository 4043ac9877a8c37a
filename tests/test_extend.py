"""docs/extend.md, run as it stands there."""
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from processes import run_command

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / 'docs/extend.md').read_text(encoding='utf-8')
FILES = dict(re.findall(r'```python\n# (\S+)\n(.*?)```', TEXT, re.DOTALL))
COMMANDS = re.search(r'```sh\n(seg-kd train.*?)```', TEXT, re.DOTALL)


@pytest.fixture(scope='module')
def project(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp('extend')
    (root / 'my_project').mkdir()
    for name, text in FILES.items():
        (root / name).write_text(text)
    rng = np.random.default_rng(0)
    for split, count in (('train', 4), ('val', 2)):
        for kind in ('images', 'labels'):
            folder = root / 'data/fields' / split / kind
            folder.mkdir(parents=True)
            for i in range(count):
                image = rng.integers(0, 2, (64, 96), np.uint8)
                cv2.imwrite(str(folder / f'{i}.png'),
                            image * (255 if kind == 'images' else 1))
    return root


def test_every_kind_is_there():
    text = ''.join(FILES.values())
    for registry in ('HOOKS', 'MODELS', 'DATASETS', 'TRANSFORMS'):
        assert f'@{registry}.register_module()' in text
    assert len(FILES) == 8


def test_it_runs(project):
    output = ''
    for command in COMMANDS[1].splitlines():
        output += run_command(project, *command.split()[1:])
    assert re.search(r'loss_cosine: 0\.\d+ .*cosine_weight: \d', output)
    assert re.search(r'loss_boundary: 0\.\d+', output)
    assert re.search(r'student: .*mIoU.*\nteacher: .*mIoU', output)
