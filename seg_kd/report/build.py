"""From folders and a ledger to the sections of a page."""
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress

from seg_kd.analysis import ledger
from seg_kd.analysis.ledger import PAIR, Run
from seg_kd.errors import UserError
from seg_kd.report import experiments, looks
from seg_kd.report.networks import load
from seg_kd.report.page import Section
from seg_kd.report.runs import Found, find_runs

NO_RUNS = 'a ledger has no networks; give the folders of the runs.'


def build(folders: Sequence[str], path: str | None, checkpoints: Mapping[str,
                                                                         str],
          count: int) -> tuple[str, list[Section]]:
    """Title and sections of a report.

    Args:
        folders: Of runs, each of one or of several.
        path: A ledger.
        checkpoints: Others than the newest ones, by the names of runs.
        count: Images to look at.

    Raises:
        UserError: There is nothing to report, a checkpoint is named for no
            run, or the runs do not go together.
    """
    say('logs')
    entries, notes = read_ledger(path) if path else ([], [])
    noted = [*entries, *ledgers_in(folders, path)]
    runs = find_runs(folders, *noted) if folders else []
    check_names(checkpoints, runs)
    entries = together(entries, runs)
    first = experiments.sections(runs, entries, notes)
    networks, problem = None, NO_RUNS
    if runs:
        say('networks')
        try:
            networks = load(runs, checkpoints, count)
        except UserError as error:
            problem = str(error)
    second = looks.sections(networks, problem, say)
    names = dict.fromkeys(entry['experiment'] for entry in entries)
    names = names or dict.fromkeys(run.experiment for run in runs)
    order = {section.key: section for section in [*first, *second]}
    last = [order.pop('costs'), order.pop('settings')]
    return f'Distillation: {", ".join(names)}', [*order.values(), *last]


def say(text: str) -> None:
    print(f'report: {text}', file=sys.stderr, flush=True)


def read_ledger(path: str) -> tuple[list[Run], list[str]]:
    """Its runs, and what is wrong with it: also said on stderr."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        found = ledger.read(path)
    notes = [str(warning.message) for warning in caught]
    for note in notes:
        say(note)
    return found, notes


def ledgers_in(folders: Sequence[str], read: str | None = None) -> list[Run]:
    """What ``seg-kd compare`` has noted there; nothing of a damaged one.

    ``read`` is a ledger that has been read already.
    """
    noted: list[Run] = []
    for folder in folders:
        path = os.path.join(folder, 'ledger.jsonl')
        if os.path.isfile(path) and not (read
                                         and os.path.samefile(path, read)):
            with suppress(UserError):
                noted += read_ledger(path)[0]
    return noted


def together(entries: Sequence[Run], runs: Sequence[Found]) -> list[Run]:
    """Those of the ledger and of the folders, each once: the latter count."""
    found = {(run['method'], *(run[k] for k in PAIR)): run for run in entries}
    for run in runs:
        entry = run.entry()
        if entry:
            found[(entry['method'], *(entry[k] for k in PAIR))] = entry
    return list(found.values())


def check_names(checkpoints: Mapping[str, str], runs: Sequence[Found]) -> None:
    known = {'teacher'}.union(*(run.called for run in runs))
    for name in checkpoints:
        if name not in known:
            raise UserError(f'--checkpoint {name}=...: no run is called so; '
                            f'there are: {", ".join(sorted(known))}')
