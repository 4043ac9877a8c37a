"""Damaged checkpoints and records, and what is taken instead."""
import json

import pytest
import torch

from seg_kd.engine import records
from seg_kd.errors import UserError

OWN = {'a': torch.arange(100.), 'b': torch.ones(2, 3)}


def content(**changes):
    whole = dict(meta=dict(iter=3),
                 state_dict=dict(OWN),
                 optimizer=dict(state={}),
                 message_hub=dict(runtime_info={}))
    return {**whole, **changes}


@pytest.fixture
def folder(tmp_path):
    for number in (3, 6, 12):
        torch.save(content(), tmp_path / f'iter_{number}.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'iter_12.pth'))
    return tmp_path


def flipped(path):
    data = bytearray(path.read_bytes())
    at = data.index(OWN['a'].numpy().tobytes())
    data[at + 40] ^= 4
    path.write_bytes(data)


def saved(**changes):
    return lambda path: torch.save(content(**changes), path)


@pytest.mark.parametrize('damage, words', [
    (flipped, 'check sum'),
    (lambda p: p.write_bytes(p.read_bytes()[:-500]), 'not readable'),
    (lambda p: p.write_bytes(b''), 'not readable'),
    (lambda p: p.unlink(), 'is missing'),
    (saved(state_dict={}), 'has no state_dict'),
    (saved(optimizer=None), 'has no optimizer'),
    (saved(state_dict={'a': OWN['a']}), 'lacks 1 of 2 weights, such as b'),
    (saved(state_dict=dict(OWN, b=torch.ones(3, 2))), 'such as b, or has'),
    (lambda p: torch.save([1], p), 'holds a list'),
])
def test_the_one_before_is_taken(folder, capsys, damage, words):
    assert records.newest_whole(str(folder),
                                OWN) == str(folder / 'iter_12.pth')
    damage(folder / 'iter_12.pth')
    assert records.newest_whole(str(folder), OWN) == str(folder / 'iter_6.pth')
    said = capsys.readouterr().out
    assert 'iter_12.pth' in said and words in said and len(
        said.splitlines()) == 1


def test_all_are_damaged(folder):
    for path in folder.glob('*.pth'):
        path.write_bytes(b'PK')
    with pytest.raises(UserError, match='iter_12.*iter_6.*iter_3'):
        records.newest_whole(str(folder), OWN)


def test_a_kill_before_the_last_one_was_noted(folder, capsys):
    (folder / 'last_checkpoint').write_text('elsewhere/iter_6.pth')
    assert records.newest_whole(str(folder), OWN).endswith('iter_12.pth')
    assert capsys.readouterr().out == ''


def test_checkpoints_elsewhere_without_a_note(folder):
    far = folder / 'far'
    far.mkdir()
    for path in folder.glob('*.pth'):
        path.rename(far / path.name)
    (folder / 'last_checkpoint').write_bytes(b'\xff')
    assert records.latest_checkpoint(str(folder)) is None
    record = dict(config='a', settings={}, finished=False)
    records.write_record(str(folder), dict(record, checkpoints=str(far)))
    assert records.latest_checkpoint(str(folder)) == str(far / 'iter_12.pth')


@pytest.mark.parametrize('damage', [
    lambda p: p.write_text('{"config": "a", '),
    lambda p: p.write_bytes(b'\xff\xfe'),
    lambda p: p.write_text('{}'),
    lambda p: p.unlink(),
])
def test_a_damaged_record(tmp_path, capsys, damage):
    record = dict(config='a', settings=dict(x=1), finished=True)
    records.write_record(str(tmp_path), record)
    damage(tmp_path / 'run.json')
    for _ in range(2):
        assert records.read_record(str(tmp_path)) == record
    assert capsys.readouterr().out.count('is damaged or missing') == 1
    (tmp_path / records.COPY).write_text('')
    if (tmp_path / 'run.json').exists():
        with pytest.raises(UserError, match='run.json and .*cannot be read'):
            records.read_record(str(tmp_path))


def test_an_error_leaves_the_old_record(tmp_path):
    record = dict(config='a', settings={}, finished=False)
    records.write_record(str(tmp_path), record)
    with pytest.raises(TypeError):
        records.write_record(str(tmp_path), dict(record, config=object()))
    assert json.loads((tmp_path / 'run.json').read_text()) == record
    assert len(list(tmp_path.iterdir())) == 2
