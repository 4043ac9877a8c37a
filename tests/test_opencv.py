"""One OpenCV, and one line where it does not start."""
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LIBGL = 'libGL.so.1: cannot open shared object file: No such file or directory'


@pytest.fixture(params=[f'raise ImportError({LIBGL!r})', ''],
                ids=['without libGL', 'remains of an uninstallation'])
def broken(request, tmp_path):
    (tmp_path / 'cv2').mkdir()
    (tmp_path / 'cv2/__init__.py').write_text(request.param)

    def run(*arguments):
        path = os.pathsep.join([str(tmp_path), str(ROOT)])
        return subprocess.run([sys.executable, *arguments],
                              env={
                                  **os.environ, 'PYTHONPATH': path
                              },
                              capture_output=True,
                              text=True)

    run.reason = LIBGL if request.param else 'imread'
    return run


@pytest.mark.parametrize('arguments', [('-c', 'import seg_kd.register'),
                                       (str(ROOT / 'tools/train.py'), 'x.py')])
def test_it_says_what_to_install(broken, arguments):
    done = broken(*arguments)
    line, = done.stderr.splitlines()
    assert done.returncode == 1
    assert line.startswith('error: OpenCV does not start (')
    assert broken.reason in line and 'opencv-python-headless' in line
    assert 'apt install libgl1' in line


def test_a_program_can_catch_it_and_go_on(broken):
    done = broken(
        '-c',
        'try:\n    import seg_kd.register\nexcept ImportError:\n    pass\n'
        'raise ValueError("its own")')
    assert 'Traceback' in done.stderr and 'its own' in done.stderr


def named(lines):
    return [re.match(r'[\w.-]*', line.lower())[0] for line in lines]


def test_one_opencv_is_required_and_no_typing():
    setup = configparser.ConfigParser()
    setup.read(ROOT / 'setup.cfg')
    required = named(setup['options']['install_requires'].split('\n'))
    locked = named((ROOT / 'requirements.lock').read_text().splitlines())
    for names in (required, locked):
        assert [n for n in names
                if n.startswith('opencv')] == ['opencv-python-headless']
        assert 'typing' not in names
    assert 'cityscapesscripts' not in required  # it asks for `typing`
    assert 'cityscapesscripts' in setup['options.extras_require']['cityscapes']
