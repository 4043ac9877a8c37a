"""The list of breaks does not rot: each still breaks one place."""
import ast

import pytest
from breaks import ROOT, read


def test_each_break_applies_once_and_can_be_compiled():
    found = read()
    assert len(found) > 150
    wrong = []
    for one in found:
        try:
            assert one.old != one.new, one.place
            ast.parse(one.broken(ROOT))
        except (ValueError, OSError, SyntaxError) as error:
            wrong.append(f'{one.place}: {error}')
    assert not wrong, '\n'.join(wrong)


def test_the_tests_that_should_notice_are_there():
    for one in read():
        for test in one.tests:
            file, _, name = test.partition('::')
            text = (ROOT / file).read_text(encoding='utf-8')
            assert f'def {name.partition("[")[0]}' in text, one.place


@pytest.mark.parametrize('old, words', [
    ('return 1', '2 times'),
    ('return 2', '0 times'),
])
def test_what_does_not_apply_is_named_by_its_line(tmp_path, old, words):
    (tmp_path / 'code.py').write_text('return 1\nreturn 1\n')
    (tmp_path / 'some.txt').write_text(
        f'# of code\n\ncode.py: it\n- {old}\n+ pass\ntests/test_code.py\n')
    one, = read(tmp_path)
    with pytest.raises(ValueError, match=f'some.txt:3: .*{words} in code.py'):
        one.broken(tmp_path)


def test_an_entry_without_tests_is_named(tmp_path):
    (tmp_path / 'some.txt').write_text('code.py: it\n- a\n+ b\n')
    with pytest.raises(ValueError, match='some.txt:1'):
        read(tmp_path)
