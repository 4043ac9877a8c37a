"""What changed under a run: refused, or said."""
import json
import os

import pytest

from seg_kd.engine import provenance
from seg_kd.engine.stages import run_stages
from seg_kd.errors import UserError


def made(**changes):
    whole = dict(files={
        't.pth': '1',
        'teacher.py': '2'
    },
                 data=dict(images=6,
                           bytes=100,
                           unlabelled=5,
                           unlabelled_bytes=50),
                 code=dict(seg_kd='0.1', torch='2.6'))
    return {**whole, **changes}


@pytest.mark.parametrize('now, words', [
    (dict(files={'t.pth': '9'}), 'content of t.pth is another .* in run'),
    (dict(files={'./t.pth': '9'}), 'content of t.pth is another .* in run'),
    (dict(data=dict(images=7, bytes=100)), '7 training images, not 6'),
    (dict(data=dict(images=6, unlabelled=4)),
     '4 images without labels, not 5'),
])
def test_refused(now, words):
    with pytest.raises(UserError, match=words):
        provenance.compare('run', made(), made(**now))


@pytest.mark.parametrize('now, words', [
    (dict(), ''),
    (dict(files={}, data={}), ''),
    (dict(files={'teacher.py': '9'}), 'other content of teacher.py than'),
    (dict(data=dict(images=6, bytes=99)), 'data (100 bytes before, 99 now)'),
    (dict(data=dict(unlabelled=5, unlabelled_bytes=49)),
     'other images without labels (50 bytes before, 49 now)'),
    (dict(code=dict(seg_kd='0.2', torch='2.6')), 'seg_kd (0.1 before, 0.2'),
])
def test_said(now, words):
    said = provenance.compare('run', made(), made(**now))
    assert words in said and bool(said) is bool(words)
    assert provenance.compare('run', {}, made(**now)) == ''


def test_a_record_from_before_images_without_labels_were_in_it():
    before = made(data=dict(images=6, bytes=100))
    assert provenance.compare('run', before, made()) == ''


@pytest.mark.parametrize('inside', [True, False])
def test_images_without_labels(plain_config, tmp_path, monkeypatch, inside):
    """Relative to where the program runs, or to the data."""
    monkeypatch.chdir(tmp_path)
    loader = plain_config.train_dataloader
    if inside:
        folder = 'train/images'
    else:
        folder = 'more'
        (tmp_path / 'more/deep').mkdir(parents=True)
        (tmp_path / 'more/deep/a.png').write_bytes(b'12')
        (tmp_path / 'more/b.txt').touch()
    without = provenance.data_of(loader)
    loader.unlabelled = dict(img_path=folder)
    found = provenance.data_of(loader)
    assert found.pop('unlabelled') == (6 if inside else 1)
    size = found.pop('unlabelled_bytes')
    assert 2 < size < found['bytes'] if inside else size == 2
    assert found == without


def test_what_a_run_is_made_of(plain_config, tmp_path):
    weights = tmp_path / 'w.pth'
    weights.write_bytes(b'1')
    cfg = dict(train_dataloader=plain_config.train_dataloader,
               custom_hooks=[dict(checkpoint=str(weights), name='none.pth')])
    found = provenance.made_of(cfg)
    assert found['files'].keys() == {str(weights)}
    root = plain_config.train_dataloader.dataset.data_root
    sizes = [
        os.path.getsize(os.path.join(place, name))
        for place, _, names in os.walk(os.path.join(root, 'train'))
        for name in names
    ]
    assert found['data'] == dict(images=6, bytes=sum(sizes))
    assert found['code']['torch']
    before = found['files'][str(weights)]
    weights.write_bytes(b'2')
    os.utime(weights, (1, 1))
    again = provenance.files_of(cfg)
    assert again[str(weights)] != before
    assert provenance.changed_weights(found,
                                      cfg) == [f'the content of {weights}']
    weights.unlink()
    assert provenance.changed_weights(found, cfg) == []


def test_a_run_and_its_teacher(ka_config, tmp_path, monkeypatch, capsys):
    """Cut off, it is refused with another teacher; finished, it runs again.
    """
    import shutil
    ka_config.pop('stages')
    ka_config.custom_hooks[1].translator = None
    ka_config.train_cfg.max_iters = 2
    ka_config.default_hooks.checkpoint.interval = 1
    for key in ('val_cfg', 'val_dataloader', 'val_evaluator'):
        ka_config.pop(key)
    teacher = tmp_path / 'teacher.pth'
    shutil.copy(ka_config.custom_hooks[0].checkpoint, teacher)
    good = teacher.read_bytes()
    ka_config.custom_hooks[0].checkpoint = str(teacher)
    folder = tmp_path / 'run'
    run_stages(ka_config, str(folder))
    record = json.loads((folder / 'run.json').read_text())
    assert str(teacher) in record['made_of']['files']
    (folder / 'run.json').write_text(json.dumps({**record, 'finished': False}))
    (folder / 'iter_2.pth').unlink()
    teacher.write_bytes(good + b' ')
    with pytest.raises(UserError, match='content of .*teacher.pth'):
        run_stages(ka_config, str(folder), resume=True)
    teacher.write_bytes(good)
    monkeypatch.setattr(provenance, 'code', lambda: dict(torch='1.0'))
    run_stages(ka_config, str(folder), resume=True)
    assert 'other seg_kd' in capsys.readouterr().out
    run_stages(ka_config, str(folder))
    assert 'nothing to do' in capsys.readouterr().out
    teacher.write_bytes(good + b' ')
    run_stages(ka_config, str(folder))
    assert 'content of' in capsys.readouterr().out
    assert len(list(tmp_path.glob('run.before_*'))) == 1
    assert not list(tmp_path.rglob('*.lock'))
