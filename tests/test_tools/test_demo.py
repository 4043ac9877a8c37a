"""The demo with tiny numbers: two students, tables, two pictures."""
import re

import matplotlib.image
from conftest import run_tool


def test_it_compares_a_student_alone_and_distilled(tmp_path, monkeypatch,
                                                   capsys):
    arguments = [
        '--scenes', 4, 4, 2, '--max-iters', 2, '--seeds', 0, 1, '--jobs', 1
    ]
    assert run_tool('demo', arguments, monkeypatch, tmp_path) == 0
    out, shown = tmp_path / 'work_dirs/demo', capsys.readouterr().out
    table = (out / 'table.txt').read_text()
    assert re.search(r'\| recipe_synthetic +\| +2 +\| +2 \|', table)
    for line in 'alone: 2', 'distilled: 1 features, 2 task':
        assert f'Iterations, {line}\n' in shown
    costs = (out / 'costs.txt').read_text()
    rows = re.findall(r'\| +(teacher|alone|distilled) +\| +([\d.]+)', costs)
    assert [name for name, _ in rows] == ['teacher', 'alone', 'distilled']
    scores = [float(score) for _, score in rows]
    assert scores[0] > 20 > max(scores[1:])  # the teacher comes trained
    assert table.strip() in shown and costs.strip() in shown
    for name in ('predictions.png', 'curves.png'):
        assert matplotlib.image.imread(out / name).std() > .01
    # A second call has nothing to train.
    monkeypatch.setattr('seg_kd.analysis.costs.compare', lambda *args: '')
    monkeypatch.setattr('seg_kd.analysis.pictures.draw_predictions',
                        lambda *args: None)
    assert run_tool('demo', arguments, monkeypatch, tmp_path) == 0
    assert capsys.readouterr().out.count('nothing to do') == 6
