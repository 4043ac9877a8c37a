"""Checkpoints: as weights only, or refused with the reason."""
import hashlib
import io
import os
import pickle
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, get_mmcls_models
from torch import nn

from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import (read_checkpoint, weights,
                                        write_checkpoint)


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


@pytest.mark.parametrize('kind', [
    np.float16, np.float32, np.float64, np.longdouble, np.int8, np.int32,
    np.int64, np.uint8, np.uint64, np.bool_, np.complex64, np.str_
])
@pytest.mark.parametrize('numpy_1', [False, True])
def test_metrics_of_any_type_are_read(tmp_path, kind, numpy_1):
    """``save_best`` keeps the best score as the metric computed it."""
    path = tmp_path / 'best.pth'
    scores = dict(best_score=kind(1), all=np.array([1, 0], kind))
    torch.save(scores, path, _use_new_zipfile_serialization=not numpy_1)
    if numpy_1:  # a file without check sums, where names can be changed
        content = path.read_bytes()
        assert b'cnumpy._core.' in content
        path.write_bytes(content.replace(b'cnumpy._core.', b'cnumpy.core.'))
    read = read_checkpoint(str(path))
    assert read['best_score'] == scores['best_score']
    assert type(read['best_score']) is kind
    assert (read['all'] == scores['all']).all()


@pytest.mark.parametrize('zipped', [True, False])
@pytest.mark.parametrize('content, reason', [
    (np.array([None]), 'any code: .*ObjectDType'),
    (Path('x'), 'any code: .*GLOBAL pathlib'),
])
def test_a_whole_file_is_never_called_cut_off(tmp_path, content, reason,
                                              zipped):
    path = tmp_path / 'a.pth'
    torch.save(dict(x=content), path, _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=reason) as info:
        read_checkpoint(str(path))
    assert 'cut off' not in str(info.value)
    with open(path, 'r+b') as file:
        file.truncate(path.stat().st_size // 2)
    with pytest.raises(UserError, match='cut off'):
        read_checkpoint(str(path))


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


def test_a_file_is_on_the_disk_before_it_takes_its_name(tmp_path, monkeypatch):
    calls = []
    for name in ('fsync', 'replace'):
        real = getattr(os, name)
        monkeypatch.setattr(os,
                            name,
                            lambda *args, name=name, real=real:
                            (calls.append(name), real(*args))[1])
    write_checkpoint(dict(a=torch.ones(2)), str(tmp_path / 'a.pth'))
    assert calls == ['fsync', 'replace']
    assert [path.name for path in tmp_path.iterdir()] == ['a.pth']
