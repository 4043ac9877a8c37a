"""docs/extend.md, run as it stands there."""
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

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
    env = {**os.environ, 'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1'}
    main = ('import sys; sys.path.remove(""); from seg_kd.cli import main; '
            'sys.exit(main())')
    output = ''
    for command in COMMANDS[1].splitlines():
        done = subprocess.run(
            [sys.executable, '-c', main, *command.split()[1:]],
            cwd=project,
            env=env,
            capture_output=True,
            text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        output += done.stdout
    assert re.search(r'loss_cosine: 0\.\d+ .*cosine_weight: \d', output)
    assert re.search(r'loss_boundary: 0\.\d+', output)
    assert re.search(r'student: .*mIoU.*\nteacher: .*mIoU', output)
