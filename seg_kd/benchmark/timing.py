"""Time and memory of any work, in turns with other work.

Other load on the machine meets all of them alike; a ratio is the median of the
ratios within one run. On a GPU the times are those of CUDA events.
"""
import os
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], Any]
Times = dict[str, list[float]]
Rows = dict[str, dict[str, float | None]]
Found = tuple[str, Rows, list[str]]  # title, rows, notes
seconds = time.perf_counter


def announced(names: Collection[str]) -> Iterator[str]:
    """The names, each printed on stderr as its turn begins."""
    for k, name in enumerate(names, 1):
        print(f'{k} of {len(names)}: {name}', file=sys.stderr, flush=True)
        yield name


def in_turn(works: dict[str, Work], runs: int, warm_up: int = 2) -> Times:
    """Milliseconds of each run of each work, after some to warm up."""
    clock, found = Clock(), []
    for _ in range(warm_up + runs):
        for name, work in works.items():
            clock.timed(name, work)()
            synchronize()  # the next one starts on an idle GPU
        found.append(clock.read())
    return {name: [run[name] for run in found[warm_up:]] for name in works}


class Clock:
    """Milliseconds of named parts, from their begin to their end."""

    def __init__(self) -> None:
        self.begun: dict[str, Any] = {}
        self.spans: list[tuple[str, Any, Any]] = []

    def begin(self, name: str) -> None:
        self.begun[name] = now()

    def end(self, name: str) -> None:
        self.spans.append((name, self.begun.pop(name), now()))

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """What is done inside, as the part ``name``."""
        self.begin(name)
        yield
        self.end(name)

    def timed(self, name: str, call: Callable) -> Callable:
        """The same call, as the part ``name``."""

        def run(*args, **kwargs):
            with self.part(name):
                return call(*args, **kwargs)

        return run

    def watch(self, name: str, module: nn.Module) -> None:
        """The forward of a module as the part ``name``."""
        module.register_forward_pre_hook(lambda *_: self.begin(name))
        module.register_forward_hook(lambda *_: self.end(name), prepend=True)

    def read(self) -> dict[str, float]:
        """The time of each part since the last call, summed over its runs."""
        synchronize()
        found: dict[str, float] = defaultdict(float)
        for name, begin, end in self.spans:
            found[name] += elapsed(begin, end)
        self.spans.clear()
        return found


def count_processor_time() -> None:
    """From now on, on a CPU: what waits, or stands still, takes no time."""
    global seconds
    seconds = time.process_time


def now() -> Any:
    """A point in time: on a GPU when it gets here, not when it is told to."""
    if not torch.cuda.is_available():
        return seconds()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def elapsed(begin: Any, end: Any) -> float:
    """Milliseconds between two points; a GPU must have reached both."""
    if torch.cuda.is_available():
        return begin.elapsed_time(end)
    return 1e3 * (end - begin)


def synchronize() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def summary(times: Times, references: Sequence[str]) -> Rows:
    """Median, extremes, and ratios to the rows that are references."""
    rows: Rows = {}
    for name, taken in times.items():
        rows[name] = {f'{f.__name__} ms': f(taken) for f in (median, min, max)}
        for other in references:
            ratios = [a / b for a, b in zip(taken, times.get(other, []))]
            rows[name][f'time / {other}'] = median(ratios) if ratios else None
    return rows


def peak_mib(work: Work) -> float:
    """What the allocator holds at the peak, above what it held before."""
    if torch.cuda.is_available():
        synchronize()  # for who takes the time of this
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
        synchronize()
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # it chats on stderr
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as p:
        work()
    held = peak = 0
    for event in p.profiler.kineto_results.events():
        if event.name() == '[memory]':
            held += event.nbytes()
            peak = max(peak, held)
    return peak / 2**20


def times_sign(size: Sequence[int]) -> str:
    return 'x'.join(map(str, size))
