"""What a training step costs in the real runner, in parts and to the floor."""
import copy
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from torch import nn

from seg_kd.benchmark.build import Source, build_runner
from seg_kd.benchmark.timing import (Clock, Found, Rows, Times, announced,
                                     peak_mib, summary)
from seg_kd.distiller import Term
from seg_kd.errors import UserError
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.split import SplitSegmentor

# Steps that do not count; a GPU loads its kernels and chooses among them.
WARM_UP = 10 if torch.cuda.is_available() else 2
ALONE = ('student alone', 'teacher alone')
PARTS = ('data', 'teacher', 'student forward', 'backward', 'optimizer')


def bench_step(sources: Sequence[Source],
               images: Sequence[int],
               runs: int,
               checkpoint: str | None = None,
               data: bool = True) -> Found:
    """Title, rows and notes: a step, its floor, and its parts.

    The floor is the student's own step alone and the teacher's forward as far
    as the taps need it, in the step's precision. A step of the runner and the
    floor take turns, each on a batch of its own.

    - ``step`` is an iteration with all hooks, without the wait for data;
    - ``share`` is of the iteration with that wait;
    - ``- ka.adaptation`` is the forward of a part of the loss ``ka``, and
      counted in that;
    - ``MiB`` is the peak above what was held before (weights and their like);
      that of the floor is the larger one of its two parts.

    For ``sources``, ``checkpoint`` and ``data`` see :func:`build_runner`.

    Raises:
        UserError: Nothing is distilled, or ``images``, ``(N, H, W)``, are too
            small.
    """
    with TemporaryDirectory() as folder:
        built = build_runner(sources, images, WARM_UP + runs + 1, folder,
                             checkpoint, data)
        try:
            times, memory = measure(
                built.runner,
                announced(['warm-up'] * WARM_UP + ['step'] * runs +
                          ['memory']))
        except ValueError as error:  # batch norm of a single value
            raise UserError(f'{built.title} fails, take larger ones: '
                            f'{error}') from error
    if not built.data:
        times['data'] = [0.] * runs
    rows = table_of(times, memory, images[0])
    if not built.data:
        del rows['data']
    return built.title, rows, allocated()


def allocated() -> list[str]:
    """What a GPU has come to hold; nothing is known of a CPU's."""
    if not torch.cuda.is_available():
        return []
    gib = torch.cuda.max_memory_reserved() / 2**30
    return [
        f'reserved at most: {gib:.1f} GiB, with the weights of the student '
        'twice (that of the floor is another)'
    ]


def table_of(times: Times, memory: dict[str, float], count: int) -> Rows:
    whole = [a + b for a, b in zip(times['data'], times['step'])]
    rows = summary(times, ['floor'])
    for name, row in rows.items():
        is_part = name not in ('floor', *ALONE, 'step')
        share = median(a / b for a, b in zip(times[name], whole))
        row['share'] = share if is_part else None
        speed = 1e3 * count / row['median ms'] if not is_part else None
        row['images / s'], row['MiB'] = speed, memory.get(name)
    return rows


def measure(
    runner: Runner, progress: Iterator[str] = iter(())
) -> tuple[Times, dict[str, float]]:
    """Trains: milliseconds of each step and its parts; memory of the last.

    The first steps warm up, the last one only measures memory. ``progress``
    is advanced at each.
    """
    loop, clock = runner.train_loop, Clock()
    floor = floor_of(runner)
    runner.distiller.around = clock.part
    step, found, memory = loop.run_iter, [], {}
    batches: deque = deque(maxlen=2)

    def run_iter(batch: Any) -> None:
        next(progress, None)
        # a hook holds the last one: it is not to be freed in the step whose
        # memory is measured
        batches.append(batch)
        if loop.iter == 0:
            attach(clock, runner)
        works = dict(step=step, **floor)
        if loop.iter == loop.max_iters - 1:
            for name, work in works.items():
                memory[name] = peak_mib(lambda: work(batch))
            memory['floor'] = max(memory[name] for name in ALONE)
            return
        clock.timed('step', step)(batch)
        taken = clock.read()
        batch = next(loop.dataloader_iterator)
        clock.read()  # what was waited for it is none of the step's
        for name, work in floor.items():
            clock.timed(name, work)(batch)
        found.append({**taken, **clock.read()})

    loop.run_iter = run_iter
    loop.dataloader_iterator = map(clock.timed('data', next),
                                   repeat(loop.dataloader_iterator))
    runner.train()
    return in_order(found[WARM_UP:], runner.distiller.terms), memory


def attach(clock: Clock, runner: Runner) -> None:
    """To the parts of a step; the teacher's forward is hooked already."""
    model, optimizer = unwrap_model(runner.model), runner.optim_wrapper
    clock.watch('student forward', model)
    optimizer.backward = clock.timed('backward', optimizer.backward)
    for name in ('step', 'zero_grad'):
        call = getattr(optimizer, name)
        setattr(optimizer, name, clock.timed('optimizer', call))
    for name, module in model.distill.named_modules():
        if name.count('.') == 1:
            clock.watch(f'- {name}', module)


def floor_of(runner: Runner) -> dict[str, Callable]:
    """The student's own step on a batch, and the teacher on its images."""
    student = own_student(unwrap_model(runner.model))
    if not any(p.requires_grad for p in student.parameters()):
        raise UserError('this stage trains no student: it has no floor')
    optimizer = build_optim_wrapper(student, runner.cfg.optim_wrapper)
    seen: dict[str, Any] = {}
    student.register_forward_pre_hook(
        lambda module, args, given: seen.update(inputs=given['inputs']),
        with_kwargs=True)

    @torch.no_grad()
    def teachers(batch: Any) -> None:
        with optimizer.optim_context(student):
            inputs = seen.pop('inputs')
            for teacher in runner.distiller.teachers.values():
                images = inputs
                if teacher.scale != 1:  # with a cache no batch brings them
                    images = F.interpolate(inputs, scale_factor=teacher.scale)
                teacher.maps(images)

    def own_step(batch: Any) -> None:
        student.train_step(batch, optimizer)

    return dict(zip(ALONE, (own_step, teachers)))


def own_student(model: nn.Module) -> nn.Module:
    """The student before distillation; a taskless one gets some gradient."""
    student = copy.deepcopy(model).train()
    student.distill = nn.ModuleDict()
    if isinstance(student, SplitSegmentor):
        student.loss = lambda inputs, data_samples: dict(loss=student.backbone(
            inputs).mean())
    return student


def in_order(found: Sequence[dict[str, float]],
             terms: Sequence[Term]) -> Times:
    """By name, what was taken each time; with the sums and the rest."""
    names = [*PARTS[:3], *(term.name for term in terms), *PARTS[3:]]
    inner = [name for name in found[0] if name.startswith('- ')]
    for run in found:
        run['floor'] = sum(run[name] for name in ALONE)
        run['other'] = run['step'] - sum(run[name] for name in names[1:])
    shown = ['floor', *ALONE, 'step']
    for name in (*names, 'other'):
        shown += [name, *(i for i in inner if i.startswith(f'- {name}.'))]
    return {name: [run[name] for run in found] for name in shown}
