"""A progress bar that keeps log files short."""
import sys
from collections.abc import Iterable, Iterator

from tqdm import tqdm


def progress(items: Iterable, text: str, total: int | None = None) -> Iterator:
    """Iterate with a bar on stderr; every 10 s where that is a file."""
    pause = 0.1 if sys.stderr.isatty() else 10.
    yield from tqdm(items, text, total, mininterval=pause, maxinterval=pause)
