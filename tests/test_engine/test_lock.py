"""One owner of a folder: who is refused, and which lock counts no more."""
import json
import os
import subprocess
import sys

import pytest

from seg_kd.engine import lock, processes
from seg_kd.errors import UserError


@pytest.fixture
def folder(tmp_path):
    return tmp_path / 'deep/run'


def write(folder, **changes):
    folder.mkdir(parents=True, exist_ok=True)
    owner = {**processes.whoami(), 'since': '2020-01-02 03:04:05', **changes}
    (folder / lock.NAME).write_text(json.dumps(owner))


def ended():
    with subprocess.Popen([sys.executable, '-c', '']) as child:
        pass
    return child.pid


def test_a_second_training_is_refused(folder):
    parent = os.getppid()
    write(folder, process=parent, started=processes.started(parent))
    with pytest.raises(UserError, match=f'process {parent} on .*2020-01-02'):
        with lock.owned(str(folder)):
            pass
    assert json.loads((folder / lock.NAME).read_text())['process'] == parent


def test_the_same_process_is_refused_too(folder):
    with lock.owned(str(folder)):
        with pytest.raises(UserError, match='in use: process'):
            with lock.owned(str(folder)):
                pass
        assert (folder / lock.NAME).exists()


@pytest.mark.parametrize('gone', [
    lambda: dict(process=ended()),
    lambda: dict(process=os.getppid(), started='another boot 1')
])
def test_the_lock_of_a_process_that_has_ended(folder, gone):
    write(folder, **gone())
    with lock.owned(str(folder)):
        owner = json.loads((folder / lock.NAME).read_text())
        assert owner['process'] == os.getpid()
    assert list(folder.iterdir()) == []


def test_a_lock_of_another_machine_is_not_judged(folder):
    write(folder, host='elsewhere', process=ended())
    with pytest.raises(UserError, match='on elsewhere .*delete .*run.lock'):
        with lock.owned(str(folder)):
            pass


@pytest.mark.parametrize('text', ['', '[]', '{"host": 1'])
def test_a_lock_that_cannot_be_read(folder, text):
    folder.mkdir(parents=True)
    (folder / lock.NAME).write_text(text)
    with pytest.raises(UserError, match='cannot be read; .*delete'):
        with lock.owned(str(folder)):
            pass


@pytest.mark.parametrize('there', [False, True])
def test_it_goes_whatever_the_end(folder, there):
    """And the folders that were made for it alone."""
    if there:
        folder.parent.mkdir()
    with pytest.raises(KeyboardInterrupt):
        with lock.owned(str(folder)):
            raise KeyboardInterrupt
    assert not folder.exists() and folder.parent.exists() is there
    with lock.owned(str(folder)):
        (folder / 'kept').touch()
    assert [p.name for p in folder.iterdir()] == ['kept']


def test_a_folder_set_aside_leaves_its_lock(folder):
    with lock.owned(str(folder)):
        (folder / 'old').touch()
        lock.move(str(folder), f'{folder}.before')
        assert [p.name for p in folder.iterdir()] == [lock.NAME]
    assert sorted(p.name for p in folder.parent.iterdir()) == ['run.before']
