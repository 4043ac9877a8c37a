"""An unfinished run goes on when it is asked to, with its own settings."""
import pytest

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
        assert not _finished(str(tmp_path), now, resume, {})
        return
    with pytest.raises(UserError, match=words):
        _finished(str(tmp_path), now, resume, {})
