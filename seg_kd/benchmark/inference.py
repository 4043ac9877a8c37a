"""What teacher and student cost once they are trained."""
from collections.abc import Sequence
from functools import partial

import torch
from mmengine.device import get_device
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor, nn

from seg_kd.benchmark.build import Source
from seg_kd.benchmark.timing import (Found, in_turn, peak_mib, summary,
                                     times_sign)
from seg_kd.engine.stages import stage_configs
from seg_kd.errors import UserError
from seg_kd.hooks import TeacherHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.networks.costs import flops, parameters
from seg_kd.teacher.build import build_network, teacher_config


def bench_inference(sources: Sequence[Source], images: Sequence[int],
                    runs: int) -> Found:
    """Title, rows and notes: the networks in eval mode, from normalized
    images to logits, with random weights.

    ``GFLOPs`` are of one image, as torch counts them: a multiplication and an
    addition are two. ``MiB`` is the peak above the weights.

    Raises:
        UserError: There are several configs.
    """
    if len(sources) > 1:
        raise UserError('inference takes one config')
    batch = torch.randn(images[0], 3, *images[1:], device=get_device())
    networks = networks_of(sources[0])
    works = {
        name: partial(forward, network, batch)
        for name, network in networks.items()
    }
    rows = summary(in_turn(works, runs), list(networks)[:1])
    for name, network in networks.items():
        row = rows[name]
        row['images / s'] = 1e3 * images[0] / row['median ms']
        row['GFLOPs'] = giga_flops(network, batch[:1])
        row['M parameters'] = parameters(network) / 1e6
        row['MiB'] = peak_mib(works[name])
    title = (f'inference on {times_sign(images)}, to the logits; GFLOPs of '
             'one image, 2 for a multiplication and an addition')
    return title, rows, []


def networks_of(source: Source) -> dict[str, nn.Module]:
    """The teacher, if the config has one, and the student, in eval mode."""
    stages: list = [cfg for _, cfg in stage_configs(source.cfg)]
    cfg = stages[-1]
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    found = {}
    for hook in hooks_of(stages[0], TeacherHook):
        found['teacher'] = build_network(
            teacher_config(hook.model, 'random')[0])
    found['student'] = MODELS.build(cfg.model)
    return {k: v.eval().to(get_device()) for k, v in found.items()}


@torch.no_grad()
def forward(network: nn.Module, batch: Tensor) -> Tensor:
    return network(batch, mode='tensor')


def giga_flops(network: nn.Module, image: Tensor) -> float:
    return flops(network, image, mode='tensor') / 1e9
