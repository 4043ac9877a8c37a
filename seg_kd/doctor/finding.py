"""What a check says, and the list of checks."""
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

LEVELS = 'green', 'yellow', 'red'


@dataclass
class Finding:
    """One line on one thing.

    Attributes:
        level: ``'green'``, ``'yellow'`` or ``'red'``.
        what: What there is, on one line.
        do: What to do about it, on one line.
        check: Name of the check that found it.
    """
    level: str
    what: str
    do: str = ''
    check: str = ''


def green(what: str) -> Finding:
    return Finding('green', what)


def yellow(what: str, do: str) -> Finding:
    return Finding('yellow', what, do)


def red(what: str, do: str) -> Finding:
    return Finding('red', what, do)


def worst(findings: Iterable[Finding]) -> str:
    """The worst level; ``'green'`` where there is nothing."""
    return max((f.level for f in findings), key=LEVELS.index, default='green')


Check = Callable[[Any], Iterable[Finding]]
CHECKS: list[Check] = []


def check(function: Check) -> Check:
    """Adds a function to the checks; its name is what it is called."""
    CHECKS.append(function)
    return function


def listed(names: Iterable[Any], most: int = 6) -> str:
    """``'a, b, c and 4 more'``."""
    found = [str(name) for name in names]
    more = f' and {len(found) - most} more' if found[most:] else ''
    return ', '.join(found[:most]) + more
