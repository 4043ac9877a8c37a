"""Files that try to run code, at each door that a file comes in by."""
import copy
import io
import json
import math
import os
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import build_runner, run_tool, teacher
from mmengine.config import Config
from mmengine.fileio import load
from PIL import Image

from seg_kd.cli import set_option
from seg_kd.datasets.prepare import files
from seg_kd.datasets.prepare.files import entries, keep
from seg_kd.doctor import replay
from seg_kd.engine.dumped import parse_dumped, read_dumped
from seg_kd.engine.evaluate import load_student
from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import load_weights, read_checkpoint
from seg_kd.report import runs
from seg_kd.teacher.build import build_teacher

CODE = "__import__('os').system('touch exploded')"


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, ('touch exploded', )


@pytest.fixture(autouse=True)
def nothing_explodes(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    yield
    assert not (tmp_path / 'exploded').exists()


@pytest.fixture
def bomb(student_checkpoint):
    """A checkpoint that is right, but for one entry."""
    whole = torch.load(student_checkpoint, weights_only=True)
    torch.save({**whole, 'extra': Bomb()}, 'bomb.pth')
    return 'bomb.pth'


# -- checkpoints ------------------------------------------------------------


def through_teacher(path, cfg):
    build_teacher(teacher(), path, False, None)


def through_student(path, cfg):  # test, predict, export, report
    load_student(cfg, path)


def through_replay(path, cfg):
    replay.read(path)


def through_initial_weights(path, cfg):
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
    build_runner(cfg).model.init_weights()


def through_load_from(path, cfg):
    cfg.load_from = path
    build_runner(cfg).load_or_resume()


def through_resume(path, cfg):
    cfg.load_from, cfg.resume = path, True
    build_runner(cfg).load_or_resume()


def through_the_helper(path, cfg):
    read_checkpoint(path)


@pytest.mark.parametrize('door', [
    through_teacher, through_student, through_replay, through_initial_weights,
    through_load_from, through_resume, through_the_helper
])
def test_no_checkpoint_runs_code(door, bomb, plain_config):
    with pytest.raises(UserError, match='bomb.pth .*any code'):
        door(bomb, plain_config)


@pytest.mark.parametrize('command', [
    ('test', 'c.py', 'bomb.pth'),
    ('export', 'c.py', 'bomb.pth', '--out', 'out'),
    ('predict', 'c.py', 'x.png', '--checkpoint', 'bomb.pth', '--out', 'out'),
    ('doctor', '--replay', 'bomb.pth'),
])
def test_no_command_runs_it(command, bomb, plain_config, monkeypatch, tmp_path,
                            capsys):
    plain_config.dump('c.py')
    Image.fromarray(np.zeros((64, 96, 3), np.uint8)).save('x.png')
    tool, *arguments = command
    assert run_tool(tool, arguments, monkeypatch, tmp_path) == 2
    assert 'any code' in capsys.readouterr().err
    assert not Path('out').exists()


def test_a_batch_to_replay_holds_a_config_that_is_not_run(plain_config):
    batch = dict(inputs=[], labels=[], metainfo=[])
    rest = dict(stage=None, iteration=1, culprit='kd', batch=batch, model={})
    torch.save(dict(config=f'x = {CODE}', **rest), 'broken_batch.pth')
    saved = replay.read('broken_batch.pth')
    with pytest.raises(UserError, match='line 1 holds code'):
        replay.replay(saved, '.')


@pytest.mark.parametrize('text, words', [
    (CODE, 'no setting'),
    (f'x = {CODE}', 'line 1 holds code'),
    (f'x = dict(a=[1, {CODE}])', 'holds code'),
    ('import os', 'no setting'),
    ('x = open', 'holds code'),
    ('x = f"{1}"', 'holds code'),
    ('x = [i for i in range(9)]', 'holds code'),
    ('x = dict(**dict(a=1))', 'holds code'),
    ('x = "a" * 10**10', 'holds code'),
    ("_base_ = ['other.py']\nx = y", 'holds code'),
    ("hook = dict(type='os.system', command='touch exploded')", "'os.system'"),
    ("a = [dict(b=dict(type='subprocess.run', args='touch exploded'))]",
     'in no registry'),
    ('x = ' + '(' * 500 + ')' * 500, 'dumped'),
    ('x = (', 'dumped'),
    ('\0', 'dumped'),
])
def test_what_a_run_has_dumped_is_data(text, words):
    with pytest.raises(UserError, match=words):
        parse_dumped(text, 'c.py')


def test_a_dumped_config_is_read_as_it_was(ka_config):
    ka_config.more = dict(b=-3, c={1: (2, ), 'x.y': None})
    ka_config.dump('dumped.py')
    read, meant = read_dumped('dumped.py'), Config.fromfile('dumped.py')
    assert read.to_dict() == meant.to_dict()
    assert read.filename == 'dumped.py'
    assert parse_dumped('x = [-inf]', '').x == [-math.inf]
    kind = 'mmseg.models.segmentors.encoder_decoder.EncoderDecoder'
    assert parse_dumped(f'm = dict(type={kind!r})', '').m.type == kind
    trusting = parse_dumped('t = dict(trust_checkpoint=True)', '')
    assert trusting.t.trust_checkpoint is False


def test_a_report_runs_no_config(tmp_path):
    folder = tmp_path / 'run'
    (folder / '1/vis_data').mkdir(parents=True)
    (folder / '1/vis_data/config.py').write_text(f'x = {CODE}')
    (folder / 'run.json').write_text(json.dumps(dict(config='gone')))
    found = runs.Found(str(folder), {'': str(folder)}, dict(config='gone'))
    with pytest.raises(UserError, match='holds code'):
        runs.read_config(found)


# -- other files --------------------------------------------------------------


@pytest.mark.parametrize('ending', ['pkl', 'pickle'])
def test_mmengine_reads_no_pickle(ending):
    Path(f'list.{ending}').write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(UserError, match='a pickle can run any code'):
        load(f'list.{ending}')


@pytest.mark.parametrize('ending', ['yaml', 'yml'])
def test_yaml_is_data(ending):
    path = Path(f'config.{ending}')
    path.write_text('a: !!python/object/apply:os.system ["touch exploded"]')
    with pytest.raises(Exception, match='could not determine a constructor'):
        load(str(path))
    path.write_text('a: [1, {b: 2}]')
    assert load(str(path)) == dict(a=[1, dict(b=2)])


@pytest.mark.parametrize('value', [
    CODE, f'[{CODE}]', f'{{"a": {CODE}}}', '{"type": open}', f'({CODE},)',
    '{[i for i in (1,)]}'
])
def test_options_are_data(value, plain_config):
    try:
        set_option(plain_config, f'work_dir={value}')
    except UserError as error:
        assert '--cfg-options work_dir=' in str(error)
    else:  # taken as it is: a text
        assert 'import' in str(plain_config.work_dir)


def test_cached_maps_hold_numbers_only(tmp_path):
    """A pickle in the place of a file of the cache is so many numbers."""
    from seg_kd.teacher.cache.map_store import MapStore
    first = MapStore(str(tmp_path / 'maps'), dict(a=(1, 2, 2)), 2, 1,
                     torch.float32)
    for path in (tmp_path / 'maps').iterdir():
        size = path.stat().st_size
        path.write_bytes(pickle.dumps(Bomb())[:size].ljust(size, b'\0'))
    del first
    store = MapStore(str(tmp_path / 'maps'), dict(a=(1, 2, 2)), 2, 1,
                     torch.float32)
    assert store.read(0)['a'].shape == (1, 2, 2)


# -- archives -----------------------------------------------------------------

NAMES = ('../gtFine/x.png', 'gtFine/../../x.png', 'gtFine/../x.png',
         '..\\gtFine\\x.png')


def packed(kind: str, name: str, content: bytes) -> Path:
    if kind == 'zip':
        with zipfile.ZipFile('a.zip', 'w') as archive:
            archive.writestr(name, content)
        return Path('a.zip')
    with tarfile.open('a.tar', 'w') as archive:
        info = tarfile.TarInfo(name)
        info.size = len(content)
        archive.addfile(info, io.BytesIO(content))
    return Path('a.tar')


@pytest.mark.parametrize('kind', ['zip', 'tar'])
@pytest.mark.parametrize('name', NAMES)
def test_no_entry_leaves_the_folder(kind, name):
    source = packed(kind, name, b'')
    with pytest.raises(UserError, match='leaves its folder'):
        for entry in entries(source):
            files.after(entry.name, 'gtFine')


@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_an_absolute_path_is_none(kind, tmp_path):
    """What counts begins at a known folder, and goes below the data root."""
    name = f'{tmp_path}/elsewhere/gtFine/x.png'
    for entry in entries(packed(kind, name, b'')):
        assert files.after(entry.name, 'gtFine') == 'gtFine/x.png'


def test_links_and_devices_are_left_out():
    with tarfile.open('a.tar', 'w') as archive:
        for name, kind in (('s', tarfile.SYMTYPE), ('h', tarfile.LNKTYPE),
                           ('f', tarfile.FIFOTYPE), ('c', tarfile.CHRTYPE)):
            info = tarfile.TarInfo(f'gtFine/{name}.png')
            info.type, info.linkname = kind, '/etc/passwd'
            archive.addfile(info)
    assert list(entries(Path('a.tar'))) == []
    with zipfile.ZipFile('a.zip', 'w') as archive:
        info = zipfile.ZipInfo('gtFine/x.png')
        info.external_attr = 0o120777 << 16
        archive.writestr(info, '/etc/passwd')
    assert list(entries(Path('a.zip'))) == []


@pytest.mark.parametrize('limit', ['MOST', 'WHOLE', 'MANY'])
@pytest.mark.parametrize('kind', ['zip', 'tar'])
def test_bombs_are_not_unpacked(kind, limit, monkeypatch):
    source = packed(kind, 'gtFine/x.png', b'0' * 100)
    assert len(list(entries(source))) == 1
    monkeypatch.setattr(files, limit, 0 if limit == 'MANY' else 99)
    with pytest.raises(UserError, match='is it the right archive'):
        list(entries(source))


def test_a_zip_that_lies_about_a_size():
    """No more is read than was said, and that is no whole file."""
    with zipfile.ZipFile('a.zip', 'w', zipfile.ZIP_DEFLATED) as archive:
        archive.writestr('gtFine/x.png', b'0' * 10**6)
    content = bytearray(Path('a.zip').read_bytes())
    at = content.rindex(b'PK\1\2') + 24
    content[at:at + 4] = (100).to_bytes(4, 'little')
    Path('a.zip').write_bytes(content)
    for entry in entries(Path('a.zip')):
        try:
            assert len(entry.read()) <= 100
        except UserError as error:
            assert 'cannot be read' in str(error)


@pytest.mark.parametrize('spoil', [
    lambda c: c[:-200], lambda c: c[:len(c) // 2], lambda c: b'PK\3\4' + c,
    lambda c: c.replace(b'0' * 50, b'1' * 50)
])
@pytest.mark.parametrize('kind', ['zip', 'tgz'])
def test_damaged_archives(kind, spoil):
    if kind == 'zip':
        packed('zip', 'gtFine/x.png', b'0' * 5000)
        path = Path('a.zip')
    else:
        path = Path('a.tgz')
        with tarfile.open(path, 'w:gz') as archive:
            info = tarfile.TarInfo('gtFine/x.png')
            info.size = 50_000
            archive.addfile(info, io.BytesIO(os.urandom(50_000)))
    path.write_bytes(spoil(path.read_bytes()))
    try:
        contents = [entry.read() for entry in entries(path)]
    except UserError as error:
        assert path.name in str(error)
    else:  # what was spoilt is not part of it
        assert list(map(len, contents)) == [5000 if kind == 'zip' else 50_000]


def test_a_locked_zip():
    with zipfile.ZipFile('a.zip', 'w') as archive:
        archive.writestr('gtFine/x.png', b'0' * 99)
    content = bytearray(Path('a.zip').read_bytes())
    content[6] |= 1
    content[content.rindex(b'PK\1\2') + 8] |= 1
    Path('a.zip').write_bytes(content)
    for entry in entries(Path('a.zip')):
        with pytest.raises(UserError, match='a.zip: gtFine/x.png .*encrypt'):
            entry.read()


def image(size=(8, 8), ending='PNG') -> bytes:
    made = io.BytesIO()
    Image.fromarray(
        np.random.default_rng(0).integers(0, 255, (*size, 3),
                                          np.uint8)).save(made, ending)
    return made.getvalue()


@pytest.mark.parametrize('content', [
    b'', b'no image',
    image()[:-20],
    image().replace(b'IDAT', b'IDAX'),
    image()[:40] + b'\0' + image()[41:]
])
def test_no_broken_image_is_copied(content):
    with pytest.raises(UserError, match='x.png'):
        keep(Path('x.png'), lambda: content)
    assert not Path('x.png').exists()
    keep(Path('x.png'), image)
    keep(Path('y.jpg'), lambda: image(ending='JPEG'))


def test_an_image_of_more_pixels_than_memory():
    """A PNG of some bytes that says 60,000 x 60,000."""
    content = image().replace((8).to_bytes(4, 'big') * 2,
                              (60_000).to_bytes(4, 'big') * 2)
    with pytest.raises(UserError, match='x.png: not a readable image'):
        files.read_array(content, 'x.png')


# -- where the check sums are wrong -------------------------------------------


@pytest.mark.parametrize('at', range(5))
def test_a_flipped_bit_is_found(student_checkpoint, at):
    content = bytearray(Path(student_checkpoint).read_bytes())
    start = content.index(b'FB') + 64
    content[start + at * (len(content) // 8)] ^= 4
    Path('flipped.pth').write_bytes(content)
    try:
        read_checkpoint('flipped.pth')
    except UserError as error:
        assert 'flipped.pth' in str(error) and 'trust' not in str(error)
    else:
        before, after = (torch.load(p, weights_only=True)['state_dict']
                         for p in (student_checkpoint, 'flipped.pth'))
        for key, weight in before.items():
            assert torch.equal(weight, after[key])


@pytest.mark.parametrize('content, words', [
    ('<!DOCTYPE html><html><body>Not found</body>', 'is a text, no file'),
    ("model = dict(type='EncoderDecoder', backbone=None)", 'is a text'),
    ('{"message": "you need to log in first"}', 'is a text'),
    ('version https://git-lfs.github.com/spec/v1\noid sha256:1', 'is a text'),
])
def test_a_page_in_the_place_of_weights(content, words):
    Path('w.pth').write_text(content)
    with pytest.raises(UserError, match=words) as caught:
        read_checkpoint('w.pth')
    assert 'trust' not in str(caught.value)


@pytest.mark.parametrize('state', [None, 5, [], 'x'])
def test_a_state_dict_that_is_none(state):
    torch.save(dict(state_dict=state), 'w.pth')
    with pytest.raises(UserError, match='w.pth: its state_dict is a'):
        read_checkpoint('w.pth')


@pytest.mark.parametrize('bad', [float('nan'), float('inf')])
def test_weights_that_are_not_finite(bad):
    model = torch.nn.Linear(2, 2)
    state = copy.deepcopy(model.state_dict())
    state['bias'][1] = bad
    with pytest.raises(UserError, match='w.pth: 1 weights are NaN.*bias'):
        load_weights(model, dict(state_dict=state), 'w.pth')
