"""The gradient of each term at the student: what its weight should be.

A weight from another data set says little: what counts is the gradient that a
term has at the student's map, compared with the task's.
"""
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from statistics import mean
from typing import Any

from mmengine.config import Config
from torch import Tensor

from seg_kd.distiller import Term
from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.stages import fill_in, stage_configs
from seg_kd.errors import UserError
from seg_kd.hooks.student import dry_image
from seg_kd.networks.auto_weight import grad_norm
from seg_kd.networks.checkpoint import read_checkpoint
from seg_kd.networks.taps import Taps
from seg_kd.registry import RUNNERS

Norms = dict[str, float]


def gradient_norms(cfg: Config,
                   work_dir: str,
                   batches: int = 8) -> dict[str, Norms]:
    """Norm of each loss term's gradient at each tapped map of the student.

    Args:
        cfg: A config with distillation hooks; of stages the last counts.
        work_dir: Where it was trained: its last checkpoint is taken.
        batches: Training batches to average over.

    Returns:
        ``{layer path: {term: norm}}``, weights included.

    Raises:
        UserError: The config distils nothing, or was not trained yet.
    """
    cfg, checkpoint = trained_stage(cfg, work_dir)
    cfg.work_dir = os.path.join(work_dir, 'gradients')
    cfg.experiment_name = os.path.abspath(cfg.work_dir).replace(os.sep, '_')
    runner = RUNNERS.build(cfg)
    distiller = getattr(runner, 'distiller', None)
    paths = list(distiller.student_shapes) if distiller else []
    if not paths:
        raise UserError(f'{cfg.filename} distils nothing: there is no '
                        'TeacherHook with a distillation hook in custom_hooks')
    runner.model.load_state_dict(read_checkpoint(checkpoint)['state_dict'])
    for term in distiller.terms:
        at_full_weight(term)
    loader = islice(runner.train_dataloader, batches)
    return _average(paths, forwards(runner, loader))


def trained_stage(cfg: Config, work_dir: str):
    """The last stage with its paths filled in, and its newest checkpoint."""
    stages = list(stage_configs(cfg))
    folders = {name: os.path.join(work_dir, name) for name, _ in stages}
    done = {
        name: latest_checkpoint(folder)
        for name, folder in folders.items()
    }
    missing = [folders[name] for name, path in done.items() if path is None]
    if missing:
        raise UserError(f'{missing[0]} holds no checkpoint: train the config '
                        'first, for a part of its iterations at least')
    name, last = stages[-1]
    fill_in(last, done)
    return last, done[name]


def at_full_weight(term: Term) -> None:
    """Whatever the iteration is."""
    term.start, term.end, term.warmup, term.connector_iters = 0, None, 0, 0


def forwards(
    runner: Any, batches: Iterable[dict]
) -> Iterator[tuple[dict[str, Tensor], dict[str, Tensor]]]:
    """The losses of each training batch, and the student's tapped maps.

    The losses depend on these maps: they are read before the distiller's own,
    which may be copies (``':input'``).
    """
    model = runner.model
    taps = Taps(model, runner.distiller.student_shapes)
    taps.shapes(dry_image(model))
    with taps.attached():
        runner.student_hook.before_train(runner)
        try:
            model.train()
            for batch in batches:
                losses = model(**model.data_preprocessor(batch, True),
                               mode='loss')
                yield losses, taps.take()
        finally:
            runner.student_hook.after_train(runner)


def _average(paths: list[str], passes: Iterable) -> dict[str, Norms]:
    found: list[dict[str, Norms]] = []
    for losses, maps in passes:
        found.append({
            path: {
                name: grad_norm(term, [maps[path]]).item()
                for name, term in losses.items() if 'loss' in name
            }
            for path in paths
        })
    return {
        path: {
            name: mean(f[path][name] for f in found)
            for name in found[0][path]
        }
        for path in paths
    }
