"""Checkpoints: as weights only, or refused with the reason."""
import hashlib
import io
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, get_mmcls_models
from torch import nn

from seg_kd.checkpoint import read_checkpoint, weights
from seg_kd.errors import UserError


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


CACHED = 'mobilenet_v2_batch256_imagenet_20200708-3b2dc3af.pth'
NAMES = {
    '': 'bomb.pth',
    'http://': f'http://no.example/{CACHED}',
    'https://': f'https://no.example/{CACHED}',
    'mmcls://': 'mmcls://mobilenet_v2',
    'modelzoo://': 'modelzoo://net',
    'torchvision://': 'torchvision://net',
    'open-mmlab://': 'open-mmlab://net',
    'openmmlab://': 'openmmlab://local',
    'pavi://': 'pavi://net',
    r'(\S+\:)?s3://': 's3://bucket/net.pth',
    r'(\S+\:)?petrel://': 'petrel://bucket/net.pth',
}


@pytest.fixture
def everywhere(bomb, tmp_path, monkeypatch):
    """The bomb is what every scheme finds."""
    url = get_mmcls_models()['mobilenet_v2']
    assert url.endswith(CACHED)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    monkeypatch.setenv('MMENGINE_HOME', str(tmp_path))
    cached = tmp_path / 'hub/checkpoints' / CACHED
    cached.parent.mkdir(parents=True)
    content = (tmp_path / bomb).read_bytes()
    cached.write_bytes(content)
    library = 'mmengine.runner.checkpoint'
    monkeypatch.setattr(f'{library}.get_torchvision_models',
                        lambda: dict(net=url))
    monkeypatch.setattr(f'{library}.get_external_models',
                        lambda: dict(net=url, local=bomb))
    monkeypatch.setattr(f'{library}.get_file_backend',
                        lambda *a, **k: SimpleNamespace(get=lambda _: content))
    pavi = ModuleType('pavi')
    pavi.modelcloud = SimpleNamespace(get=lambda _: SimpleNamespace(
        name='x.pth', download=lambda to: Path(to).write_bytes(content)))
    monkeypatch.setitem(sys.modules, 'pavi', pavi)


@pytest.mark.parametrize('scheme', CheckpointLoader._schemes)
def test_no_scheme_unpickles_all(everywhere, tmp_path, scheme):
    with pytest.raises(UserError, match='any code'):
        load_checkpoint(nn.Linear(1, 1), NAMES[scheme])
    assert not (tmp_path / 'exploded').exists()


def test_downloads_are_held_against_the_hash_in_their_name(
        tmp_path, monkeypatch):
    content = io.BytesIO()
    torch.save(dict(a=torch.ones(1)), content)
    content = content.getvalue()
    (tmp_path / 'source').write_bytes(content)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))
    fetch, url = torch.hub.download_url_to_file, 'https://no.example/'
    monkeypatch.setattr(
        torch.hub, 'download_url_to_file', lambda _, *args: fetch(
            (tmp_path / 'source').as_uri(), *args, progress=False))
    right = hashlib.sha256(content).hexdigest()[:8]
    for name in (f'net-{right}.pth', 'net-20200708.pth', 'net.pth'):
        assert read_checkpoint(url + name)['a'] == 1
    with pytest.raises(UserError, match='invalid hash value'):
        read_checkpoint(f'{url}net-0123abcd.pth')
    assert not (tmp_path / 'hub/checkpoints/net-0123abcd.pth').exists()


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
