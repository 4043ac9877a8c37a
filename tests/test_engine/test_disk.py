"""Errors of the file system, in a line that says what to free."""
import errno
import os

import pytest

from seg_kd.engine import disk
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError


def error(number, path=None):
    return OSError(number, os.strerror(number), path)


@pytest.mark.parametrize('raised', [
    error(errno.ENOSPC),
    error(errno.EDQUOT),
    error(errno.EFBIG),
    RuntimeError('unable to write to file </torch_7>: No space left on '
                 'device (28)'),
    RuntimeError('unable to allocate shared memory(shm) for file </torch_7>'),
])
def test_what_is_full_and_what_to_free(tmp_path, raised, monkeypatch):
    usage = type('Usage', (), dict(free=7 * 2**20))
    monkeypatch.setattr('shutil.disk_usage', lambda folder: usage)
    (tmp_path / 'teacher_cache').mkdir()
    (tmp_path / 'teacher_cache/0_a').write_bytes(bytes(3 * 2**20))
    with pytest.raises(UserError) as caught:
        with disk.explained(str(tmp_path)):
            raise raised
    line = str(caught.value)
    assert f'free are 7 MiB in {tmp_path}' in line and '/dev/shm' in line
    assert f'{tmp_path}/teacher_cache 3 MiB' in line and '--resume' in line


@pytest.mark.parametrize('raised', [
    error(errno.EMFILE),
    RuntimeError('Too many open files. Communication with the workers is no '
                 'longer possible.')
])
def test_too_many_open_files(tmp_path, raised):
    with pytest.raises(UserError, match=r'\(\d+ are allowed\).*ulimit -n'):
        with disk.explained(str(tmp_path)):
            raise raised


@pytest.mark.parametrize('number, words', [
    (errno.EROFS, 'read-only'),
    (errno.EACCES, 'may not be written'),
    (errno.ENOENT, 'is not there'),
    (errno.ENOTDIR, 'no folder'),
])
def test_a_folder_that_cannot_be_written(tmp_path, number, words):
    for path in (tmp_path, tmp_path / 'distill/run.json.part',
                 tmp_path.parent):
        with pytest.raises(UserError, match=f'{path} .*{words}'):
            with disk.explained(str(tmp_path)):
                raise error(number, str(path))


@pytest.mark.parametrize('raised', [
    error(errno.ENOENT, '/elsewhere/data.png'),
    error(errno.ECONNREFUSED),
    RuntimeError('mine')
])
def test_other_errors_stay_as_they_are(tmp_path, raised):
    with pytest.raises(type(raised)) as caught:
        with disk.explained(str(tmp_path / 'run')):
            raise raised
    assert caught.value is raised


def test_a_file_in_the_place_of_the_folder(plain_config, tmp_path):
    (tmp_path / 'run').touch()
    with pytest.raises(UserError, match='run/stage .*no folder'):
        run_stages(plain_config, str(tmp_path / 'run/stage'))
