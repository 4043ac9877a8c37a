"""Checks of the student's weights, and of what trains."""
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from seg_kd.doctor.checks.images import MEAN
from seg_kd.doctor.experiment import Experiment, Missing, one_line
from seg_kd.doctor.finding import Finding, check, green, listed, red, yellow
from seg_kd.networks.checkpoint import DISTILL, weights
from seg_kd.networks.normalization import normalization
from seg_kd.registry import as_list

FEW = .5  # part of the weights


@check
def student_weights(experiment: Experiment) -> Iterator[Finding]:
    """What the student starts from is loaded."""
    model = experiment.model
    sources = list(pretrained(model))
    given = experiment.runner.cfg.get('load_from')
    if given:
        sources.append(('', model, given, None))
    try:
        experiment.initialized
    except Missing:  # a finding already
        return
    for name, module, source, prefix in sources:
        owner = name or 'the student'
        try:
            state = CheckpointLoader.load_checkpoint(source, 'cpu', 'silent')
        except Exception as error:
            yield red(f'{owner}: {one_line(error)}',
                      'see to it that this checkpoint is there')
            continue
        yield from compared(owner, module, weights(state),
                            experiment.named(source), prefix)
        if name and 'caffe' not in str(source):
            yield from convention(model, owner, source)
    if not sources and experiment.trains_student:
        yield green('the student starts from random weights, as the config '
                    'says')


def pretrained(model: nn.Module) -> Iterator[tuple[str, Any, str, Any]]:
    """(name, module, checkpoint, prefix) where a config names weights."""
    for name, module in model.named_modules():
        for init in as_list(getattr(module, 'init_cfg', None)):
            if str(init.get('type')).endswith('Pretrained'):
                yield name, module, init['checkpoint'], init.get('prefix')


def compared(owner: str, module: nn.Module, state: dict[str, Tensor],
             source: str, prefix: str | None) -> Iterator[Finding]:
    """Which weights are those of the checkpoint."""
    if prefix:
        state = {
            k.removeprefix(f'{prefix}.'): w
            for k, w in state.items() if k.startswith(f'{prefix}.')
        }
    own = {
        k: w.cpu()
        for k, w in module.state_dict().items()
        if not k.startswith(DISTILL) and not k.endswith('num_batches_tracked')
    }
    lost = [
        k for k, w in own.items()
        if k not in state or not torch.equal(w, state[k].to(w))
    ]
    loaded = len(own) - len(lost)
    said = f'{owner}: {loaded} of {len(own)} weights are those of {source}'
    if not lost:
        yield green(said)
        return
    level = red if loaded < FEW * len(own) else yellow
    yield level(
        f'{said}; not {listed(lost, 4)}',
        'give the checkpoint of this very network; names and shapes must be '
        'alike')


def convention(model: nn.Module, owner: str, source: str) -> Iterator[Finding]:
    """Pretrained weights get images as they were trained on."""
    if '://' not in source or 'http' in source:
        return  # nobody knows
    mean, _, flips = normalization(model.data_preprocessor)
    mean = mean.flatten()
    if len(mean) != 3 or not flips or not torch.allclose(mean, MEAN, atol=5.):
        yield red(
            f'{owner}: {source} was trained on RGB images with the mean '
            f'{MEAN.tolist()}, the student gets {"RGB" if flips else "BGR"} '
            f'with {[round(m, 2) for m in mean.tolist()]}',
            'set mean, std and bgr_to_rgb of model.data_preprocessor as '
            'configs/_base_/datasets/standard.py has them')


@check
def trainable(experiment: Experiment) -> Iterator[Finding]:
    """The student has something to train."""
    if not experiment.trains_student:
        yield green('this stage trains distillation parts alone')
        return
    own = [(name, p) for name, p in experiment.model.named_parameters()
           if not name.startswith(DISTILL)]
    count = sum(p.numel() for _, p in own)
    learn = sum(p.numel() for _, p in own if p.requires_grad)
    if not learn:
        yield red(
            f'all {count / 1e6:.2f} M parameters of the student are frozen',
            'leave out what freezes it: frozen_stages, requires_grad_(False)')
    else:
        yield green(f'the student trains {learn / 1e6:.2f} M of '
                    f'{count / 1e6:.2f} M parameters')
