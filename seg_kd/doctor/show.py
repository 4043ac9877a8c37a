"""Findings and tables as text."""
import sys
import textwrap
from collections.abc import Sequence
from typing import Any

from prettytable import PrettyTable

from seg_kd.doctor.finding import LEVELS, Finding, worst

COLOURS = dict(green='32', yellow='33', red='31')
WIDTH = 79
COLUMNS = dict(
    pairs=('term', 'student', 'student channels', 'student size',
           'student stride', 'teacher', 'teacher channels', 'teacher size',
           'teacher stride', 'connector'),
    terms=('term', 'map', 'value', 'pull', 'suggested'),
    layers=('stride', 'student', 'student channels', 'teacher',
            'teacher channels'),
    suggested=('student', 'student channels', 'student stride', 'teacher',
               'teacher channels', 'teacher stride'),
)


def line(finding: Finding) -> str:
    """``[level] check: what``, and below it what to do."""
    level = f'[{finding.level}]'
    text = textwrap.fill(f'{level:8} {finding.check}: {finding.what}',
                         WIDTH,
                         subsequent_indent=' ' * 9,
                         break_on_hyphens=False,
                         break_long_words=False)
    if finding.do:
        text += '\n' + textwrap.fill(f'-> {finding.do}',
                                     WIDTH,
                                     initial_indent=' ' * 9,
                                     subsequent_indent=' ' * 12,
                                     break_on_hyphens=False,
                                     break_long_words=False)
    if sys.stdout.isatty():
        colour = f'\033[{COLOURS[finding.level]}m'
        text = text.replace(level, f'{colour}{level}\033[0m', 1)
    return text


def table(name: str, rows: Sequence[dict[str, Any]]) -> str:
    """The rows under their headings."""
    shown = PrettyTable(COLUMNS[name])
    shown.align = 'l'
    for row in rows:
        shown.add_row([cell(row.get(column)) for column in COLUMNS[name]])
    return str(shown)


def cell(value: Any) -> str:
    if value is None:
        return '-'
    return f'{value:.3g}' if isinstance(value, float) else str(value)


def summary(findings: Sequence[Finding]) -> str:
    """How many there are of each level."""
    counts = {
        level: sum(f.level == level for f in findings)
        for level in LEVELS
    }
    said = dict(green='Nothing stands in the way.',
                yellow='Look at the yellow ones.',
                red='Mend the red ones first.')[worst(findings)]
    return f'{", ".join(f"{n} {level}" for level, n in counts.items())}. ' + \
        said
