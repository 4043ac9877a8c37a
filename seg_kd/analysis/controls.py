"""Runs that say what a gain is: the same method, with less in its teacher.

``METHOD@own``: the teacher is a student that was trained alone, on the same
fold and seed. ``METHOD@random``: the teacher's weights are random.
``METHOD@softened``: in the place of KD's teacher the labels, as soft as the
teacher is unsure. What these gain, too, is regularization.
"""
import os
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config

from seg_kd import shipped
from seg_kd.engine.complete import named_hooks, plain, teachers_of
from seg_kd.engine.provenance import hashed
from seg_kd.engine.stages import stage_configs
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, KDHook, SoftenedLabelsHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.networks.checkpoint import write_checkpoint
from seg_kd.networks.normalization import image_channels
from seg_kd.registry import HOOKS, is_kind
from seg_kd.teacher.build import build_network, teacher_config

CONTROLS = ('own', 'random', 'softened')
SIGN = '@'
BATCHES = 10  # of noise, for the batch norms of a random teacher


def with_controls(methods: Sequence[str],
                  controls: Sequence[str]) -> list[str]:
    """The methods, and behind them each with each control."""
    return [
        *methods,
        *(f'{m}{SIGN}{control}' for control in controls for m in methods)
    ]


def split(name: str) -> tuple[str, str]:
    """``'kd@own' -> ('kd', 'own')``; the second is empty without a control.

    Raises:
        UserError: There is no such control.
    """
    method, _, control = name.partition(SIGN)
    if control and control not in CONTROLS:
        raise UserError(f'{name}: a control is one of {", ".join(CONTROLS)}')
    return method, control


def title(name: str) -> str:
    """What a table calls it: ``'my/kd.py@own' -> 'kd@own'``."""
    method, control = split(name)
    return SIGN.join(filter(None, (shipped.stem(method), control)))


def soften(cfg: Config) -> None:
    """Puts the softened labels into the place of the teacher of KD.

    Raises:
        UserError: The method is not KD, or more than that.
    """
    hooks = named_hooks(cfg.get('custom_hooks'), None)
    cfg.custom_hooks = {
        name: {
            **plain(hook), 'type': 'SoftenedLabelsHook'
        } if is_kind(hook, HOOKS, KDHook) else hook
        for name, hook in hooks.items()
    }
    terms = [
        hook for _, stage in stage_configs(cfg)
        for hook in hooks_of(stage, DistillHook)
    ]
    if not terms or not all(
            is_kind(hook, HOOKS, SoftenedLabelsHook) for hook in terms):
        raise UserError("the control 'softened' stands for KD's teacher: it "
                        'needs a method that is a KDHook and nothing else')


def teachers_in(cfg: Config) -> list[dict[str, Any]]:
    """Where the one teacher is named, in whose place a control puts another.

    Raises:
        UserError: There is none, or several.
    """
    found = teachers_of(cfg)
    several = {
        str([t.get(k) for k in ('name', 'model', 'checkpoint')])
        for t in found
    }
    if len(several) != 1:
        raise UserError("the controls 'own' and 'random' stand for one "
                        f'teacher: this config has {len(several)}')
    return found


def random_weights(teacher: dict[str, Any], folder: str) -> str:
    """Writes a checkpoint of the teacher's network with random weights.

    Its batch norms have seen noise, so its maps have a scale.

    Args:
        teacher: The config of a ``TeacherHook``.
        folder: Where it goes, under a name of the network's own; what is
            there is kept.
    """
    model, _ = teacher_config(teacher['model'], 'random_teacher.pth')
    path = os.path.join(folder, f'random_teacher_{hashed(plain(model))}.pth')
    if os.path.exists(path):
        return path
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(0)
        network = build_network(model).train()
        channels = image_channels(network)
        for _ in range(BATCHES):
            network(torch.randn(4, channels, 128, 128))
    os.makedirs(folder, exist_ok=True)
    write_checkpoint(dict(state_dict=network.state_dict()), path)
    return path
