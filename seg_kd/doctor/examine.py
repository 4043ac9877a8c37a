"""Runs the checks on an experiment."""
from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from seg_kd.doctor.checks import cost, in_order, taps, terms
from seg_kd.doctor.experiment import Experiment, Missing, one_line
from seg_kd.doctor.finding import Finding, worst, yellow
from seg_kd.errors import UserError


def examine(experiment: Experiment) -> Iterator[Finding]:
    """What each check finds, in order; what it needs is built on the way.

    A part that cannot be built is one red finding, and the checks that need
    it are left out.
    """
    told = 0
    for one in in_order():
        found, name = [], one.__name__.replace('_', ' ')
        try:
            for finding in one(experiment):
                found.append(finding)
        except Missing:
            pass
        except UserError as error:
            experiment.note(name, error)
        except Exception as error:  # one check that fails hides no other
            found.append(
                yellow(
                    f'this check failed itself: '
                    f'{one_line(error, experiment.explain)}',
                    'please report it, with the config'))
        yield from experiment.problems[told:]
        told = len(experiment.problems)
        for finding in found:
            finding.check = name
            yield finding


def tables(experiment: Experiment, layers: bool = False) -> dict[str, list]:
    """Rows of what is compared and of what it weighs, where that is there.

    Args:
        experiment: Examined or not.
        layers: With the layers that could be tapped as well.
    """
    makers = dict(pairs=taps.pairs, terms=terms.measured)
    if layers:
        makers['layers'] = taps.layers
        makers['suggested'] = lambda e: taps.suggested(taps.layers(e))
    found: dict[str, list] = {}
    for name, make in makers.items():
        rows = experiment.attempt(name, make)
        if not isinstance(rows, Missing):
            found[name] = rows
    return found


def report(experiment: Experiment, findings: list[Finding],
           rows: dict[str, list]) -> dict[str, Any]:
    """All of it as JSON takes it."""
    found = experiment.attempt('cost', cost.costs)
    return dict(level=worst(findings),
                config=experiment.whole.filename,
                stage=experiment.name or None,
                findings=[asdict(finding) for finding in findings],
                costs={} if isinstance(found, Missing) else found,
                **rows)
