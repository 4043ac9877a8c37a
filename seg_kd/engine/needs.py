"""What a stage needs, looked at before it is built, or one before it trains.
"""
import os
from collections.abc import Callable, Iterable

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import nn

from seg_kd import shipped
from seg_kd.datasets import check_files
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.hooks.student import dry_image
from seg_kd.networks.taps import Taps
from seg_kd.registry import HOOKS, MODELS
from seg_kd.teacher.build import build_network, teacher_config


def require_checkpoint(path: str, hint: str = '') -> None:
    """Raises UserError where a file of weights is missing.

    It says which others are there; what has a scheme, or is of a stage, is
    not looked for.
    """
    if '://' in path or path.startswith('stage:') or os.path.exists(path):
        return
    folder = os.path.dirname(path) or '.'
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    there = [name for name in names if name.endswith('.pth')]
    found = f'; {folder} has {", ".join(there)}' if there else ''
    raise UserError(f'{path} does not exist{found}{hint}')


def check_teacher(cfg: Config | dict) -> None:
    """Raises UserError where the teacher's weights have to be trained yet."""
    for hook in hooks_of(cfg, TeacherHook):
        hint, model = '', hook.get('model')
        if isinstance(model, str) and not model.startswith('mmseg::'):
            name = model.removeprefix(shipped.SCOPE)
            if name != model:
                name = shipped.stem(name)
            fold = f' --fold {cfg["fold"]}' if cfg.get('fold') else ''
            hint = f'; train the teacher first: seg-kd train {name}{fold}'
        if hook.get('checkpoint'):
            require_checkpoint(hook['checkpoint'], hint)


def check_stage(cfg: Config) -> None:
    """Raises UserError where a part, a file of data or a teacher is missing.
    """
    for part in ('model', 'train_dataloader', 'train_cfg', 'optim_wrapper'):
        if not cfg.get(part):
            raise UserError(f'{cfg.filename} has no {part}: there is nothing '
                            'to train')
    for loader in (cfg.train_dataloader, cfg.get('val_dataloader')):
        if loader:  # before a teacher is fetched for nothing
            check_files(loader.dataset)
    check_teacher(cfg)


def check_ahead(name: str, cfg: Config) -> None:
    """As :func:`check_stage`, and for layer paths that name no map.

    Args:
        name: Of a stage that is not to run yet.
        cfg: Its complete config.

    Raises:
        UserError: With the name of the stage.
    """
    try:
        check_stage(cfg)
        check_layers(cfg)
    except UserError as error:
        raise UserError(f'stage {name!r}: {error}') from error


def check_layers(cfg: Config) -> None:
    """Raises UserError where a hook taps a layer that is not there.

    The networks are built without memory for their weights, and the maps are
    found by a dry forward that computes nothing. What cannot be built like
    that, or is wrong for another reason, is left to the stage itself.
    """
    init_default_scope(cfg.get('default_scope') or 'mmseg')
    student = _hollow(lambda: MODELS.build(cfg.model))
    hooks = [
        HOOKS.build({
            k: v
            for k, v in hook.items() if k != 'priority'
        }) for hook in hooks_of(cfg, DistillHook)
    ]
    if student is None or not hooks:
        return
    asked = [hook.term.requests(student) for hook in hooks]
    image = dry_image(student, 'meta')
    _check_paths(student, [p for r in asked for p in r.student], image)
    for teacher in hooks_of(cfg, TeacherHook):
        paths = [
            p for hook, r in zip(hooks, asked) for p in r.teacher
            if hook.term.teacher_name in (None, teacher.get('name'))
        ]
        model, _ = teacher_config(teacher.get('model'),
                                  teacher.get('checkpoint'))
        network = _hollow(lambda: build_network(model))
        if network is not None:
            _check_paths(network, paths, image)


def _hollow(build: Callable[[], nn.Module]) -> nn.Module | None:
    """A network without weights, or with them where it has to have some.

    None where it cannot be built.
    """
    for device in ('meta', 'cpu'):
        try:
            with torch.random.fork_rng(devices=[]), torch.device(device):
                return build()
        except UserError:
            raise
        except Exception:
            pass
    return None


def _check_paths(network: nn.Module, paths: Iterable[str],
                 image: torch.Tensor) -> None:
    taps = Taps(network, paths)
    try:
        taps.shapes(image)
    except UserError:
        raise
    except Exception:  # what it does needs numbers
        pass
