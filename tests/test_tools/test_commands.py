"""``seg-kd``: its help, its names, its errors; tools/*.py are the same."""
import argparse
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seg_kd import cli
from seg_kd.commands.prepare_data import ROOTS
from seg_kd.datasets.sources import SOURCES
from seg_kd.errors import UserError

ROOT = Path(__file__).parents[2]
PARTS = [
    *cli.COMMANDS, 'benchmark step', 'benchmark inference',
    *(f'prepare-data {kind}' for kind in (*ROOTS, 'check'))
]


def parser_of(name):
    """Of a command, or of a part of one."""
    first, *part = name.split()
    module = importlib.import_module(
        f'seg_kd.commands.{first.replace("-", "_")}')
    parser = cli.parser_of(first, module)
    for name in part:
        inner = next(a for a in parser._actions
                     if isinstance(a, argparse._SubParsersAction))
        parser = inner.choices[name]
    return parser


@pytest.mark.parametrize('name', PARTS)
def test_help_fits_a_screen_and_leaves_nothing_out(name, monkeypatch):
    monkeypatch.setenv('COLUMNS', '80')
    parser = parser_of(name)
    assert len(parser.format_help().splitlines()) <= 30
    assert parser.prog == f'seg-kd {name}'
    for action in parser._actions:
        if not isinstance(action, argparse._SubParsersAction):
            assert action.help, action.dest
    assert any(a.dest == 'traceback' for a in parser._actions)


def test_help_imports_nothing_that_takes_long():
    code = ('import sys\n'
            'from seg_kd import cli\n'
            f'for name in {list(cli.COMMANDS)}:\n'
            '    try:\n'
            '        cli.main([name, "--help"])\n'
            '    except SystemExit as end:\n'
            '        assert end.code == 0\n'
            'slow = {"torch", "mmengine", "mmseg", "mmcv", "cv2", "numpy",\n'
            '        "matplotlib"}\n'
            'assert not slow & sys.modules.keys(), slow & sys.modules.keys()')
    done = subprocess.run([sys.executable, '-c', code],
                          env={
                              **os.environ, 'PYTHONPATH': str(ROOT)
                          },
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count('--traceback') == len(cli.COMMANDS)


def test_the_overview_names_every_command(capsys):
    assert cli.main([]) == cli.main(['--help']) == 0
    shown = capsys.readouterr().out
    for name in cli.COMMANDS:
        assert shown.count(f'\n  {name} ') == 2


def test_an_unknown_command(capsys):
    assert cli.main(['trian']) == 2
    assert "'trian'; did you mean train" in capsys.readouterr().err


def test_each_tool_calls_its_command():
    tools = {path.stem: path.read_text() for path in ROOT.glob('tools/*.py')}
    assert len(tools) == 13
    for name, text in tools.items():
        assert name.replace('_', '-') in cli.COMMANDS
        assert f"cli.tool('{name.replace('_', '-')}')" in text


def test_data_sets_have_one_list():
    assert ROOTS == {name: source.root for name, source in SOURCES.items()}


def test_what_one_line_hides_is_shown_on_demand(capsys):

    def fail():
        raise UserError('wrong')

    assert cli.run(fail) == 2
    assert capsys.readouterr().err == 'error: wrong\n'
    assert cli.run(fail, traceback_too=True) == 2
    shown = capsys.readouterr().err
    assert 'in fail' in shown and shown.endswith('\nerror: wrong\n')


def test_the_option_reaches_it(capsys):
    assert cli.main(['train', 'nothing', '--traceback']) == 2
    shown = capsys.readouterr().err
    assert 'Traceback' in shown and 'in find' in shown


def test_interrupted(capsys):

    def interrupt(*where):
        raise KeyboardInterrupt(*where)

    assert cli.run(interrupt) == 2
    assert capsys.readouterr().err == 'error: interrupted\n'
    assert cli.run(lambda: interrupt(' at 3 of 6'), go_on='go on') == 2
    assert capsys.readouterr().err == 'error: interrupted at 3 of 6; go on\n'


def test_the_command_that_goes_on(monkeypatch, capsys):
    """As it was typed, for a shell; with --resume where it takes that."""

    def interrupt(args):
        raise KeyboardInterrupt

    calls = [('train', ['a b.py'], "seg-kd train 'a b.py' --resume"),
             ('train', ['--resume', 'a.py'], 'seg-kd train --resume a.py'),
             ('demo', [], 'seg-kd demo'), ('configs', [], None)]
    for name, rest, said in calls:
        monkeypatch.setattr(f'seg_kd.commands.{name}.run', interrupt)
        assert cli.main([name, *rest]) == 2
        line = f'; go on with: {said}' if said else ''
        assert capsys.readouterr().err == f'error: interrupted{line}\n'


def test_errors_of_the_file_system_name_the_file(capsys, tmp_path):
    assert cli.run(lambda: os.makedirs(tmp_path)) == 2
    assert capsys.readouterr().err == (
        f'error: {tmp_path}: File exists; --traceback shows where\n')


def test_a_mistake_of_ours_is_not_hidden():
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 / 0)
