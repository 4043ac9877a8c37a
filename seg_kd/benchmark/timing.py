"""Time and memory of any work, beside others that take turns with it.

Other load on the machine meets all of them alike; a ratio is the median of the
ratios within one run.
"""
import os
import time
from statistics import median
from typing import Any, Callable, Dict, List, Optional, Sequence

import torch
from torch.profiler import ProfilerActivity, profile

Work = Callable[[], Any]
Times = Dict[str, List[float]]
Rows = Dict[str, Dict[str, Optional[float]]]


def in_turn(works: Dict[str, Work], runs: int, warm_up: int = 2) -> Times:
    """Milliseconds of each run of each work, after some to warm up."""
    times: Times = {name: [] for name in works}
    for _ in range(warm_up + runs):
        for name, work in works.items():
            synchronize()
            start = time.perf_counter()
            work()
            synchronize()
            times[name].append(1e3 * (time.perf_counter() - start))
    return {name: taken[warm_up:] for name, taken in times.items()}


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
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        work()
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
