"""Checks that all numbers are finite, and what the first one is that is not.
"""
from collections.abc import Iterator

import torch
from torch import Tensor, nn

from seg_kd.doctor.experiment import Experiment, Missing, copied
from seg_kd.doctor.finding import Finding, check, green, listed, red
from seg_kd.networks.finite import (FirstBad, bad_images, bad_weights, finite,
                                    tensors)


@check
def finite_images(experiment: Experiment) -> Iterator[Finding]:
    """No image has a NaN."""
    bad = sorted({
        names[k]
        for images, names in zip(experiment.images, experiment.paths)
        for k in bad_images(images)
    })
    if bad:
        yield red(f'NaN or Inf in {len(bad)} images: {listed(bad, 3)}',
                  'mend the files, or the transform that makes them so')


@check
def finite_weights(experiment: Experiment) -> Iterator[Finding]:
    """No network has a NaN."""
    for owner, network in networks(experiment).items():
        bad = bad_weights(network)
        if bad:
            yield red(
                f'NaN or Inf in {len(bad)} weights of the {owner}: '
                f'{listed(bad, 3)}',
                'its checkpoint is of a run that diverged: take another')


@check
def finite_losses(experiment: Experiment) -> Iterator[Finding]:
    """Neither the task nor a term is NaN."""
    for batch, names in zip(experiment.batches, experiment.paths):
        made = experiment.attempt('finite losses',
                                  lambda e: losses(e, copied(batch)))
        if isinstance(made, Missing):
            raise made
        found, first = made
        bad = [name for name, value in found.items() if not finite(value)]
        if not bad:
            continue
        if first.layer:
            images = [names[k] for k in first.images if k < len(names)]
            yield red(
                f'not finite: {listed(bad)}; the first layer that is not is '
                f'{first.layer}'
                f'{f", with {listed(images, 2)}" if images else ""}',
                'look at its weights and at what it gets')
        else:
            yield red(f'not finite, though all layers are: {listed(bad)}',
                      'it is the loss itself: see its arguments and weight')
        return
    yield green('images, weights and losses are finite')


def losses(experiment: Experiment,
           batch: dict) -> tuple[dict[str, Tensor], FirstBad]:
    """The losses of a batch in training mode, and what is not finite."""
    runner, first = experiment.runner, FirstBad()
    model = experiment.model
    distils = runner.distiller is not None and experiment.distils
    if distils:
        runner.student_hook.before_train(runner)
    try:
        with first.watching(**networks(experiment)):
            model.train()
            found = model(**model.data_preprocessor(batch, True), mode='loss')
    finally:
        if distils:
            runner.student_hook.after_train(runner)
    return {
        name: torch.stack([*tensors(value)]).detach()
        for name, value in found.items() if 'loss' in name
    }, first


def networks(experiment: Experiment) -> dict[str, nn.Module]:
    """The student and its teachers."""
    distiller = experiment.runner.distiller
    teachers = distiller.teachers if distiller is not None else {}
    return dict(student=experiment.model,
                **{
                    name: t.network
                    for name, t in teachers.items()
                })
