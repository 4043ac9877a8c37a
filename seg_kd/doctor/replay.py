"""One batch again, as training saved it when a loss was no longer finite."""
from collections.abc import Callable, Iterator
from typing import Any

from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor

from seg_kd.doctor.checks.numbers import losses, networks
from seg_kd.doctor.experiment import Experiment
from seg_kd.doctor.finding import Finding, green, listed, red, yellow
from seg_kd.engine.dumped import parse_dumped
from seg_kd.engine.hooks import SeedHook
from seg_kd.errors import UserError
from seg_kd.hooks.student import StudentHook
from seg_kd.networks.checkpoint import read_checkpoint
from seg_kd.networks.finite import bad_images, bad_weights, finite

KEYS = 'config', 'stage', 'iteration', 'culprit', 'batch', 'model'


def read(path: str) -> dict[str, Any]:
    """What training saved.

    Raises:
        UserError: The file is missing, damaged, or something else.
    """
    saved = read_checkpoint(path)
    missing = [key for key in KEYS if key not in saved]
    batch = saved.get('batch')
    if not missing and isinstance(batch, dict):
        missing = [
            f'batch.{k}' for k in ('inputs', 'labels', 'metainfo')
            if k not in batch
        ]
    if missing:
        raise UserError(f'{path} is no batch that training saved: it has no '
                        f'{listed(missing)}; it writes one where a loss '
                        'becomes NaN')
    return saved


def replay(saved: dict[str, Any],
           folder: str,
           explain: Callable | None = None) -> tuple[Experiment, Iterator]:
    """The experiment of a saved batch, and what is found there.

    Args:
        saved: See :func:`read`.
        folder: For what has to be written.
        explain: From an exception to a line.
    """
    cfg = parse_dumped(saved['config'], 'the batch that training saved')
    stage = saved['stage'] if cfg.get('stages') else None
    experiment = Experiment(cfg, folder, stage=stage, explain=explain)
    return experiment, _found(experiment, saved)


def _found(experiment: Experiment, saved: dict) -> Iterator[Finding]:
    said = f'iteration {saved["iteration"]}, {saved["culprit"]}'
    for finding in _looked(experiment, saved, said):
        finding.check = finding.check or 'replay'
        yield finding
    yield from experiment.problems


def _looked(experiment: Experiment, saved: dict,
            said: str) -> Iterator[Finding]:
    made = experiment.attempt('replay', lambda e: set_back(e, saved))
    if made is not True:
        return
    metas = saved['batch']['metainfo']
    names = [m.get('img_path', f'image {k}') for k, m in enumerate(metas)]
    images = bad_images([image.float() for image in saved['batch']['inputs']])
    if images:
        yield red(f'{said}: NaN or Inf in {listed(names[k] for k in images)}',
                  'mend the file, or the transform that makes it so')
    weights = {
        owner: bad_weights(network)
        for owner, network in networks(experiment).items()
    }
    for owner, bad in weights.items():
        if bad:
            yield red(
                f'{said}: {len(bad)} weights of the {owner} are not finite: '
                f'{listed(bad, 3)}',
                'the step before has made them so: lower the learning rate, '
                'or clip the gradient (optim_wrapper.clip_grad)')
    result = experiment.attempt('replay',
                                lambda e: losses(e, batch_of(saved['batch'])))
    if not isinstance(result, tuple):
        return
    yield from told(said, names, *result)


def told(said: str, names: list[str], values: dict[str, Tensor],
         first: Any) -> Iterator[Finding]:
    bad = [name for name, value in values.items() if not finite(value)]
    shown = ', '.join(f'{name} {value.mean().item():.3g}'
                      for name, value in values.items())
    if first.layer:
        which = [names[k] for k in first.images if k < len(names)]
        yield red(
            f'{said}: the first layer that is not finite is {first.layer}'
            f'{f", with {listed(which)}" if which else ""}; the losses: '
            f'{shown}', 'look at its weights and at what it gets')
    elif bad:
        yield red(
            f'{said}: all layers are finite, not so the losses {listed(bad)}: '
            f'{shown}', 'it is the loss itself: see its arguments and weight')
    else:
        yield yellow(
            f'{said}: all is finite when it is run again: {shown}',
            'the largest is the one to look at: lower its weight or the '
            'learning rate; in mixed precision compare with float32')
    yield green(f'images of the batch: {listed(names)}')


def set_back(experiment: Experiment, saved: dict[str, Any]) -> bool:
    """Weights, iteration and generators are those of that moment."""
    runner = experiment.runner
    experiment.start_from(saved['model'])
    runner.train_loop._iter = saved['iteration'] - 1  # the log's are from 1
    for hook in runner.hooks:
        if isinstance(hook, (SeedHook, StudentHook)):
            hook.before_train_iter(runner)
    return True


def batch_of(saved: dict[str, Any]) -> dict[str, Any]:
    """The batch as the loader gave it."""
    samples = []
    for label, meta in zip(saved['labels'], saved['metainfo']):
        sample = SegDataSample(metainfo=meta)
        if label is not None:
            sample.gt_sem_seg = PixelData(data=label.long()[None])
        samples.append(sample)
    return dict(inputs=list(saved['inputs']), data_samples=samples)
