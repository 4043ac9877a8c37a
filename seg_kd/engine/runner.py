"""A runner in which distillation parts are parts of the model.

MMEngine builds a runner in this order: model, wrapper (DDP), hooks; and in
``train()``: optimizer, schedulers, ``before_run`` (EMA copies the model),
initial weights, load or resume, ``before_train``, iterations. A hook of a
stock runner comes too late to own trainable parameters: DDP and EMA would not
know them. :class:`DistillRunner` builds the hooks first.
"""
import logging
import os
import warnings
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from mmseg.engine.optimizers import LearningRateDecayOptimizerConstructor
from mmseg.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch.nn.parallel import DistributedDataParallel

from seg_kd.datasets import (check_files, classes_of, make_ready, mix_in,
                             seed_draws, show_finer, with_workers)
from seg_kd.distiller import Distiller
from seg_kd.engine import on_gpu
from seg_kd.engine.advice import advised, mend_class_weights
from seg_kd.engine.checkpoints import BestCheckpointHook, ValidationHook
from seg_kd.engine.complete import complete_hooks
from seg_kd.engine.hooks import DataShareHook, LoadHook, SeedHook
from seg_kd.engine.labelled import task_of_labelled
from seg_kd.engine.late import LateInfoHook
from seg_kd.engine.log import connect
from seg_kd.engine.loss_guard import LossGuardHook
from seg_kd.engine.lost_workers import watched
from seg_kd.engine.processes import join
from seg_kd.engine.progress import ProgressHook, StageLogProcessor
from seg_kd.engine.settings import MMENGINES
from seg_kd.engine.trackers import filled_in
from seg_kd.errors import UserError
from seg_kd.hooks.student import StudentHook
from seg_kd.networks.checkpoint import replacing
from seg_kd.networks.classes import check_num_classes
from seg_kd.networks.taps import resolve
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import DATASETS, MODEL_WRAPPERS, RUNNERS, is_kind

# Hooks of ours that take the place of MMEngine's.
OURS = dict(CheckpointHook=BestCheckpointHook, RuntimeInfoHook=LateInfoHook)


@RUNNERS.register_module()
class DistillRunner(Runner):
    """Builds the hooks first, lets them extend the model, then wraps it.

    It also makes training reproducible (:class:`SeedHook`, and one
    seed for each drawn sample), writes checkpoints in one piece, checks the
    data before it trains, and runs distributed without a GPU too.
    """

    def setup_env(self, env_cfg: dict) -> None:
        join(self.launcher, env_cfg)
        super().setup_env(env_cfg)

    def set_randomness(self,
                       seed: int | None,
                       diff_rank_seed: bool = False,
                       deterministic: bool = False) -> None:
        """As the base class does; ``deterministic`` also makes cuBLAS so.

        An operation that has no deterministic form warns, and is used.
        """
        if deterministic:
            # read when cuBLAS is first used
            os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
            torch.backends.cudnn.benchmark = False
        super().set_randomness(seed, diff_rank_seed, deterministic)
        if deterministic:
            torch.use_deterministic_algorithms(True, warn_only=True)

    def build_logger(self, *args, **kwargs) -> MMLogger:
        logger = super().build_logger(*args, **kwargs)
        connect()
        for handler in logger.handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.addFilter(_is_for_the_console)
        return logger

    def build_log_processor(self, log_processor):
        if isinstance(log_processor, dict):
            log_processor = {'type': StageLogProcessor, **log_processor}
        return super().build_log_processor(log_processor)

    def build_visualizer(self, visualizer=None):
        if isinstance(visualizer, dict):
            stage = self.cfg.get('stage') or {}
            visualizer = {'type': 'Visualizer', **visualizer}
            visualizer = filled_in(visualizer, self.work_dir,
                                   stage.get('name', ''))
        return super().build_visualizer(visualizer)

    def wrap_model(self, model_wrapper_cfg: dict | None, model):
        if not hasattr(self, '_hooks'):  # called before there are hooks
            return model
        if self.cfg.get('channels_last'):
            model = model.to(memory_format=torch.channels_last)
        if self.distributed:
            if self.cfg.get('sync_bn') and not torch.cuda.is_available():
                raise UserError('sync_bn needs GPUs, as torch synchronizes no '
                                'batch norm on a CPU: leave it out')
            model_wrapper_cfg = self._with_defaults(model_wrapper_cfg or {})
        with warnings.catch_warnings():  # MMEngine uses the old name
            warnings.filterwarnings('ignore', message='`broadcast_buffers`')
            return super().wrap_model(model_wrapper_cfg, model)

    def _with_defaults(self, wrapper: dict[str, Any]) -> dict[str, Any]:
        """``model_wrapper_cfg`` with what MMEngine sets only without one."""
        wrapper = {'type': 'MMDistributedDataParallel', **wrapper}
        if not is_kind(wrapper, MODEL_WRAPPERS, DistributedDataParallel):
            return wrapper
        unused = self.cfg.get('find_unused_parameters', False)
        wrapper = dict(broadcast_buffers=False,
                       find_unused_parameters=unused) | wrapper
        if not torch.cuda.is_available():
            wrapper['device_ids'] = None
        return wrapper

    def register_hooks(self, default_hooks=None, custom_hooks=None) -> None:
        super().register_hooks(
            prepared(default_hooks),
            complete_hooks(custom_hooks, self.cfg.get('teacher')))
        self.student_hook = StudentHook()
        for hook in (SeedHook(), LossGuardHook(), LoadHook(), DataShareHook(),
                     ProgressHook(), ValidationHook(), self.student_hook):
            if not any(type(other) is type(hook) for other in self.hooks):
                self.register_hook(hook)
        with advised():
            self.call_hook('before_wrap_model')
        self.model = self.wrap_model(self.cfg.get('model_wrapper_cfg'),
                                     self.model)
        self.call_hook('after_wrap_model')

    @property
    def distiller(self) -> Distiller | None:
        """The teachers and terms of the config, if it distils."""
        return self.student_hook.distiller

    def call_hook(self, fn_name: str, **kwargs) -> None:
        """As the base class does; an error keeps its traceback."""
        for hook in self._hooks:
            if hasattr(hook, fn_name):
                getattr(hook, fn_name)(self, **kwargs)

    @staticmethod
    def build_dataloader(dataloader: Any,
                         seed: int | None = None,
                         diff_rank_seed: bool = False):
        """As the base class does, with the data checked first.

        Each draw gets a seed of its own, so that augmentation does not depend
        on workers, ranks or a resumed run: see :func:`seed_draws`. Images
        without labels come with :func:`mix_in`, worker processes as the
        machine has cores: :func:`with_workers`. ``finer`` holds arguments of
        :func:`show_finer`; it is not for configs.
        """
        if isinstance(dataloader, dict) and isinstance(
                dataloader.get('dataset'), dict):
            check_files(dataloader['dataset'])
            dataset = make_ready(DATASETS.build(dataloader['dataset']))
            dataloader = {**dataloader, 'dataset': dataset}
            if finer := dataloader.pop('finer', None):
                show_finer(dataset, **finer)
            dataloader = seed_draws(mix_in(dataloader))
        if isinstance(dataloader, dict):
            dataloader = with_workers(dataloader)
        return watched(
            Runner.build_dataloader(dataloader, seed, diff_rank_seed))

    def build_train_loop(self, loop):
        loader = self._train_dataloader
        if self.student_hook.finer and isinstance(loader, dict) and \
                isinstance(loader.get('dataset'), dict):
            self._train_dataloader = dict(loader,
                                          finer=self.student_hook.finer)
        if isinstance(loader, dict) and loader.get('unlabelled') and \
                self.cfg.get('task', True):
            task_of_labelled(unwrap_model(self.model))
        loop = super().build_train_loop(loop)
        classes = classes_of(loop.dataloader.dataset)
        if classes is not None:
            check_num_classes(unwrap_model(self.model), classes, 'the student')
        return loop

    def build_optim_wrapper(self, optim_wrapper):
        if self.distiller is not None and isinstance(optim_wrapper, dict):
            optim_wrapper = with_rates(optim_wrapper, self.distiller)
        optim_wrapper = super().build_optim_wrapper(optim_wrapper)
        counts = getattr(optim_wrapper, '_accumulative_counts', 1)
        if counts > 1 and getattr(self.model, 'static_graph', False):
            raise UserError('DDP can have no static graph where gradients are '
                            'accumulated: leave static_graph out of '
                            'model_wrapper_cfg, or accumulative_counts out of '
                            'optim_wrapper')
        check_checkpoint_hooks(self.hooks, counts, len(self.train_dataloader))
        return optim_wrapper

    def build_model(self, model):
        model = super().build_model(model)
        mend_class_weights(model)
        for layer in self.cfg.get('activation_checkpointing') or []:
            resolve(model, layer)
        on_gpu.ready(model, get_device())
        return model

    def train(self):
        # Each checkpoint has the config as text: laying that out takes longer
        # than writing the weights of a small student.
        object.__setattr__(self.cfg, '_format_python_code', False)
        try:
            with advised():
                return super().train()
        finally:
            self._end_workers()

    def load_checkpoint(self, filename: str, *args, **kwargs) -> dict:
        """As the base class does; a name that no model zoo has is said."""
        try:
            return super().load_checkpoint(filename, *args, **kwargs)
        except KeyError as error:
            if '://' not in filename:
                raise
            raise UserError(f'{filename}: no such weights are known: '
                            f'{error}') from error

    def test(self):
        try:
            return super().test()
        finally:
            self._end_workers()

    def _end_workers(self) -> None:
        """Ends the loaders' worker processes.

        Left to the garbage collector, each would be waited for for 5 s: by
        then the queue that tells it to end is closed.
        """
        for loop in (self._train_loop, self._val_loop, self._test_loop):
            loader = getattr(loop, 'dataloader', None)
            workers = getattr(loader, '_iterator', None)
            if workers is not None:
                workers._shutdown_workers()
                loader._iterator = None

    def save_checkpoint(self, out_dir: str, filename: str, *args,
                        **kwargs) -> None:
        """In one piece: see :func:`replacing`."""
        if is_main_process():
            with replacing(os.path.join(out_dir, filename)) as part:
                super().save_checkpoint(out_dir, os.path.basename(part), *args,
                                        **kwargs)


def _is_for_the_console(record: logging.LogRecord) -> bool:
    """What nobody needs on the screen is in the log file all the same."""
    for_the_file = ('-----', 'Config:', 'Hooks will be executed', 'Exp name:',
                    'Distributed training is not used', '"FileClient" will',
                    '"HardDiskBackend" is', 'The prefix is not set in metric',
                    'Please make sure that the mlflow server',
                    'paramwise_options', '`save_param_scheduler` is True')
    message = record.getMessage()
    return not (message.lstrip().startswith(for_the_file)
                or 'skipped since its requires_grad' in message)


def prepared(hooks: dict[str, Any] | None) -> dict[str, Any]:
    """``default_hooks`` in which None leaves out any, not MMEngine's alone."""
    found: dict[str, Any] = dict(runtime_info=dict(type=LateInfoHook))
    for name, hook in (hooks or {}).items():
        if isinstance(hook, dict):
            kind = hook.get('type')
            hook = {**hook, 'type': OURS.get(kind, kind)}
        if hook is not None or name in MMENGINES:
            found[name] = hook
    return found


def with_rates(optim_wrapper: dict, distiller: Distiller) -> dict:
    """With the terms' own learning rates, as keys of MMEngine's constructor.

    A key of the config that names a term's part counts before these.

    Raises:
        UserError: The constructor reads no keys.
    """
    keys = {
        f'distill.{term.name}.': dict(lr_mult=term.lr_mult)
        for term in distiller.terms if term.lr_mult != 1
    }
    if not keys:
        return optim_wrapper
    constructor = optim_wrapper.get('constructor')
    if is_kind(dict(type=constructor), OPTIM_WRAPPER_CONSTRUCTORS,
               LearningRateDecayOptimizerConstructor):
        raise UserError(
            f'{constructor} sets rates by layer and reads no lr_mult of '
            f'{", ".join(keys)}: give these hooks lr_mult=1., or take '
            'another constructor')
    given = optim_wrapper.get('paramwise_cfg') or {}
    keys.update(given.get('custom_keys') or {})
    return {**optim_wrapper, 'paramwise_cfg': {**given, 'custom_keys': keys}}


def check_checkpoint_hooks(hooks, accumulative_counts: int,
                           epoch: int) -> None:
    """Raises UserError where a kill would lose what a resume needs.

    Args:
        hooks: All of a runner.
        accumulative_counts: Iterations that gradients are summed over.
        epoch: Iterations of one.
    """
    for hook in (h for h in hooks if isinstance(h, CheckpointHook)):
        if hook.max_keep_ckpts == 1:
            raise UserError(
                'max_keep_ckpts=1 deletes the last checkpoint before the next '
                'one is written: set it to 2 or more')
        interval = hook.interval * (epoch if hook.by_epoch else 1)
        if interval > 0 and interval % accumulative_counts:
            raise UserError(
                f'checkpoints every {interval} iterations would lose '
                f'gradients accumulated over {accumulative_counts}: make the '
                'interval a multiple of accumulative_counts')
