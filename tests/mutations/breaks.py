"""Small breaks of the product, each of which some test must notice.

They are listed in the ``*.txt`` beside this file, with an empty line between::

    seg_kd/losses/kd.py: the temperature is not squared
    - divergence.mul_(self.temperature**2)
    + divergence.mul_(self.temperature)
    tests/test_losses/test_kd.py

First the file and what is broken; the text that is there once, and what takes
its place, each of one line or several; the test files, or tests, that should
notice. What begins with ``#`` is a comment.
"""
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass
class Break:
    """One of them.

    Args:
        place: Of its entry, for messages: ``losses.txt:12``.
        file: That is broken, from the root of the repository.
        what: Is broken.
        old: Text that is in the file, once.
        new: What takes its place.
        tests: That should notice.
    """
    place: str
    file: str
    what: str
    old: str
    new: str
    tests: list[str]

    def __str__(self) -> str:
        return f'{self.file}: {self.what}'

    def broken(self, root: Path) -> str:
        """The text of the file with the break in it.

        Raises:
            ValueError: The text is not there once.
        """
        text = (root / self.file).read_text(encoding='utf-8')
        if (found := text.count(self.old)) != 1:
            raise ValueError(f'{self.place}: what is to be broken is '
                             f'{found} times in {self.file}, not once')
        return text.replace(self.old, self.new)


def read(folder: Path = HERE) -> list[Break]:
    """All breaks of the lists in a folder."""
    return [one for path in sorted(folder.glob('*.txt')) for one in _of(path)]


def _of(path: Path) -> Iterator[Break]:
    number, text = 1, path.read_text(encoding='utf-8')
    for block in re.split(r'(\n{2,})', text):
        lines = [x for x in block.split('\n') if x and not x.startswith('#')]
        if lines:
            skipped = block.split('\n').index(lines[0])
            yield _entry(f'{path.name}:{number + skipped}', lines)
        number += block.count('\n')


def _entry(place: str, lines: list[str]) -> Break:
    file, colon, what = lines[0].partition(': ')
    old, new = ('\n'.join(x[2:] for x in lines[1:] if x.startswith(sign))
                for sign in ('- ', '+ '))
    tests = [x for x in lines[1:] if x[:2] not in ('- ', '+ ')]
    if not (colon and old and tests):
        raise ValueError(f'{place}: a break has a file, what is broken, a '
                         'text and tests')
    return Break(place, file, what, old, new, tests)
