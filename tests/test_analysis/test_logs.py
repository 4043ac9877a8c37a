"""Numbers out of the logs of several runs."""
import json

from seg_kd.analysis.logs import read_scalars


def write(folder, name, lines):
    path = folder / name / 'vis_data/scalars.json'
    path.parent.mkdir(parents=True)
    path.write_text(''.join(json.dumps(line) + '\n' for line in lines))


def test_of_a_resumed_run_the_last_log_counts(tmp_path):
    write(tmp_path, '20260101_000000',
          [dict(loss=float(i), step=i) for i in (1, 2, 3, 4)])
    write(tmp_path, '20260101_000100',
          [dict(loss=10. * i, step=i, mIoU=5.) for i in (3, 4, 5)])
    found = read_scalars(str(tmp_path))
    assert found['loss'] == [(1, 1.), (2, 2.), (3, 30.), (4, 40.), (5, 50.)]
    assert found['mIoU'] == [(3, 5.), (4, 5.), (5, 5.)]


def test_a_line_that_was_cut_off_is_left_out(tmp_path):
    write(tmp_path, '20260101_000000', [dict(loss=1., step=1)])
    with open(tmp_path / '20260101_000000/vis_data/scalars.json', 'a') as f:
        f.write('{"loss": 2.0, "st')
    assert read_scalars(str(tmp_path))['loss'] == [(1, 1.)]


def test_a_folder_may_have_brackets_in_its_name(tmp_path):
    write(tmp_path / 'run[1]', '20260101_000000', [dict(loss=1., step=1)])
    assert read_scalars(str(tmp_path / 'run[1]'))['loss'] == [(1, 1.)]
