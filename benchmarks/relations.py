"""What relation losses cost at several numbers of positions."""
import time
from collections.abc import Sequence

from losses import FORMS, WORKS, Size, forms

from seg_kd.benchmark import Rows, in_turn, peak_mib, summary

# All positions are instances; affinity's are those of one image, as here.
RELATIONS = ('affinity', 'sp all', 'cckd bilinear', 'pkt all', 'rkd all',
             'cckd all')
SLOW = 2.  # seconds, from which on one run has to do


def relation_row(name: str, positions: int, naive: int, channels: int,
                 runs: int) -> dict:
    """Times, memory and ratios, forward and backward.

    The naive form is next to it up to ``naive`` positions; the run that
    measures memory warms up.
    """
    works, _ = forms(WORKS[name], Size(1, channels, 1, positions, 1), None)
    if positions > naive:
        del works['naive']
    start = time.perf_counter()
    memory = {form: peak_mib(work) for form, work in works.items()}
    if time.perf_counter() - start > SLOW:
        runs = 1
    times = summary(in_turn(works, runs, 0), ['ours'])
    row: dict = {}
    for form in FORMS[:2]:
        found = times.get(form, {})
        row[f'{form} ms'] = found.get('median ms')
        row[f'{form} min'] = found.get('min ms')
        row[f'{form} max'] = found.get('max ms')
        row[f'{form} MiB'] = memory.get(form)
    row['naive x time'] = times.get('naive', {}).get('time / ours')
    row['naive x MiB'] = None
    if 'naive' in memory:
        row['naive x MiB'] = memory['naive'] / memory['ours']
    return row


def foresee(rows: Rows, name: str, positions: Sequence[int]) -> list[str]:
    """What the naive form would hold at the most positions, if left out."""
    most = max(positions)
    done = [n for n in positions if rows[f'{name} {n}']['naive MiB']]
    if done and max(done) < most:
        known = rows[f'{name} {max(done)}']['naive MiB']
        gib = known * (most / max(done))**2 / 1024
        return [
            f'{name}, naive: left out beyond {max(done)} positions; '
            f'at {most}, square growth makes it {gib:.0f} GiB'
        ]
    return []
