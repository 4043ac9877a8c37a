"""Findings and tables as text."""
import sys
import textwrap
from collections.abc import Iterator, Sequence
from typing import Any

from prettytable import PrettyTable

from seg_kd.doctor.finding import LEVELS, Finding, worst

COLOURS = dict(green='32', yellow='33', red='31')
WIDTH = 79
COLUMNS = dict(
    pairs=('term', 'network', 'path', 'channels', 'size', 'stride',
           'connector'),
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
    """The rows under their headings; of a pair one row for each network."""
    if name == 'pairs':
        rows = [row for pair in rows for row in both(pair)]
    shown = PrettyTable(
        [column.replace(' channels', ' ch.') for column in COLUMNS[name]])
    shown.align = 'l'
    for row in rows:
        shown.add_row([cell(row.get(column)) for column in COLUMNS[name]])
    return f'\n{name}\n{shown}'


def both(pair: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for owner in ('student', 'teacher'):
        values = {
            k: pair[f'{owner} {k}']
            for k in ('channels', 'size', 'stride')
        }
        first = owner == 'student'
        yield dict(values,
                   term=pair['term'] if first else '',
                   network=owner,
                   path=pair[owner],
                   connector=pair['connector'] if first else '')


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
