"""Checkpoints: as weights only, or refused with the reason."""
import os
import pickle

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from torch import nn

from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import read_checkpoint, weights


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ('touch exploded', )


@pytest.fixture
def bomb(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save(dict(state_dict={}, meta=Bomb()), 'bomb.pth')
    return 'bomb.pth'


def test_a_full_unpickle_is_refused_unless_trusted(bomb, tmp_path):
    with pytest.raises(UserError, match='trust_checkpoint=True'):
        read_checkpoint(bomb)
    assert not (tmp_path / 'exploded').exists()
    read_checkpoint(bomb, trust=True)
    assert (tmp_path / 'exploded').exists()


def test_the_librarys_own_loader_refuses_too(bomb, tmp_path):
    with pytest.raises(UserError, match='any code'):
        load_checkpoint(nn.Linear(1, 1), bomb)
    assert not (tmp_path / 'exploded').exists()


def test_getattr_is_no_way_out(tmp_path):

    class Door:

        def __reduce__(self):
            return getattr, (slice, 'indices')

    torch.save(dict(x=Door()), tmp_path / 'door.pth')
    with pytest.raises(UserError):
        read_checkpoint(str(tmp_path / 'door.pth'))


def test_what_mmengine_writes_is_read(tmp_path):
    history = HistoryBuffer()
    history.update(3.)
    torch.save(dict(state_dict={}, h=history), tmp_path / 'a.pth')
    assert read_checkpoint(str(tmp_path / 'a.pth'))['h'].mean(1) == 3.


@pytest.mark.parametrize(
    'content',
    [b'', b'not a checkpoint', pickle.dumps([1, 2])])
def test_corrupt_files(tmp_path, content):
    path = tmp_path / 'bad.pth'
    path.write_bytes(content)
    with pytest.raises(UserError, match=r'bad.pth'):
        read_checkpoint(str(path))


def test_a_file_that_was_cut_off(tmp_path):
    path = tmp_path / 'cut.pth'
    torch.save(dict(state_dict=nn.Linear(100, 100).state_dict()), path)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(UserError, match='cut.pth is not readable'):
        read_checkpoint(str(path))


def test_a_missing_file_and_one_that_is_no_state_dict(tmp_path):
    with pytest.raises(UserError, match='does not exist'):
        read_checkpoint(str(tmp_path / 'none.pth'))
    torch.save([1], tmp_path / 'list.pth')
    with pytest.raises(UserError, match='holds a list'):
        read_checkpoint(str(tmp_path / 'list.pth'))


def test_weights_are_the_networks_own():
    x = torch.ones(1)
    assert weights({'state_dict': {'module.a': x, 'distill.b': x}}) == {'a': x}
    assert weights({'a': x, 'epoch': 3}) == {'a': x}
