"""One process and two: images a second, and what they say to each other."""
import multiprocessing
import os
from collections.abc import Sequence
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from mmengine.optim import build_optim_wrapper
from mmengine.runner import Runner
from torch import nn
from torch.distributed.launcher.api import LaunchConfig, elastic_launch
from torch.profiler import ProfilerActivity, profile

import seg_kd.register  # noqa: F401, it fills the registries of a process
from seg_kd.benchmark.build import Source, build_runner
from seg_kd.benchmark.step import WARM_UP, own_student
from seg_kd.benchmark.timing import Clock, Found, Work, announced, times_sign
from seg_kd.networks.unwrap import unwrap_model

ROUNDS = 2  # in which one process and two take turns
WORKS = ('student alone', 'with distillation')


def bench_ddp(sources: Sequence[Source], images: Sequence[int],
              runs: int) -> Found:
    """Title, rows and notes: gloo on the CPU, one thread a process, noise.

    ``efficiency`` is what two processes do, to twice what one does.
    ``collectives`` are those of one step and process; of these the
    ``buckets`` are DDP's own, which bring the gradients together.

    Args:
        sources: As for a step.
        images: ``(N, H, W)`` of each process.
        runs: Of each, in all; after the warm-up.
    """
    each = -(-runs // ROUNDS)
    found: dict[int, list] = {1: [], 2: []}
    turns = [1, 2] * ROUNDS
    for count, _ in zip(turns, announced([f'processes: {n}' for n in turns])):
        found[count].append(launch(count, sources, images, each))
    rows = {name: row_of(found, name, images[0]) for name in WORKS}
    kinds = found[2][0]['collectives']['with distillation']
    said = ', '.join(f'{n} {kind}' for kind, n in sorted(kinds.items()))
    return (f'one process and two, {times_sign(images)} each, gloo, noise',
            rows, [f'collectives with distillation: {said}'])


def row_of(found: dict[int, list], name: str, count: int) -> dict[str, float]:
    row: dict[str, float] = {}
    speed = {}
    for processes, results in found.items():
        ms = [t for result in results for t in result['times'][name]]
        row[f'{processes}: ms'] = median(ms)
        row[f'{processes}: min'], row[f'{processes}: max'] = min(ms), max(ms)
        speed[processes] = 1e3 * processes * count / median(ms)
        row[f'{processes}: images / s'] = speed[processes]
    row['efficiency'] = speed[2] / (2 * speed[1])
    last = found[2][-1]
    row['collectives'] = sum(last['collectives'][name].values())
    row['buckets'] = last['buckets'][name]
    return row


def launch(count: int, sources: Sequence[Source], images: Sequence[int],
           runs: int) -> dict[str, Any]:
    """What the first of ``count`` processes has measured."""
    os.environ.setdefault('KINETO_LOG_LEVEL', '99')  # it chats on stderr
    os.environ['CUDA_VISIBLE_DEVICES'] = ''  # for the processes started here
    # forks of one that has imported everything, here and the next time
    multiprocessing.set_forkserver_preload([__name__])
    with TemporaryDirectory() as folder:
        settings = LaunchConfig(min_nodes=1,
                                max_nodes=1,
                                nproc_per_node=count,
                                run_id=os.path.basename(folder),
                                max_restarts=0,
                                start_method='forkserver',
                                rdzv_backend='c10d',
                                rdzv_endpoint='localhost:0')
        return elastic_launch(settings, worker)(sources, images, runs,
                                                folder)[0]


def worker(sources: Sequence[Source], images: Sequence[int], runs: int,
           folder: str) -> dict[str, Any]:
    """One process of a run: times, collectives and buckets of a step."""
    torch.set_num_threads(1)
    for source in sources:  # as these processes were started; no warning
        source.cfg.env_cfg.mp_cfg = dict(mp_start_method='forkserver',
                                         opencv_num_threads=0)
    if int(os.environ['WORLD_SIZE']) > 1:
        sources[0].cfg.launcher = 'pytorch'
    folder = f'{folder}/{os.environ["RANK"]}'
    os.makedirs(folder)
    runner = build_runner(sources,
                          images,
                          WARM_UP + runs + 1,
                          folder,
                          data=False).runner
    result = measure(runner)
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
    return result


def measure(runner: Runner) -> dict[str, Any]:
    """Trains; after the last step that is timed, one has its words counted."""
    student = runner.wrap_model(runner.cfg.get('model_wrapper_cfg'),
                                own_student(unwrap_model(runner.model)))
    optimizer = build_optim_wrapper(student, runner.cfg.optim_wrapper)
    loop, clock, found, counted = runner.train_loop, Clock(), [], {}
    step = loop.run_iter

    def alone(batch: Any) -> None:
        student.train_step(batch, optimizer)

    def run_iter(batch: Any) -> None:
        last = loop.iter == loop.max_iters - 1
        for name, work in zip(WORKS, (alone, step)):
            if last:
                counted[name] = collectives(lambda: work(batch))
            else:
                clock.timed(name, work)(batch)
        found.append(clock.read())

    loop.run_iter = run_iter
    runner.train()
    times = {name: [run[name] for run in found[WARM_UP:-1]] for name in WORKS}
    reduced = dict(zip(WORKS, map(buckets, (student, runner.model))))
    return dict(times=times, collectives=counted, buckets=reduced)


def collectives(work: Work) -> dict[str, int]:
    """How often each kind of operation between processes is called."""
    with profile(activities=[ProfilerActivity.CPU]) as found:
        work()
    return {
        event.key.removeprefix('c10d::').rstrip('_'): event.count
        for event in found.key_averages() if event.key.startswith('c10d::')
    }


def buckets(model: nn.Module) -> int:
    if not is_model_wrapper(model):
        return 0
    return model._get_ddp_logging_data()['num_buckets_reduced']
