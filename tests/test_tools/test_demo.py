"""The demo with tiny numbers: three networks, a table, two pictures."""
import re

import matplotlib.image
from conftest import run_tool


def test_it_compares_three_networks(tmp_path, monkeypatch, capsys):
    arguments = ['--scenes', 4, 2, '--max-iters', 2]
    assert run_tool('demo', arguments, monkeypatch, tmp_path) == 0
    out = tmp_path / 'work_dirs/demo'
    table = (out / 'table.txt').read_text()
    rows = re.findall(
        r'\| +(teacher|student alone|student \+ KA) +\| +([\d.]+)', table)
    assert [name for name, _ in rows
            ] == ['teacher', 'student alone', 'student + KA']
    assert all(0 <= float(score) <= 100 for _, score in rows)
    assert table.strip() in capsys.readouterr().out
    for name in ('predictions.png', 'curves.png'):
        assert matplotlib.image.imread(out / name).std() > .01
    # A second call has nothing to train; another seed has the same teacher.
    monkeypatch.setattr('seg_kd.analysis.costs.compare', lambda *args: '')
    monkeypatch.setattr('seg_kd.analysis.pictures.draw_predictions',
                        lambda *args: None)
    assert run_tool('demo', arguments, monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out.count('nothing to do') == 4
    assert run_tool('demo', [*arguments, '--seed', 1], monkeypatch,
                    tmp_path) == 0
    assert capsys.readouterr().out.count('nothing to do') == 1
    found = {path.name for path in (tmp_path / 'work_dirs').iterdir()}
    assert found == {
        'demo', 'demo_seed1', 'teacher_deeplab_synthetic',
        'student_deeplab_synthetic', 'student_deeplab_synthetic_seed1',
        'ka_deeplab_synthetic', 'ka_deeplab_synthetic_seed1'
    }
