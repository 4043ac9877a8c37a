"""A batch that training saved, run once more; the command around it."""
import json
import math

import pytest
import torch
from conftest import TAPS, build_runner, run_tool

from seg_kd.doctor.replay import read, replay
from seg_kd.errors import UserError


@pytest.fixture
def saved(plain_config, teacher_hook, tmp_path):
    """What training writes, of a run with KD: nothing is wrong in it."""
    cfg = plain_config
    cfg.custom_hooks = [
        teacher_hook,
        dict(type='KDHook'),
        dict(type='FitNetHook', **TAPS)
    ]
    cfg.custom_imports = dict(imports=['seg_kd.register'])
    runner = build_runner(cfg)
    samples = [runner.train_dataloader.dataset[(k, k)] for k in range(2)]
    return dict(config=cfg.dump(),
                stage=None,
                iteration=3,
                culprit='kd',
                batch=dict(inputs=[s['inputs'] for s in samples],
                           labels=[
                               s['data_samples'].gt_sem_seg.data[0]
                               for s in samples
                           ],
                           metainfo=[
                               dict(img_path=s['data_samples'].img_path,
                                    ori_shape=(64, 96),
                                    img_shape=(64, 96)) for s in samples
                           ]),
                model=runner.model.state_dict())


@pytest.fixture
def again(tmp_path):
    """(level, text) of each finding; from a file, as a user has it."""

    def call(saved):
        path = tmp_path / 'saved.pth'
        torch.save(saved, path)
        _, found = replay(read(str(path)), str(tmp_path))
        return [(f.level, f.what) for f in found]

    return call


def test_nothing_wrong(saved, again):
    (level, what), images = again(saved)
    assert level == 'yellow' and images[0] == 'green'
    assert what.startswith('iteration 3, kd: all is finite')
    assert 'loss_kd' in what and 'loss_fitnet' in what


def test_the_layer(saved, again):
    name = 'backbone.layer2.0.conv.0.conv.weight'
    saved['model'][name][0] = math.inf
    texts = [what for level, what in again(saved) if level == 'red']
    assert f'1 weights of the student are not finite: {name}' in texts[0]
    assert ('the first layer that is not finite is student '
            'backbone.layer2.0.conv.0.conv') in texts[1]


def test_the_image(saved, again):
    batch = saved['batch']
    batch['inputs'] = [image.float() for image in batch['inputs']]
    batch['inputs'][1][0, 2, 3] = math.nan
    path = batch['metainfo'][1]['img_path']
    texts = [what for level, what in again(saved) if level == 'red']
    assert texts[0].endswith(f'NaN or Inf in {path}')
    assert f'student backbone.conv1.conv, with {path}' in texts[1] or (
        f'with {path}' in texts[1])


def test_the_term(saved, again):
    name = next(k for k in saved['model'] if k.startswith('distill.fitnet.'))
    saved['model'][name].fill_(1e38)  # finite, and too large to be squared
    texts = [what for level, what in again(saved) if level == 'red']
    assert 'loss_fitnet' in texts[-1]


def test_what_is_no_such_file(saved, again, tmp_path):
    del saved['batch']['labels']
    with pytest.raises(UserError, match='it has no batch.labels'):
        again(saved)
    with pytest.raises(UserError, match='does not exist'):
        read(str(tmp_path / 'nothing.pth'))


def test_weights_of_another_model(saved, again):
    del saved['model']['decode_head.conv_seg.weight']
    (level, what), = again(saved)
    assert level == 'red' and 'weights are of another model: 1 names' in what


def test_the_command(saved, tmp_path, monkeypatch, capsys):
    torch.save(saved, tmp_path / 'saved.pth')
    call = ['--replay', 'saved.pth', '--json', 'found.json']
    assert run_tool('doctor', call, monkeypatch, tmp_path) == 0
    found = json.loads((tmp_path / 'found.json').read_text())
    assert found['level'] == 'yellow'
    assert 'Look at the yellow ones' in capsys.readouterr().out
    assert run_tool('doctor', [], monkeypatch, tmp_path) == 2
    assert 'give a config, or --replay FILE' in capsys.readouterr().err


def test_the_command_on_a_config(saved, tmp_path, monkeypatch, capsys):
    (tmp_path / 'mine.py').write_text(saved['config'])
    call = ['mine.py', '--batches', 1, '--json', 'found.json', '--layers']
    assert run_tool('doctor', call, monkeypatch, tmp_path) == 0
    found = json.loads((tmp_path / 'found.json').read_text())
    assert {'findings', 'pairs', 'terms', 'layers', 'costs'} <= set(found)
    assert all(
        set(f) == {'level', 'what', 'do', 'check'} for f in found['findings'])
    out = capsys.readouterr().out
    assert '[green]  files: 6 images trained on' in out
    assert '| decode_head.conv_seg' in out
    for mistake, said in (("model.backbone.type='None'", 'None'),
                          ('teacher.checkpoint=no.pth', '')):
        call = ['mine.py', '--cfg-options', mistake]
        if said:
            assert run_tool('doctor', call, monkeypatch, tmp_path) == 1
            out, err = capsys.readouterr()
            assert '[red]    config: ' in out and 'Traceback' not in err
            assert '[green]  files:' in out
