"""What each term is worth: its value, its pull at the student, its weight."""
import inspect
from collections.abc import Iterator
from math import isfinite
from statistics import mean
from typing import Any

from torch import Tensor

from seg_kd.analysis.gradients import at_full_weight, forwards
from seg_kd.distiller import Term, paths
from seg_kd.doctor.experiment import Experiment, copied
from seg_kd.doctor.finding import Finding, check, green, red, yellow
from seg_kd.networks.auto_weight import grad_norm, total

TOO_STRONG, STRONG, WEAK = 100., 10., 1e-3  # pulls, in those of the task

Row = dict[str, Any]


@check
def terms(experiment: Experiment) -> Iterator[Finding]:
    """Each term pulls at the student, about as hard as the task."""
    if not experiment.trains_student:
        return
    for row in measured(experiment):
        yield from judged(row)
    if experiment.untrained:
        yield green(
            f'measured before {" and ".join(experiment.untrained)} had been '
            'trained: look again afterwards, with --work-dir')


def judged(row: Row) -> Iterator[Finding]:
    name, pull = row['term'], row['pull']
    less = row['suggested']
    if not isfinite(row['value'] + row['gradient']):
        return  # check finite_losses says where it comes from
    if row['weight'] == 0:
        yield yellow(f'{name} has weight 0: it is computed for nothing',
                     f'give it a weight ({less}) or leave its hook out')
    elif row['task'] == 0:
        yield red(
            f'{name}: the task does not depend on the map {row["map"]}',
            'what is distilled there does not reach the output: tap a layer '
            'that the student\'s head uses (--layers)')
    elif row['gradient'] == 0:
        yield red(
            f'{name} has no gradient at {row["map"]}: it pulls at '
            'nothing', 'see that its taps, mask and arguments are right')
    elif pull is None:  # there is no task, or it is not finite
        yield green(f'{name} is {row["value"]:.3g}; there is no task to '
                    'compare its pull with')
    else:
        said = (f'{name} is {row["value"]:.3g} and pulls {pull:.3g} times as '
                f'hard as the task at {row["map"]}')
        if row['weight'] == 'auto' or WEAK <= pull <= STRONG:
            yield green(f'{said}; as hard: {less}')
        elif pull > TOO_STRONG:
            yield red(said, f'lower its weight; as hard as the task: {less}')
        elif pull > STRONG:
            yield yellow(said, f'is that wanted? As hard: {less}')
        else:
            yield yellow(said, f'it hardly counts; as hard: {less}')


def measured(experiment: Experiment) -> list[Row]:
    """A row for each loss that a term adds; made once.

    Each term is measured at weight 1 and at once, whatever its schedule: its
    weight then is what ``weight='auto'`` would find for an equal pull.
    """
    return experiment.once('terms', 'terms', _measured)


def _measured(experiment: Experiment) -> list[Row]:
    runner, distiller = experiment.runner, experiment.distiller
    experiment.distils, experiment.model
    settings = {term: dict(vars(term)) for term in distiller.terms}
    for term in distiller.terms:
        at_full_weight(term)
        term.weight = 1.
    losses = []
    try:
        batches = map(copied, experiment.batches)
        for found, maps in forwards(runner, batches):
            losses.append(one_batch(distiller.terms, found, maps))
    finally:
        for term, before in settings.items():
            vars(term).update(before)
    return [
        summed(term, name, losses, distiller.parts[term.name])
        for term in distiller.terms for name in losses[0][term]
    ]


def one_batch(terms: list[Term], losses: dict[str, Tensor],
              maps: dict[str, Tensor]) -> dict[Term, dict[str, dict]]:
    """Of each term's losses: value, its gradient's norm and the task's."""
    own = {term: entries(term, losses) for term in terms}
    names = {name for found in own.values() for name in found}
    task = total({k: v for k, v in losses.items() if k not in names})
    found: dict[Term, dict[str, dict]] = {}
    for term, values in own.items():
        at = [maps[p] for p in paths(term.student)]
        pull = grad_norm(task, at).item() if task.requires_grad else None
        found[term] = {
            name:
            dict(value=value.mean().item(),
                 gradient=grad_norm(value.mean(), at).item(),
                 task=pull)
            for name, value in values.items()
        }
    return found


def entries(term: Term, losses: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of the losses that a term has added."""
    key = f'loss_{term.name}'
    return {
        name: value
        for name, value in losses.items()
        if name == key or name.startswith(f'{key}_')
    }


def summed(term: Term, name: str, losses: list[dict], loss: Any) -> Row:
    found = [one[term][name] for one in losses]
    short = name.removeprefix('loss_')
    inner = short.removeprefix(term.name).lstrip('_')
    gradient = mean(f['gradient'] for f in found)
    tasks = [f['task'] for f in found]
    task = None if None in tasks else mean(tasks)
    weight = term.weight
    equal = pull = None
    if task and gradient:
        equal = task / gradient  # as AutoWeight: a ratio of sums
        pull = term.auto_ratio if weight == 'auto' else weight / equal
    factor = equal if weight == 'auto' else weight
    return dict(term=f'{term.name}.{inner}' if inner else short,
                map=', '.join(paths(term.student)),
                value=mean(f['value'] for f in found) * (factor or 0.),
                gradient=gradient,
                task=task,
                weight=weight,
                pull=pull,
                suggested=advice(term, inner, loss, equal, pull))


def advice(term: Term, inner: str, loss: Any, equal: float | None,
           pull: float | None) -> str:
    """The setting with which it pulls as hard as the task."""
    if equal is None:
        return "weight='auto'"
    if not inner:
        return f'weight={equal:.3g}'
    key = f'{inner}_weight'  # a loss of several parts may have one for each
    known = inspect.signature(type(loss)).parameters
    if key in known and pull:
        now = term.arguments.get(key, known[key].default)
        return f'{key}={now / pull:.3g}'
    return f'weight={equal:.3g}'
