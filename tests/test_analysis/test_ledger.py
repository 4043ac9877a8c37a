"""The ledger: pairs, their statistics by hand, and what is damaged."""
import json
import math

import pytest

from seg_kd.analysis import ledger
from seg_kd.errors import UserError


def run(method, miou, seed=0, fold=None, **more):
    return {
        **dict(experiment='camvid',
               method=method,
               iterations=6000,
               fold=fold,
               seed=seed,
               miou=miou,
               wall_s=100. if method == 'student' else 150.),
        **more
    }


ALONE = [run('student', m, s) for s, m in enumerate((40., 42., 41.))]
KA = [run('ka', m, s) for s, m in enumerate((42., 43., 44.))]  # +2, +1, +3


def test_paired_statistics_by_hand():
    found, = ledger.compare(ALONE + KA)
    assert found.gains == [2., 1., 3.]
    assert found.gain == 2.
    # deviation 1, so a standard error of 1 / sqrt(3); t(0.975, 2) = 4.302653
    half = 4.302653 / math.sqrt(3)
    assert found.interval == pytest.approx((2 - half, 2 + half), abs=1e-5)
    # t = 2 sqrt(3) with two degrees of freedom: p = 1 - t / sqrt(t^2 + 2)
    assert found.raw_p == pytest.approx(1 - math.sqrt(12 / 14))
    assert found.p == found.raw_p  # one method: nothing to correct
    assert found.wall == 1.5


def test_holm_corrects_over_the_methods_of_a_table():
    at = [run('at', m, s) for s, m in enumerate((40.1, 42.3, 40.9))]
    ka, weak = ledger.compare(ALONE + KA + at, ['ka', 'at'])
    assert ka.p == pytest.approx(min(1, 2 * ka.raw_p))
    assert weak.p == pytest.approx(max(ka.p, weak.raw_p))


def test_detectable_difference_needs_a_power_of_four_fifths():
    found, = ledger.compare(ALONE + KA)
    from scipy import stats
    limit = stats.t.ppf(.975, 2)
    noncentral = found.detectable * math.sqrt(3)  # deviation 1
    power = 1 - stats.nct.cdf(limit, 2, noncentral) + stats.nct.cdf(
        -limit, 2, noncentral)
    assert power == pytest.approx(.8, abs=1e-4)


def test_only_the_same_seed_fold_length_and_experiment_pair():
    others = [
        run('ka', 90., 7),
        run('ka', 90., 0, fold='x'),
        run('ka', 90., 1, iterations=3),
        run('ka', 90., 2, experiment='voc')
    ]
    found, = ledger.compare(ALONE + others + KA[:1])
    assert found.scores == [42.] and found.alone == [40.]
    with pytest.raises(UserError, match="'ka' is not paired"):
        ledger.compare(ALONE + others, ['ka'])
    with pytest.raises(UserError, match='no method that is paired'):
        ledger.compare(ALONE + others)


def test_a_teacher_among_the_runs_is_no_method_to_compare():
    found, = ledger.compare(ALONE + KA + [run('teacher', 60., 9)])
    assert found.method == 'ka'


def test_a_repeated_run_replaces_the_earlier_one():
    found, = ledger.compare(ALONE + KA[:1] + [run('ka', 45.)])
    assert found.scores == [45.]


def test_another_network_is_named_as_one():
    hnd = [run('hnd', 44., s, other_network=True) for s in range(3)]
    found = ledger.compare([*ALONE, *KA, *hnd])
    assert [c.title for c in found] == ['ka', 'hnd (another network)']
    assert 'hnd (another network)' in ledger.table(found).get_string()
    assert 'hnd (another network)' in ledger.by_fold(found).get_string()


def test_tables_show_every_method_and_fold():
    folds = [
        run(m, v, f, fold) for f, fold in enumerate(('a', 'b'))
        for m, v in (('student', 40.), ('ka', 41. + f))
    ]
    comparisons = ledger.compare(folds)
    row = str(ledger.table(comparisons)).splitlines()[3].split('|')
    assert [cell.strip() for cell in row[1:7]
            ] == ['ka', '6000', '2', '41.50 ± 0.71', '40.00 ± 0.00', '+1.50']
    row = str(ledger.by_fold(comparisons)).splitlines()[3].split('|')
    assert [cell.strip()
            for cell in row[1:5]] == ['ka', '6000', '+1.00 (1)', '+2.00 (1)']


def test_one_pair_claims_nothing():
    found, = ledger.compare(ALONE[:1] + KA[:1])
    assert found.interval == (-math.inf, math.inf) and math.isnan(found.p)
    assert ' - ' in str(ledger.table([found]))


def test_a_damaged_line_is_named_and_left_out(tmp_path):
    path = tmp_path / 'docs' / 'ledger.jsonl'
    ledger.append(str(path), ALONE[0])
    with open(path, 'a') as f:
        f.write('{"method": "ka", "miou"\n')
        f.write(json.dumps({**KA[0], 'miou': float('nan')}) + '\n')
        f.write('[]\n\n')
    ledger.append(str(path), KA[1])
    with pytest.warns() as said:
        found = ledger.read(str(path))
    assert found == [ALONE[0], KA[1]]
    lines = [str(w.message) for w in said]
    assert [
        f'line {n} is left out' in text for n, text in zip((2, 3, 4), lines)
    ] == [True] * 3
    assert 'not JSON' in lines[0] and 'mIoU of nan' in lines[1]


@pytest.mark.parametrize('changed', [
    dict(miou=True),
    dict(miou='40'),
    dict(wall_s=None),
    dict(wall_s='fast'),
    dict(wall_s=0),
    dict(wall_s=float('nan')),
    dict(iterations='6000'),
    dict(iterations=None),
    dict(seed=[0]),
    dict(method=None),
    dict(method=['ka']),
    dict(fold=1),
    dict(iou=dict(road=None)),
])
def test_a_line_of_other_kinds_is_left_out(tmp_path, changed):
    path = tmp_path / 'ledger.jsonl'
    lines = map(json.dumps, [*ALONE, {**KA[0], **changed}, *KA[1:]])
    path.write_text('\n'.join(lines))
    with pytest.warns(match=f'line 4 is left out: .*{next(iter(changed))}|'
                      'an mIoU of'):
        found = ledger.read(str(path))
    assert found == [*ALONE, *KA[1:]]
    assert len(ledger.compare(found)[0].gains) == 2


def test_a_ledger_that_cannot_be_written_is_said_before(tmp_path):
    (tmp_path / 'file').touch()
    for path in ('file/ledger.jsonl', '.'):
        with pytest.raises(UserError, match=f'{path} cannot be written: '):
            ledger.check_writable(str(tmp_path / path))
    ledger.check_writable(str(tmp_path / 'new/ledger.jsonl'))
    ledger.append(str(tmp_path / 'new/ledger.jsonl'), KA[0])
    ledger.check_writable(str(tmp_path / 'new/ledger.jsonl'))
    assert ledger.read(str(tmp_path / 'new/ledger.jsonl')) == KA[:1]


def test_what_cannot_be_read_or_added_is_one_line(tmp_path):
    path = str(tmp_path / 'ledger.jsonl')
    with pytest.raises(UserError, match='no ledger'):
        ledger.read(path)
    with pytest.raises(UserError, match='not added: fold missing'):
        ledger.append(path, {k: v for k, v in KA[0].items() if k != 'fold'})
    open(path, 'w').close()
    with pytest.raises(UserError, match='holds no run'):
        ledger.read(path)


def test_the_chart_shows_every_pair_and_interval(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(ledger.plt.Figure, 'savefig',
                        lambda figure, path, **kw: drawn.append(figure))
    at = [run('at', m, s) for s, m in enumerate((40.1, 42.3, 40.9))]
    comparisons = ledger.compare(ALONE + KA + at, ['at', 'ka'])[::-1]
    ledger.draw(comparisons[::-1], str(tmp_path / 'gains.png'))
    once = ledger.compare(ALONE + KA[:1])
    ledger.draw(once, str(tmp_path / 'once.png'))
    bar, = drawn.pop().axes[0].containers
    assert bar[0].get_color() == '0.2'  # one pair shows nothing
    drawn.clear()
    ledger.draw(comparisons, str(tmp_path / 'gains.png'))
    axis, = drawn[0].axes
    assert [x.get_text() for x in axis.get_yticklabels()] == ['ka', 'at']
    dots = [x for x in axis.lines if x.get_marker() == 'o']
    assert [list(x.get_xdata())
            for x in dots] == [c.gains for c in comparisons]
    spans = [bar[2][0].get_segments()[0][:, 0] for bar in axis.containers]
    for span, comparison in zip(spans, comparisons):
        assert tuple(span) == pytest.approx(comparison.interval)


def test_each_budget_is_a_comparison_of_its_own(tmp_path, monkeypatch):
    short = [dict(r, iterations=2000, miou=r['miou'] - 10) for r in ALONE]
    short += [dict(r, iterations=2000, miou=r['miou'] - 11) for r in KA[:2]]
    early, late = found = ledger.compare(ALONE + KA + short)
    assert (early.iterations, early.gains) == (2000, [1., 0.])
    assert (late.iterations, late.gains) == (6000, [2., 1., 3.])
    drawn = []
    monkeypatch.setattr(ledger.plt.Figure, 'savefig',
                        lambda figure, path, **kw: drawn.append(figure))
    ledger.draw_budgets(found, str(tmp_path / 'budgets.png'))
    axis, = drawn[0].axes
    bars, = axis.containers
    # of 6000 iterations over the two seeds that 2000 have as well
    assert bars[0].get_xydata().tolist() == [[2000, .5], [6000, 1.5]]
    ends = [segment[:, 1] for segment in bars[2][0].get_segments()]
    assert tuple(ends[0]) == pytest.approx(early.interval)
    assert sum(ends[1]) / 2 == pytest.approx(1.5)


def test_a_method_of_one_budget_is_no_line(tmp_path, monkeypatch):
    short = [dict(r, iterations=2000) for r in ALONE + KA]
    at = [run('at', 41., s) for s in range(3)]
    drawn = []
    monkeypatch.setattr(ledger.plt.Figure, 'savefig',
                        lambda figure, path, **kw: drawn.append(figure))
    for runs in (ALONE + KA + at + short, ALONE + at + short):
        found = ledger.compare(runs)
        ledger.draw_budgets(found, str(tmp_path / 'budgets.png'))
    (once, ), (alone, ) = (figure.axes for figure in drawn)
    assert [c.get_label() for c in once.containers] == ['ka']
    assert [c.get_label() for c in alone.containers] == ['at', 'ka']


def test_the_same_run_is_not_noted_twice():
    assert ledger.noted(KA[0], [dict(KA[0], date='later'), *ALONE])
    assert not ledger.noted(KA[0], [dict(KA[0], miou=42.001)])
    assert not ledger.noted(KA[0], [])
    changed = [KA[0], dict(KA[0], settings='x', miou=50.)]
    assert not ledger.noted(KA[0], changed)  # changed back: the last counts
    # of another seed, which a table would leave out beside it
    assert not ledger.noted(KA[1], [KA[1], *changed])
    known = dict(KA[0], unfolded='a', alone='b', made_of='c')
    assert ledger.noted(known, [known]) and ledger.noted(known, [KA[0]])
    for key in ('unfolded', 'alone', 'made_of'):
        assert not ledger.noted({**known, key: 'x'}, [known])


def test_a_line_that_was_cut_off_takes_no_other_with_it(tmp_path):
    path = tmp_path / 'ledger.jsonl'
    ledger.append(str(path), KA[0])
    path.write_text(path.read_text() + '{"method": "k')
    ledger.append(str(path), KA[1])
    with pytest.warns(match='line 2 is left out'):
        assert ledger.read(str(path)) == KA[:2]


def test_a_split_without_a_name_counts_once():
    """The default split is often one of the folds."""
    named = [{**r, 'fold': 'a', 'settings': 's'} for r in ALONE]
    unnamed = [{**r, 'settings': 's'} for r in ALONE]
    ka = [*KA, *({**r, 'fold': 'a'} for r in KA[:2])]
    found, = ledger.compare(named + unnamed + ka)
    assert [key[2] for key in found.keys] == ['a', 'a', None]
    assert sorted(found.gains) == [1., 2., 3.]
    other = [{**r, 'settings': 't'} for r in ALONE]
    found, = ledger.compare(named + other + ka)
    assert len(found.gains) == 5


def test_gains_by_class_are_means_over_the_pairs_that_name_them():
    runs = [
        run('student', 40., 0, iou=dict(sky=50., car=10.)),
        run('student', 40., 1, iou=dict(sky=60., car=20.)),
        run('student', 40., 2),  # an older line, without classes
        run('ka', 41., 0, iou=dict(sky=55., car=8.)),
        run('ka', 41., 1, iou=dict(sky=57., bus=3.)),
        run('ka', 41., 2, iou=[1., 2.])
    ]
    found, = ledger.compare(runs)
    assert ledger.by_class(runs, found) == dict(sky=(56., 55.), car=(8., 10.))


def test_runs_of_other_settings_do_not_mix():
    alone = [{**r, 'settings': 'a'} for r in ALONE]
    old = [{**r, 'settings': 'x', 'alone': 'a'} for r in KA]
    with pytest.warns(match='ka, seed 1, 2: left out, the settings'):
        found, = ledger.compare(alone + old +
                                [run('ka', 50., settings='y', alone='a')])
    assert found.gains == [10.]
    with pytest.warns(match='the student alone has other settings now'):
        found, = ledger.compare([{
            **r, 'settings': 'b'
        } for r in ALONE] + old[:2] + [run('at', 41., settings='z')])
    assert (found.method, found.gains) == ('at', [1.])


def test_runs_of_before_the_settings_of_both_were_noted():
    assert len(ledger.compare(ALONE + KA)[0].gains) == 3


def test_settings_are_those_of_all_folds():

    def folds(runs, *names, **more):
        return [{**r, 'fold': f, **more} for r in runs for f in names]

    runs = folds(ALONE[:1], 'a', 'b') + folds(KA[:1], 'a', 'b', unfolded='x')
    assert len(ledger.compare(runs)[0].gains) == 2
    with pytest.warns(match='ka, seed 0 of b: left out, the settings'):
        found, = ledger.compare(runs + folds(KA[:1], 'a', unfolded='y'))
    assert len(found.gains) == 1


def test_another_teacher_or_data_do_not_mix():
    old = [{**r, 'made_of': 'x'} for r in KA]
    with pytest.warns(match='seed 1, 2: left out, its data or its teacher'):
        found, = ledger.compare(ALONE + old + [{**KA[0], 'made_of': 'y'}])
    assert found.gains == [2.]
