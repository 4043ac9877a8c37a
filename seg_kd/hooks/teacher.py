"""The frozen teacher: loaded completely, checked, run once an iteration."""
from contextlib import nullcontext
from typing import Any, Dict, Iterable, Optional, Set, Tuple, Union

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from torch import Tensor, nn

from seg_kd.errors import UserError
from seg_kd.hooks.requests import differentiated_paths, tapped_paths
from seg_kd.networks.classes import (check_class_names, check_num_classes,
                                     class_names, heads)
from seg_kd.networks.compiling import compile_untapped
from seg_kd.networks.folding import fold_batch_norm
from seg_kd.networks.normalization import Renormalise
from seg_kd.networks.taps import Taps, parse
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.registry import HOOKS
from seg_kd.teacher.build import build_teacher, set_mode
from seg_kd.teacher.cache.cache import cache_options, open_cache
from seg_kd.teacher.evaluate import evaluate_model
from seg_kd.teacher.side_stream import SideStream
from seg_kd.teacher.task_gradients import TaskGradients

PRECISIONS = (None, 'float32', 'bfloat16', 'float16')


@HOOKS.register_module()
class TeacherHook(Hook):
    """Owns the teacher and runs it for all :class:`DistillHook` s.

    The teacher is no part of the student: not in DDP, optimizer, EMA or any
    checkpoint. It runs in a forward pre-hook of the student, without
    gradients, in eval mode, and only as far as the deepest tapped layer. For
    hooks that set ``teacher_logits`` it goes as far as those and finds the
    gradients of its own cross entropy by their maps as well.

    Args:
        model: A config file of a model, an MMSegmentation config by name
            (``'mmseg::pspnet/...py'``), or a model config itself.
        checkpoint: File or URL of the weights. May be left out with
            ``'mmseg::'``: the model index knows them.
        trust_checkpoint: Unpickle everything in the checkpoint. Only for
            files that you made yourself.
        evaluate: Log the teacher's mIoU on the validation set before training.
        teacher_mode: ``'eval'``, or ``'bn_train'``: batch norm with the
            statistics of the batch, the running ones untouched.
        allow_other_classes: Accept a teacher that was trained on other
            classes than the data has. Only features may then be distilled.
        fold_bn: In eval mode, fold batch norms into the convolutions before
            them, except where one of the two is tapped. When the runner is
            built ``network`` is without them.
        precision: ``'bfloat16'`` or ``'float16'`` runs the teacher under
            autocast, ``'float32'`` without; None: as the student's step does.
            Losses get float32 maps in any case.
        compile: ``torch.compile`` what lies between the taps; a dict holds
            arguments of it, such as ``dict(mode='max-autotune')``.
        channels_last: Memory format of the teacher's weights; None: as
            ``channels_last`` of the config, which is the student's.
        own_stream: On a GPU, run beside the student's forward.
        cache: Keep the maps of each whole training image on disk, and move
            them as the image is moved: True, or a dict of ``folder``
            (``teacher_cache`` beside the run's), ``max_gib`` (4) and
            ``dtype`` (``'float16'``). See docs/performance.md.

    Raises:
        UserError: The weights do not fill the model, the classes differ, or
            an option is none of the above.
    """

    priority = 'VERY_HIGH'

    def __init__(self,
                 model: Union[str, Dict[str, Any]],
                 checkpoint: Optional[str] = None,
                 trust_checkpoint: bool = False,
                 evaluate: bool = False,
                 teacher_mode: str = 'eval',
                 allow_other_classes: bool = False,
                 fold_bn: bool = True,
                 precision: Optional[str] = None,
                 compile: Union[bool, Dict[str, Any]] = False,
                 channels_last: Optional[bool] = None,
                 own_stream: bool = True,
                 cache: Union[bool, Dict[str, Any]] = False) -> None:
        if teacher_mode not in ('eval', 'bn_train'):
            raise UserError(f"teacher_mode is 'eval' or 'bn_train', not "
                            f'{teacher_mode!r}')
        if precision not in PRECISIONS:
            raise UserError('the precision of the teacher is one of '
                            f'{PRECISIONS}, not {precision!r}')
        if not isinstance(compile, (bool, dict)):
            raise UserError('TeacherHook(compile=) is True, False or a dict '
                            f'of arguments of torch.compile, not {compile!r}')
        self.model, self.checkpoint = model, checkpoint
        self.trust_checkpoint, self.evaluate = trust_checkpoint, evaluate
        self.teacher_mode = teacher_mode
        self.allow_other_classes = allow_other_classes
        self.fold_bn = fold_bn and teacher_mode == 'eval'
        self.precision, self.compile = precision, compile
        self.channels_last, self.own_stream = channels_last, own_stream
        self.cache = cache_options(cache)
        self._forget()

    def _forget(self) -> None:
        """What belongs to one iteration."""
        self._maps: Dict[str, Tensor] = {}
        # where asked for, by (path of the logits, path of the map)
        self.gradients: Dict[Tuple[str, str], Tensor] = {}
        self.labels: Optional[Tensor] = None  # (N, H, W)
        self.mask: Optional[Tensor] = None  # where the labels count
        self.terms: Set[str] = set()  # what distillation added to the losses

    # -- building ----------------------------------------------------------

    def before_wrap_model(self, runner) -> None:
        """Builds the teacher, and finds the shape of every tapped map."""
        if self.precision == 'float16' and get_device() == 'cpu':
            raise UserError("a CPU has no fast float16: use "
                            "precision='bfloat16' for the teacher")
        with torch.random.fork_rng(devices=[]):
            self.network, checkpoint = build_teacher(
                self.model, self.checkpoint, self.trust_checkpoint,
                runner.model.data_preprocessor)
        self._trained_on = class_names(checkpoint)
        self.network.to(get_device())
        if self.channels_last is None:
            self.channels_last = runner.cfg.get('channels_last', False)
        if self.channels_last:
            self.network.to(memory_format=torch.channels_last)
        set_mode(self.network, self.teacher_mode)
        student = runner.model.to(get_device())
        self._renormalise = Renormalise(student.data_preprocessor,
                                        self.network.data_preprocessor)
        image = dry_image(student)
        self._noise = torch.randn(
            image.shape, generator=torch.Generator().manual_seed(0)).to(image)
        student_paths, teacher_paths = tapped_paths(runner)
        self.student_shapes = Taps(student, student_paths).shapes(image)
        self.taps = Taps(self.network, teacher_paths)
        self.teacher_shapes = self.taps.shapes(image)
        self._find_tasks(runner)
        self._side = SideStream(self.own_stream)
        self._describe(image)

    def _find_tasks(self, runner) -> None:
        """What the teacher is differentiated for, and where from."""
        tasks = differentiated_paths(runner)
        self.taps.leaves = {p for found in tasks.values() for p in found}
        # One of several maps may be behind another: no graph can start there.
        self._from_the_start = any(
            parse(path)[1] is not None for path in self.taps.leaves)
        if tasks and self.compile:
            raise UserError('gradients of the task and compile= do not go '
                            'together: set TeacherHook(compile=False)')
        self._tasks = TaskGradients(
            tasks, next((h.ignore_index for h in heads(runner.model)), 255),
            next((h.align_corners for h in heads(self.network)), False))

    def after_wrap_model(self, runner) -> None:
        """Folds: later than any hook that takes weights of the teacher."""
        if self.fold_bn:
            folded = fold_batch_norm(self.taps, self._noise)
            print_log(f'Teacher: {folded} batch norms folded', 'current')

    def _describe(self, image: Tensor) -> None:
        size = sum(p.numel() for p in self.network.parameters()) / 1e6
        lines = [
            f'Teacher: {type(self.network).__name__}, {size:.2f} M '
            f'parameters, all loaded from {self.source}; '
            f'{self.teacher_mode} mode; classes: '
            f'{", ".join(str(h.num_classes) for h in heads(self.network))}'
        ]
        for owner, shapes in (('teacher', self.teacher_shapes),
                              ('student', self.student_shapes)):
            for path, shape in shapes.items():
                stride = image.shape[2] / shape[2]
                lines.append(f'  {owner} {path}: {tuple(shape)}, stride '
                             f'{stride:.3g}')
        print_log('\n'.join(lines), 'current')

    @property
    def source(self) -> str:
        return str(self.checkpoint or self.model)

    # -- training ----------------------------------------------------------

    def before_train(self, runner) -> None:
        data = runner.train_dataloader.dataset.metainfo.get('classes')
        if not self.allow_other_classes and data is not None:
            check_num_classes(self.network, data, 'the teacher')
            check_class_names(self._trained_on, data, self.source)
        if self.evaluate and runner.iter == 0:
            metrics = evaluate_model(self.network, runner)
            shown = ', '.join(f'{k} {v:.2f}' for k, v in metrics.items())
            print_log(f'Teacher on the validation set: {shown}', 'current')
        if self._tasks.wanted and self.allow_other_classes:
            raise UserError('gradients of the task need a teacher of the '
                            "data's own classes")
        model = unwrap_model(runner.model)
        if self.compile:
            options = {} if self.compile is True else self.compile
            parts = compile_untapped(self.taps, options)
            print_log(f'Teacher: compiled are {", ".join(parts)}', 'current')
        self.taps.attach()
        self._cache = open_cache(self, runner, self._forward)
        self._handle = model.register_forward_pre_hook(self._run,
                                                       with_kwargs=True)

    def after_train(self, runner) -> None:
        self._handle.remove()
        self.taps.detach()
        self._forget()

    def _run(self, student: nn.Module, args, kwargs) -> None:
        if kwargs.get('mode') != 'loss':
            return
        self._forget()
        given = {**dict(zip(('inputs', 'data_samples'), args)), **kwargs}
        inputs = given['inputs']
        self.device_type = inputs.device.type
        self.labels = stack_labels(given.get('data_samples'))
        if self.labels is not None:
            self.mask = self.labels.ne(self._tasks.ignore_index)
        with self._side.beside(inputs):
            if self._cache is not None:
                self._maps = self._cache.maps(given['data_samples'])
            else:
                self._maps = self._forward(inputs)

    def _forward(self, images: Tensor) -> Dict[str, Tensor]:
        """The tapped maps of images that are normalised for the student.

        Finds :attr:`gradients` as well.
        """
        differentiated = bool(self._tasks.wanted)
        # not inference_mode: losses save these maps
        with torch.set_grad_enabled(differentiated), self._autocast(images):
            images = self._renormalise(images)
            if self._from_the_start:
                images = images.detach().requires_grad_()
            maps = self.taps.run(images)
            self.gradients = self._tasks(maps, self.labels)
        return {path: kept.detach() for path, kept in maps.items()}

    def _autocast(self, images: Tensor):
        if self.precision is None:
            return nullcontext()
        kind = images.device.type
        if self.precision == 'float32':
            return torch.autocast(kind, enabled=False)
        return torch.autocast(kind, getattr(torch, self.precision))

    @property
    def maps(self) -> Dict[str, Tensor]:
        """By path. Read them before :attr:`gradients`: this waits for both.
        """
        self._side.join([*self._maps.values(), *self.gradients.values()])
        return self._maps

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None) -> None:
        self._forget()


def dry_image(student: nn.Module) -> Tensor:
    """One grey image of the size that training uses, else 512 x 512."""
    size = getattr(student.data_preprocessor, 'size', None) or (512, 512)
    return torch.zeros(1, 3, *size, device=get_device())


def stack_labels(data_samples: Optional[Iterable]) -> Optional[Tensor]:
    """Labels of the batch, ``(N, H, W)``; None without samples."""
    if data_samples is None:
        return None
    return torch.cat([sample.gt_sem_seg.data for sample in data_samples])
