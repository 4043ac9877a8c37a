"""An unfinished run goes on when it is asked to, with its own settings."""
import os
from pathlib import Path

import pytest

from seg_kd.engine import stages
from seg_kd.engine.records import write_record
from seg_kd.engine.stages import _finished
from seg_kd.errors import UserError


@pytest.mark.parametrize('lr, resume, words', [
    (1, False, 'add --resume'),
    (2, True, r'other settings \(lr\)'),
    (1, True, None),
])
def test_an_unfinished_run(tmp_path, lr, resume, words):
    record = dict(config='a', place=None, settings=dict(lr=1), finished=False)
    write_record(str(tmp_path), record)
    (tmp_path / 'iter_1.pth').touch()
    now = dict(record, settings=dict(lr=lr))
    if words is None:
        assert not _finished(str(tmp_path), now, resume, {}, [])
        return
    with pytest.raises(UserError, match=words):
        _finished(str(tmp_path), now, resume, {}, [])


@pytest.mark.parametrize('left', ['best_mIoU_iter_9.pth', 'student_best.pth'])
def test_of_the_best_alone_it_does_not_start_again_in_silence(
        tmp_path, left, capsys):
    record = dict(config='a', place=None, settings={}, finished=False)
    write_record(str(tmp_path), record)
    (tmp_path / left).touch()
    # killed between the first best one and the first that it could go on from
    assert not _finished(str(tmp_path), record, True, {}, [])
    assert 'no checkpoint to go on from' in capsys.readouterr().out
    kept, = tmp_path.parent.glob(f'{tmp_path.name}.before_*')
    assert (kept / left).exists()  # set aside, not overwritten
    kept.rename(tmp_path)
    (tmp_path / 'last_checkpoint').write_text('run/iter_9.pth')
    with pytest.raises(UserError, match='run/iter_9.pth, is not there'):
        _finished(str(tmp_path), record, True, {}, [])
    with pytest.raises(UserError, match='add --resume'):
        _finished(str(tmp_path), record, False, {}, [])


def test_a_run_is_the_same_however_its_folder_is_spelt(ka_config, tmp_path,
                                                       monkeypatch, capsys):
    """The paths of earlier stages are among the settings of later ones."""

    def train(cfg, folder, record, resume, ending):
        os.makedirs(folder)
        write_record(folder, {**record, 'finished': True})
        Path(folder, 'iter_1.pth').touch()

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(stages, '_train', train)
    for check in ('check_settings', 'check_references', 'check_ahead'):
        monkeypatch.setattr(stages, check, lambda *args: None)
    ka_config.stages.append(dict(name='again', load_from='stage:distill'))
    for first, others in (('runs/a', ('./runs/a', tmp_path / 'runs/a')),
                          (tmp_path / 'runs/b', ('runs/b', ))):
        stages.run_stages(ka_config, str(first))
        capsys.readouterr()
        for other in others:
            stages.run_stages(ka_config, str(other), resume=True)
            assert capsys.readouterr().out.count('nothing to do') == 3
        assert '.before_' not in ''.join(os.listdir(first))
    ka_config.custom_hooks[1].weight = 2.
    stages.run_stages(ka_config, './runs/a')
    assert 'an earlier stage' in capsys.readouterr().out


def test_what_a_later_stage_goes_on_from_is_not_trained_again(tmp_path):
    """It would be refused all the same, when that stage comes."""
    first, later = tmp_path / 'features', tmp_path / 'task'
    record = dict(config='a', place=None, settings=dict(lr=1), made_of={})
    for folder, finished in ((first, True), (later, False)):
        folder.mkdir()
        write_record(str(folder), dict(record, finished=finished))
        (folder / 'iter_1.pth').touch()
    now = dict(record, settings=dict(lr=2), finished=False)
    with pytest.raises(UserError, match='task holds an unfinished run that'):
        _finished(str(first), now, True, {}, [str(later)])
    assert (first / 'iter_1.pth').exists()
    write_record(str(later), dict(record, finished=True))
    assert not _finished(str(first), now, True, {}, [str(later)])
    assert not first.exists()  # set aside
