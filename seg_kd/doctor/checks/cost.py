"""What the whole schedule costs, next to what there is; and its settings."""
import math
import os
import resource
import shutil
import sys
import time
from collections.abc import Iterator
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import CheckpointHook
from mmengine.runner import Runner
from torch import Tensor, nn

from seg_kd.datasets import with_workers
from seg_kd.distiller import Term
from seg_kd.doctor.experiment import Experiment, built_optimizer, copied
from seg_kd.doctor.finding import Finding, check, green, red, yellow
from seg_kd.hooks import TeacherHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.networks.finite import bad_weights, tensors
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import as_list
from seg_kd.teacher.cache.cache import cache_size
from seg_kd.teacher.cache.replay import NotExact

LONG, ABSURD = 14., 365.  # days
TIGHT = .8  # part of what is free
GIB = 2**30
STEPS = 3  # that are timed in each stage
HUGE, LARGE, TINY = .5, .1, 1e-8  # change of all weights in one step


@check
def learning_rate(experiment: Experiment) -> Iterator[Finding]:
    """One step at the full learning rate changes the weights a little."""
    for name, cost in costs(experiment).items():
        where = f'stage {name}: ' if name else ''
        change = cost['change']
        said = (f'{where}at learning rate {cost["lr"]:.3g} a step changes '
                f'the weights by {100 * change:.2g} % of their norm')
        if cost['broken']:
            yield red(
                f'{where}after {STEPS} steps {cost["broken"]} is not '
                'finite', 'lower optim_wrapper.optimizer.lr')
        elif change > HUGE:
            yield red(
                said, 'lower optim_wrapper.optimizer.lr: what a network '
                'has learnt does not survive that')
        elif change > LARGE:
            yield yellow(
                said, 'see that the learning rate is that of this '
                'optimizer, and that there is a warm-up')
        elif change < TINY:
            yield red(said, 'it learns nothing: raise '
                      'optim_wrapper.optimizer.lr')
        else:
            yield green(said)


@check
def schedule(experiment: Experiment) -> Iterator[Finding]:
    """Terms and learning rate fit the length of the training."""
    iterations = experiment.iterations
    distiller = experiment.runner.distiller
    for term in distiller.terms if distiller else ():
        yield from term_schedule(term, iterations)
    for scheduler in as_list(experiment.cfg.get('param_scheduler')):
        end = scheduler.get('end')
        if (scheduler.get('by_epoch') is False and end and end < 10**9
                and scheduler.get('begin', 0) < iterations < end):
            yield yellow(
                f'{scheduler.get("type")} ends at iteration {end}, training '
                f'at {iterations}',
                f'set its end to {iterations}, or the learning rate stays '
                'high')


def term_schedule(term: Term, iterations: int) -> Iterator[Finding]:
    if term.start >= iterations or term.end is not None and (term.end
                                                             <= term.start):
        yield red(
            f'{term.name} counts from iteration {term.start} to '
            f'{term.end or "the end"}, training ends at {iterations}: it '
            'never counts', 'lower its start, or raise its end')
    elif term.start + term.warmup >= iterations and term.warmup:
        yield yellow(
            f'{term.name} has its whole weight at iteration '
            f'{term.start + term.warmup}, training ends at {iterations}',
            'shorten its warmup')


@check
def hours(experiment: Experiment) -> Iterator[Finding]:
    """How long all stages take on this machine."""
    days = sum(c['seconds'] * c['iterations'] / 86400
               for c in costs(experiment).values())
    parts = [
        f'{name or "training"} {c["iterations"]} x {c["seconds"]:.2g} s'
        for name, c in costs(experiment).items()
    ]
    said = f'about {duration(days)} without validation: {", ".join(parts)}'
    if days > ABSURD:
        yield red(said, 'look at max_iters; is there a GPU?')
    elif days > LONG:
        yield yellow(said, 'a GPU, smaller crops or a shorter schedule help')
    else:
        yield green(said)


def duration(days: float) -> str:
    minutes = days * 24 * 60
    if minutes < 90:
        return f'{max(1, round(minutes))} min'
    if minutes < 48 * 60:
        return f'{minutes / 60:.1f} h'
    return f'{days:.3g} days'


@check
def memory(experiment: Experiment) -> Iterator[Finding]:
    """What the steps took at their peak."""
    costs(experiment)  # runs them
    if torch.cuda.is_available():
        used = torch.cuda.max_memory_allocated()
        room, of = torch.cuda.mem_get_info()[1], 'on the GPU'
    else:
        unit = 1 if sys.platform == 'darwin' else 1024
        used = unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        room, of = used + memory_left(), 'in this process'
    said = f'{used / GIB:.2f} GiB of memory at the peak {of}'
    if room > used and used > TIGHT * room:
        yield yellow(f'{said}, of {room / GIB:.2f} GiB',
                     'little is left: a smaller batch_size or crop helps')
    else:
        yield green(said)


def memory_left() -> float:
    """Bytes that this machine could still give; 0 where it does not say."""
    try:
        with open('/proc/meminfo', encoding='ascii') as file:
            lines = dict(line.split(':') for line in file)
        return 1024. * int(lines['MemAvailable'].split()[0])
    except (OSError, KeyError, ValueError):
        return 0.


@check
def disk(experiment: Experiment) -> Iterator[Finding]:
    """Checkpoints and the teacher's cache fit on the disk."""
    kept = sum(c['checkpoints'] * c['bytes']
               for c in costs(experiment).values())
    parts = [f'checkpoints {kept / GIB:.2g} GiB']
    try:
        cache = cache_bytes(experiment)
        if cache:
            parts.append(f"the teacher's cache {cache / GIB:.2g} GiB")
    except NotExact as reason:
        cache = 0
        yield yellow(f'the teacher cache will be off: {reason}',
                     'change the pipeline as that says, or leave cache= out')
    folder = os.path.abspath(experiment.work_dir)
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    said = (f'{", ".join(parts)}; {free / GIB:.3g} GiB are free in '
            f'{folder}')
    if kept + cache > free:
        yield red(
            said, 'make room, choose another --work-dir, or keep fewer: '
            'default_hooks.checkpoint.max_keep_ckpts, cache.max_gib')
    elif kept + cache > TIGHT * free:
        yield yellow(said, 'that is nearly all: make room')
    else:
        yield green(said)


def cache_bytes(experiment: Experiment) -> float:
    """Of the caches that the config asks for."""
    found = 0.
    distiller = experiment.runner.distiller
    if distiller is None:
        return found
    for hook in hooks_of(experiment.cfg, TeacherHook):
        if hook.get('cache'):
            teacher = distiller.teachers[hook.get('name', 'teacher')]
            found += cache_size(teacher, experiment.runner, hook.cache)
    return found


# -- a few steps of each stage ---------------------------------------------


def costs(experiment: Experiment) -> dict[str, dict[str, Any]]:
    """What a step takes in each stage, and what the stage leaves.

    Made last: it trains the networks that are looked at.
    """
    return experiment.once('costs', 'cost', _costs)


def _costs(experiment: Experiment) -> dict[str, dict[str, Any]]:
    experiment.optimizer, experiment.batches
    found = {}
    for name in experiment.stages:
        if name == experiment.name:
            runner = experiment.runner
        else:
            runner = experiment.runner_of(name)
        found[name] = stage_cost(experiment, runner, experiment.stages[name])
    return found


def stage_cost(experiment: Experiment, runner: Runner,
               cfg: Config) -> dict[str, Any]:
    optimizer = built_optimizer(runner)
    model = unwrap_model(runner.model)
    learn = [p for p in model.parameters() if p.requires_grad]
    before = [p.detach().clone() for p in learn]
    # of most weights: a connector's, or a head's, may be another
    rate = max(optimizer.param_groups,
               key=lambda group: sum(p.numel() for p in group['params']))['lr']
    seconds, broken, change = [], '', 0.
    runner.student_hook.before_train(runner)
    try:
        model.train()
        for k in range(STEPS):
            batch = copied(experiment.batches[k % len(experiment.batches)])
            start = time.perf_counter()
            losses = runner.model.train_step(batch, optimizer)
            seconds.append(time.perf_counter() - start)
            if k == 0:
                change = relative_change(before, learn)
            bad = [
                n for n, value in losses.items() for t in tensors(value)
                if not t.isfinite().all()
            ]
            broken = broken or ', '.join(bad)
    finally:
        runner.student_hook.after_train(runner)
    broken = broken or ', '.join(bad_weights(model)[:2])
    loader = cfg.train_dataloader
    workers = with_workers(experiment.cfg.train_dataloader)['num_workers']
    waits = median(experiment.data_seconds)
    step = median(seconds[1:])
    return dict(seconds=max(step, waits / workers) if workers else step +
                waits,
                iterations=runner.max_iters,
                lr=rate,
                change=change,
                broken=broken,
                batch_size=loader.get('batch_size'),
                bytes=held(model.state_dict()) + held(optimizer.state_dict()),
                checkpoints=checkpoints(runner))


def relative_change(before: list[Tensor], now: list[nn.Parameter]) -> float:
    """Norm of the change of all weights, per their norm."""
    moved = sum(
        (b - p.detach()).square().sum().item() for b, p in zip(before, now))
    norm = sum(b.square().sum().item() for b in before)
    return math.sqrt(moved / norm) if norm else 0.


def held(state: Any) -> int:
    """Bytes of the tensors in a state dict."""
    return sum(t.numel() * t.element_size() for t in tensors(state))


def checkpoints(runner: Runner) -> int:
    """How many files of weights a run holds at most."""
    count = 0
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook):
            continue
        length = runner.max_epochs if hook.by_epoch else runner.max_iters
        made = math.ceil(length / hook.interval) if hook.interval > 0 else 1
        most = hook.max_keep_ckpts
        kept = made if most <= 0 else min(made, most)
        # while one more is written
        count += kept + 1 + len(getattr(hook, 'key_indicators', None) or ())
    return count
