"""What a whole training step costs, and what of it is whose."""
import copy
import os
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any, Dict, List, Optional, Sequence, Tuple

import torch
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.optim import OptimWrapper, build_optim_wrapper
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner
from mmengine.structures import PixelData
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from ..classes import heads
from ..errors import UserError
from ..hooks import DistillHook, TeacherHook
from ..hooks.distill import find_teacher
from ..hooks.teacher import build_network, teacher_config
from ..registry import HOOKS
from ..stages import fill_in, latest_checkpoint, stage_configs
from .timing import Rows, Work, in_turn, summary, times_sign

WEIGHTS_ONLY = dict(save_optimizer=False, save_param_scheduler=False)


def bench_step(cfg: Config, images: Sequence[int], runs: int,
               checkpoint: Optional[str], work_dir: str) -> Tuple[str, Rows]:
    """Title and rows: one step of the config's last stage, and its parts.

    Nothing is downloaded and no data set is read. Where the teacher (in
    ``checkpoint``, or the config's) or an earlier stage (in ``work_dir``) has
    no checkpoint, its weights are random; the title says so.

    Raises:
        UserError: There is no teacher, or ``images``, ``(N, H, W)``, are too
            small.
    """
    cfg.model.data_preprocessor.size = tuple(images[1:])  # of the dry forward
    with TemporaryDirectory() as folder:
        runner, random = build_runner(cfg, checkpoint, work_dir, folder)
    title = f'one step on {times_sign(images)}'
    try:
        times = in_turn(step_works(runner, images), runs)
    except ValueError as error:  # batch norm of a single value
        raise UserError(f'{title} fails, take larger ones: {error}') from error
    floor = [sum(two) for two in zip(times['student'], times['teacher'])]
    title += f'; random weights: {", ".join(random)}' if random else ''
    return title, summary(dict(floor=floor, **times), ['floor'])


def build_runner(cfg: Config, checkpoint: Optional[str], work_dir: str,
                 folder: str) -> Tuple[Runner, List[str]]:
    """The last stage's, and the names of what has random weights."""
    *earlier, (_, last) = stage_configs(cfg)
    init_default_scope(last.get('default_scope', 'mmseg'))
    teacher, random = teacher_of(last), []
    named = teacher.get('checkpoint') or ''
    if checkpoint is None and os.path.isfile(named):
        checkpoint = named
    elif checkpoint is None:
        checkpoint = random_teacher(teacher.model, f'{folder}/teacher.pth')
        random.append('teacher')
    done: Dict[str, str] = {}
    for name, stage in earlier:
        fill_in(stage, done)
        done[name] = latest_checkpoint(os.path.join(work_dir, name))
        if done[name] is None:  # what it would save before it trains
            runner = quiet_runner(stage, checkpoint, f'{folder}/{name}')
            runner.save_checkpoint(folder, f'{name}.pth', **WEIGHTS_ONLY)
            done[name] = f'{folder}/{name}.pth'
            random.append(name)
    fill_in(last, done)
    return quiet_runner(last, checkpoint, f'{folder}/last'), random


def teacher_of(cfg: Config) -> ConfigDict:
    for hook in cfg.get('custom_hooks') or []:
        if HOOKS.get(hook.type) is TeacherHook:
            return hook
    raise UserError(f'{cfg.filename} distils nothing: it has no TeacherHook')


def random_teacher(model: Any, path: str) -> str:
    network = build_network(teacher_config(model, path)[0])
    torch.save(network.state_dict(), path)
    return path


def quiet_runner(cfg: Config, checkpoint: str, folder: str) -> Runner:
    """The stage's own runner, but without data and messages."""
    teacher_of(cfg).update(checkpoint=checkpoint, evaluate=False)
    cfg.model.backbone.init_cfg = None
    cfg.work_dir, cfg.log_level = folder, 'WARNING'
    cfg.experiment_name = folder.replace('/', '_')
    (cfg.get('visualizer') or {}).pop('name', None)  # an instance of its own
    runner = RUNNERS.build(cfg)
    # All that hooks ask of the data; without classes they check none.
    data = SimpleNamespace(dataset=SimpleNamespace(metainfo={}))
    runner._train_dataloader = data
    return runner


def step_works(runner: Runner, images: Sequence[int]) -> Dict[str, Work]:
    """Student alone, teacher alone, both with the terms; shares of terms."""
    model, student = runner.model.train(), copy.deepcopy(runner.model).train()
    del student.distill
    hooks = [
        hook for hook in runner.hooks
        if isinstance(hook, (TeacherHook, DistillHook))
    ]
    for hook in hooks:  # torch hooks: the copy of the student has none
        hook.before_train(runner)
        hook.before_train_iter(runner, 0)
    taps = find_teacher(runner, hooks[0]).taps
    batch = noise_batch(model, images)
    optimizers = [optimizer_of(m, runner.cfg) for m in (student, model)]
    together = train_step(model, optimizers[1], batch)

    @torch.no_grad()
    def teacher() -> None:  # in the precision of the step
        with optimizers[1].optim_context(model):
            taps.run(batch['inputs'])

    return dict(student=train_step(student, optimizers[0], batch),
                teacher=teacher,
                together=together,
                **shares(model.distill, together))


def noise_batch(model: nn.Module, images: Sequence[int]) -> Dict[str, Any]:
    """Random images, as if normalised already, and random labels."""
    torch.manual_seed(0)
    (count, *size), device = images, get_device()
    labels = torch.randint(heads(model)[0].num_classes, (count, 1, *size),
                           device=device)
    samples = [SegDataSample(gt_sem_seg=PixelData(data=x)) for x in labels]
    return dict(inputs=torch.randn(count, 3, *size, device=device),
                data_samples=samples)


def optimizer_of(model: nn.Module, cfg: Config) -> OptimWrapper:
    """The config's, with a rate of 0: all runs take one and the same step."""
    optimizer = build_optim_wrapper(model, cfg.optim_wrapper)
    for group in optimizer.param_groups:
        group['lr'] = 0.
    return optimizer


def train_step(model: nn.Module, optimizer: OptimWrapper,
               batch: Dict[str, Any]) -> Work:
    """What ``model.train_step`` does, but for the pre-processing."""

    def work() -> None:
        with optimizer.optim_context(model):
            losses = model(**batch, mode='loss')
        optimizer.update_params(model.parse_losses(losses)[0])

    return work


def shares(distill: nn.Module, step: Work) -> Dict[str, Work]:
    """Each loss module, and each of its children, on what a step gives it."""
    found: Dict[str, Work] = {}
    handles = [
        module.register_forward_pre_hook(
            lambda module, args, name=name: found.update(
                {name: share(module, cut(args))}))
        for name, module in distill.named_modules()
        if name and name.count('.') < 2
    ]
    step()
    for handle in handles:
        handle.remove()
    return found


def share(module: nn.Module, args: Sequence) -> Work:
    """Forward, and backward where there is a gradient, of one module."""

    def work() -> None:
        module.zero_grad()
        terms = module(*cut(args))
        terms = terms.values() if isinstance(terms, dict) else [terms]
        total = sum(term.sum() for term in terms)
        if total.requires_grad:
            total.backward()

    return work


def cut(value: Any) -> Any:
    """The same tensors without their past; a new leaf needs the gradient."""
    if isinstance(value, Tensor):
        return value.detach().requires_grad_(value.requires_grad)
    return [cut(v) for v in value] if isinstance(value,
                                                 (list, tuple)) else value
