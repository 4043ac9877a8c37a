"""An experiment as the checks look at it: each part is built when asked for.

A part that cannot be built is one red finding, and whatever needs it is left
out: see :func:`part`.
"""
import contextlib
import copy
import io
import itertools
import os
import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.registry import RUNNERS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

from seg_kd.benchmark.build import WEIGHTS_ONLY
from seg_kd.datasets import classes_of
from seg_kd.datasets.check import unwrapped
from seg_kd.distiller import Distiller
from seg_kd.doctor.files import Files
from seg_kd.doctor.finding import Finding
from seg_kd.engine.evaluate import load_student, plain_hooks
from seg_kd.engine.needs import check_teacher
from seg_kd.engine.records import latest_checkpoint
from seg_kd.engine.settings import check_settings
from seg_kd.engine.stages import fill_in, stage_configs
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.hooks.distill import hooks_of
from seg_kd.hooks.student import NoStudent
from seg_kd.networks.classes import labels_of, threshold_of
from seg_kd.networks.taps import in_eval_mode
from seg_kd.networks.unwrap import unwrap_model

_BUILT = itertools.count()


class Missing(Exception):
    """A part is not there; why is among the experiment's problems."""


def part(title: str) -> Callable:
    """A property that is made once; where that fails, one red finding.

    Args:
        title: What the finding is called.
    """

    def decorate(make: Callable) -> property:

        def get(self: 'Experiment') -> Any:
            return self.once(make.__name__, title, make)

        return property(get, doc=make.__doc__)

    return decorate


class Experiment:
    """A config, built as training builds it, and a few of its batches.

    Args:
        cfg: The whole config.
        folder: For what has to be written; nothing else is.
        work_dir: Where earlier stages were trained, if they were, and where
            training would write.
        stage: Name of the stage to look at; default: the last that distils.
        batches: How many to look at.
        student: Checkpoint of a trained student.
        explain: From an exception to a line, or None.

    Raises:
        UserError: There is no such stage.
    """

    def __init__(self,
                 cfg: Config,
                 folder: str,
                 work_dir: str = 'work_dirs',
                 stage: str | None = None,
                 batches: int = 4,
                 student: str | None = None,
                 explain: Callable | None = None) -> None:
        self.whole, self.folder, self.work_dir = cfg, folder, work_dir
        self.count, self.student_checkpoint = batches, student
        self.explain = explain
        self.problems: list[Finding] = []
        self.data_seconds: list[float] = []  # of each batch
        self._parts: dict[str, Any] = {}
        self._stages: dict[str, Any] = {}
        init_default_scope(cfg.get('default_scope', 'mmseg'))
        try:
            self.stages: dict[str, Config] = dict(stage_configs(cfg))
        except UserError:
            raise
        except Exception as error:  # a broken config fails in any way
            raise UserError('the stages of the config cannot be read: '
                            f'{one_line(error, explain)}') from error
        try:
            check_settings(self.stages.items())
        except UserError as error:
            self.note('config', error)
        if stage and stage not in self.stages:
            names = ', '.join(filter(None, self.stages)) or 'none'
            raise UserError(f'the config has no stage {stage!r}; there are: '
                            f'{names}')
        distilling = [
            name for name, found in self.stages.items()
            if any(hooks_of(found, DistillHook))
        ]
        self.name = stage or [*self.stages, *distilling][-1]

    def attempt(self, title: str, make: Callable) -> Any:
        """What it makes of this experiment, or a :class:`Missing`."""
        try:
            return make(self)
        except Missing as missing:
            return missing
        except Exception as error:
            self.note(title, error)
            return Missing(title)

    def once(self, name: str, title: str, make: Callable) -> Any:
        """What it makes of this experiment, made when first asked for.

        Args:
            name: By which it is kept.
            title: What the finding is called where that fails.
            make: From this experiment to the part.

        Raises:
            Missing: It cannot be made.
        """
        if name not in self._parts:
            self._parts[name] = self.attempt(title, make)
        found = self._parts[name]
        if isinstance(found, Missing):
            raise found
        return found

    def note(self, title: str, error: Exception) -> None:
        """A problem more, unless it is known."""
        what, _, do = one_line(error, self.explain).partition('; ')
        if all(what != problem.what for problem in self.problems):
            self.problems.append(Finding('red', what, do, title))

    @property
    def cfg(self) -> Config:
        """The config of the stage that is looked at."""
        return self.stages[self.name]

    # -- the runner --------------------------------------------------------

    @part('config')
    def runner(self) -> Runner:
        """Of the stage: without its teacher where that cannot be built."""
        try:
            return self.runner_of(self.name)
        except Exception as error:
            if not self.taught:
                raise
            alone = copy.deepcopy(self.cfg)
            alone.custom_hooks = plain_hooks(alone)
            found = self.build(alone)  # or this is what is wrong
            self.note('distillation', error)
            return found

    @property
    def taught(self) -> bool:
        """Whether the stage has a teacher."""
        return any(hooks_of(self.cfg, TeacherHook))

    def runner_of(self, name: str) -> Runner:
        """Of any stage; those before it are built to have their weights."""
        if name not in self._stages:
            cfg, done = copy.deepcopy(self.stages[name]), {}
            for earlier in self.stages:
                if earlier == name:
                    break
                if f'stage:{earlier}' in str(cfg._cfg_dict):
                    done[earlier] = self.checkpoint_of(earlier)
            fill_in(cfg, done, self.work_dir)
            self._stages[name] = self.build(cfg)
        return self._stages[name]

    def checkpoint_of(self, stage: str) -> str:
        """What it was trained to, or what it would save before it trains."""
        trained = latest_checkpoint(os.path.join(self.work_dir, stage))
        if trained is None:
            self.runner_of(stage).save_checkpoint(self.folder, f'{stage}.pth',
                                                  **WEIGHTS_ONLY)
            trained = self._stand_in(stage)
        return trained

    def _stand_in(self, stage: str) -> str:
        return os.path.join(self.folder, f'{stage}.pth')

    @property
    def untrained(self) -> list[str]:
        """The earlier stages that this one needs and that were not trained."""
        return [
            name for name in self.stages
            if os.path.isfile(self._stand_in(name))
        ]

    def named(self, checkpoint: str) -> str:
        """A checkpoint; where a stage has yet to make it, the stage."""
        for stage in self.untrained:
            if checkpoint == self._stand_in(stage):
                return f'stage {stage}, which is not trained yet'
        return checkpoint

    def build(self, cfg: Config) -> Runner:
        """A runner that writes no log, shows nothing and starts no worker."""
        check_teacher(cfg)
        for hook in hooks_of(cfg, TeacherHook):
            hook.update(evaluate=False, compile=False, cache=False)
        cfg.work_dir = os.path.join(self.folder, 'run')
        cfg.experiment_name = f'doctor_{next(_BUILT)}'
        cfg.log_level, cfg.launcher = 'ERROR', 'none'
        cfg.visualizer = dict(type='Visualizer', name=cfg.experiment_name)
        loader = cfg.train_dataloader
        loader.update(num_workers=0, persistent_workers=False)
        loader.pop('prefetch_factor', None)
        cfg.resume = False
        object.__setattr__(cfg, '_format_python_code', False)
        return RUNNERS.build(cfg)

    @part('schedule')
    def optimizer(self) -> Any:
        """The runner's optimizer wrapper."""
        return built_optimizer(self.runner)

    # -- the networks ------------------------------------------------------

    @part('student weights')
    def initialized(self) -> bool:
        """The student's weights are those that training starts from."""
        with contextlib.redirect_stdout(io.StringIO()):  # MMEngine prints
            self.runner._init_model_weights()
            self.runner.load_or_resume()
        return True

    def start_from(self, state: dict[str, Tensor]) -> None:
        """Other weights than those that training starts from.

        Raises:
            UserError: They are of another model.
        """
        found = unwrap_model(self.runner.model).load_state_dict(state, False)
        odd = [*found.missing_keys, *found.unexpected_keys]
        if odd:
            raise UserError(
                f'the saved weights are of another model: {len(odd)} names '
                f'differ, such as {odd[0]}; was the code changed since?')
        self._parts['initialized'] = True

    @part('config')
    def model(self) -> nn.Module:
        """The student, as training starts: with random weights if need be."""
        found = unwrap_model(self.runner.model)
        try:
            self.initialized
        except Missing:
            pass
        return found

    @part('student weights')
    def student(self) -> nn.Module:
        """The trained student of ``--student``, in eval mode."""
        if not self.student_checkpoint:
            raise Missing
        found, _ = load_student(copy.deepcopy(self.cfg),
                                self.student_checkpoint)
        return found.to(get_device())

    @property
    def distiller(self) -> Distiller:
        """The teachers and terms.

        Raises:
            Missing: The config distils nothing, or they cannot be built.
        """
        found = self.runner.distiller
        if found is None:
            raise Missing
        return found

    @property
    def trains_student(self) -> bool:
        return not isinstance(self.model, NoStudent)

    @part('classes')
    def distils(self) -> bool:
        """The teachers fit the classes of the data."""
        hook = self.runner.student_hook
        self.distiller, self.batches
        hook.before_train(self.runner)
        hook.after_train(self.runner)
        return True

    # -- the data ----------------------------------------------------------

    @part('teacher')
    def predictions(self) -> dict[str, list[Tensor]]:
        """What each teacher says, ``(N, H, W)`` of each batch, by its name.

        Only teachers of the data's own classes are asked.
        """
        return {
            name: [
                predicted(
                    teacher.network,
                    teacher.renormalize(
                        teacher.seen(data['inputs'], data['data_samples'])))
                [:, ::teacher.scale, ::teacher.scale]
                for data in self._prepared
            ]
            for name, teacher in self.distiller.teachers.items()
            if self.speaks(teacher.network)
        }

    def speaks(self, network: nn.Module) -> bool:
        """Whether a network says one of the data's classes at each pixel."""
        return (hasattr(network, 'encode_decode')
                and getattr(network, 'num_classes', None) == len(self.classes))

    def files(self, split: str) -> list[Files]:
        """The data sets of a loader, as files.

        Args:
            split: ``'train'``, ``'val'`` or ``'test'``.

        Raises:
            Missing: A folder or a file is not there.
        """
        loader = self.cfg.get(f'{split}_dataloader') or {}
        if split != 'train' and not loader:  # a stage may have none
            loader = self.whole.get(f'{split}_dataloader') or {}
        return self.once(
            f'{split} files', f'{split} data', lambda self:
            [Files(cfg) for cfg in unwrapped(loader.get('dataset'))])

    @part('train data')
    def batches(self) -> list[dict[str, Any]]:
        """Training batches as the loader gives them; take a :func:`copied`."""
        found, start = [], time.perf_counter()
        for batch, _ in zip(self.runner.train_dataloader, range(self.count)):
            self.data_seconds.append(time.perf_counter() - start)
            found.append(batch)
            start = time.perf_counter()
        if not found:
            raise UserError('the training loader gives no batch; there are '
                            'fewer images than batch_size: lower it')
        return found

    @part('train data')
    def _prepared(self) -> list[dict[str, Any]]:
        prepare = self.model.data_preprocessor
        return [prepare(copied(batch), True) for batch in self.batches]

    @property
    def images(self) -> list[Tensor]:
        """What the student gets: ``(N, C, H, W)`` of each batch."""
        return [data['inputs'] for data in self._prepared]

    @property
    def labels(self) -> list[Tensor]:
        """``(N, H, W)`` of each batch; an unlabelled image is ignored."""
        found = []
        for data in self._prepared:
            blank = data['inputs'].new_full(data['inputs'].shape[2:],
                                            self.ignore_index).long()
            found.append(
                torch.stack([
                    s.gt_sem_seg.data[0] if 'gt_sem_seg' in s else blank
                    for s in data['data_samples']
                ]))
        return found

    @property
    def labelled(self) -> bool:
        """Whether any image has a label."""
        return any('gt_sem_seg' in sample for data in self._prepared
                   for sample in data['data_samples'])

    @property
    def paths(self) -> list[list[str]]:
        """Names of the images of each batch."""
        return [[
            s.get('img_path', f'image {k}')
            for k, s in enumerate(data['data_samples'])
        ] for data in self._prepared]

    @property
    def mirrored(self) -> list[list[bool]]:
        """Whether augmentation has turned each image over, left to right."""
        return [[
            bool(
                s.get('flip') and s.get('flip_direction') == 'horizontal'
                or ('flip', -1) in s.get('geometry', ()))
            for s in data['data_samples']
        ] for data in self._prepared]

    @part('train data')
    def dataset(self) -> Any:
        """What is trained on, as the loader holds it."""
        return self.runner.train_dataloader.dataset

    @part('train data')
    def iterations(self) -> int:
        """Of the stage that is looked at."""
        return self.runner.max_iters

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of the data's classes; () where it says none."""
        return tuple(classes_of(self.dataset) or ())

    @property
    def ignore_index(self) -> int:
        return getattr(self.dataset, 'ignore_index', 255)


def built_optimizer(runner: Runner) -> Any:
    """The optimizer wrapper of a runner, as :meth:`Runner.train` makes it."""
    runner.train_loop  # is built here, and checks the classes
    if isinstance(runner.optim_wrapper, dict):
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.scale_lr(runner.optim_wrapper, runner.auto_scale_lr)
        runner.optim_wrapper.initialize_count_status(runner.model, 0,
                                                     runner.max_iters)
    return runner.optim_wrapper


@torch.no_grad()
def predicted(network: nn.Module, images: Tensor) -> Tensor:
    """Its labels of normalized images: ``(N, C, H, W) -> (N, H, W)``."""
    size = tuple(images.shape[2:])
    meta = dict(img_shape=size, pad_shape=size, ori_shape=size)
    with in_eval_mode(network):
        logits = network.encode_decode(images, [meta] * len(images))
    return labels_of(logits, threshold_of(network))


def copied(batch: dict[str, Any]) -> dict[str, Any]:
    """A batch to be used up: pre-processing writes into its samples."""
    return dict(inputs=list(batch['inputs']),
                data_samples=[s.clone() for s in batch['data_samples']])


def one_line(error: Exception, explain: Callable | None = None) -> str:
    """What went wrong, without a traceback."""
    found = str(error) if isinstance(error, UserError) else None
    if found is None and explain is not None:
        found = explain(error)
    return ' '.join((found or f'{type(error).__name__}: {error}').split())
