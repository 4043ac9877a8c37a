"""The frozen teacher of a config: built, checked, made faster."""
import copy
import inspect
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmseg.structures import SegDataSample
from torch import Tensor, nn

from seg_kd import shipped
from seg_kd.datasets import classes_of
from seg_kd.datasets.transforms import FINER
from seg_kd.errors import UserError
from seg_kd.hooks.distill import check_built
from seg_kd.networks.classes import (check_class_names, check_num_classes,
                                     class_names, heads)
from seg_kd.networks.compiling import compile_untapped
from seg_kd.networks.folding import fold_batch_norm
from seg_kd.networks.normalization import Renormalize
from seg_kd.networks.taps import in_eval_mode
from seg_kd.registry import HOOKS
from seg_kd.teacher.build import build_teacher, teacher_config
from seg_kd.teacher.cache.cache import cache_options, open_cache
from seg_kd.teacher.evaluate import evaluate_model
from seg_kd.teacher.precision import Precision
from seg_kd.teacher.side_stream import SideStream
from seg_kd.teacher.teacher import MODES, Teacher, checked_scale


@HOOKS.register_module()
class TeacherHook(Hook):
    """Makes the :class:`~seg_kd.teacher.teacher.Teacher` of a config.

    The teacher is no part of the student: not in DDP, optimizer, EMA or any
    checkpoint. It runs once per iteration for all distillation hooks that
    name it (:class:`~seg_kd.hooks.student.StudentHook`).

    Args:
        model: A config file of a model, an MMSegmentation config by name
            (``'mmseg::pspnet/...py'``), or a model config itself.
        checkpoint: File or URL of the weights. May be left out where they are
            shipped (``'seg_kd::teacher_deeplab_synthetic.py'``), and with
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
        own_stream: On a GPU, run at the same time as the student's forward.
        cache: Keep the maps of each whole training image on disk, and move
            them as the image is moved: True, or a dict of ``folder``
            (``teacher_cache`` next to the run's), ``max_gib`` (4),
            ``dtype`` (``'float16'``) and ``ignore_colours`` (False): the
            teacher sees an image in its own colours, whatever the pipeline
            does to those of the student's. See docs/performance.md.
        name: What hooks call it by (``teacher_name=``), where there are
            several.
        scale: Show it each image at so many times the height and width that
            the student gets, as the file has it before the student's is made
            smaller; a whole number. Its maps are averaged to the grid of
            scale 1. See docs/own_teacher.md.

    Raises:
        UserError: The weights do not fill the model, the classes differ, or
            an option is none of the above.
    """

    def __init__(self,
                 model: str | dict[str, Any],
                 checkpoint: str | None = None,
                 trust_checkpoint: bool = False,
                 evaluate: bool = False,
                 teacher_mode: str = 'eval',
                 allow_other_classes: bool = False,
                 fold_bn: bool = True,
                 precision: str | None = None,
                 compile: bool | dict[str, Any] = False,
                 channels_last: bool | None = None,
                 own_stream: bool = False,
                 cache: bool | dict[str, Any] = False,
                 name: str = 'teacher',
                 scale: float = 1.,
                 **unknown: Any) -> None:
        for wrong in unknown:
            *known, _ = inspect.signature(TeacherHook).parameters
            raise UserError(f'TeacherHook has no {wrong}='
                            f'{shipped.nearest(wrong, known)}')
        if teacher_mode not in MODES:
            raise UserError(f"teacher_mode is 'eval' or 'bn_train', not "
                            f'{teacher_mode!r}')
        if not isinstance(compile, (bool, dict)):
            raise UserError('TeacherHook(compile=) is True, False or a dict '
                            f'of arguments of torch.compile, not {compile!r}')
        if own_stream and isinstance(compile, dict) and \
                compile.get('mode') in ('reduce-overhead', 'max-autotune'):
            raise UserError(f"compile=dict(mode={compile['mode']!r}) records "
                            'CUDA graphs, which write over the maps that '
                            'another stream still reads: leave out '
                            'own_stream, or the mode')
        self.precision = None if precision is None else Precision(precision)
        self.model, self.checkpoint = model, checkpoint
        self.trust_checkpoint, self.evaluate = trust_checkpoint, evaluate
        self.teacher_mode = teacher_mode
        self.allow_other_classes = allow_other_classes
        self.fold_bn = fold_bn and teacher_mode == 'eval'
        self.compile, self.channels_last = compile, channels_last
        self.own_stream, self.name = own_stream, name
        self.cache, self.scale = cache_options(cache), checked_scale(scale)

    @property
    def network(self) -> nn.Module:
        return self.teacher.network

    # -- building: StudentHook calls these, and start() --------------------

    def build(self, runner) -> Teacher:
        """The teacher, with all of its weights."""
        if (self.precision is not None and self.precision.name == 'float16'
                and get_device() == 'cpu'):
            raise UserError("a CPU has no fast float16: use "
                            "precision='bfloat16' for the teacher")
        student = runner.model
        with torch.random.fork_rng(devices=[]):
            network, checkpoint = build_teacher(self.model, self.checkpoint,
                                                self.trust_checkpoint,
                                                student.data_preprocessor)
        self._trained_on = class_names(checkpoint)
        network.to(get_device())
        if self.channels_last is None:
            self.channels_last = runner.cfg.get('channels_last', False)
        if self.channels_last:
            network.to(memory_format=torch.channels_last)
        stream = self.own_stream and torch.cuda.is_available()
        self.teacher = Teacher(
            network, self.teacher_mode,
            Renormalize(student.data_preprocessor, network.data_preprocessor),
            self.precision,
            SideStream() if stream else None,
            next((h.ignore_index for h in heads(student)), 255),
            next((h.align_corners for h in heads(network)), False),
            str(self.checkpoint or self.model), self.scale,
            FinerImages(student.data_preprocessor, self.scale))
        return self.teacher

    def make_faster(self, image: Tensor) -> None:
        """When it is known what is tapped, and nobody needs the weights."""
        if self.teacher.task_gradients is not None:
            if self.compile:
                raise UserError('gradients of the task and compile= do not '
                                'go together: set TeacherHook(compile=False)')
            if self.allow_other_classes:
                raise UserError('gradients of the task need a teacher of the '
                                "data's own classes")
        if self.fold_bn:
            noise = torch.randn(image.shape,
                                generator=torch.Generator().manual_seed(0))
            folded = fold_batch_norm(self.teacher.taps, noise.to(image))
            print_log(f'Teacher: {folded} batch norms folded', 'current')

    def describe(self) -> str:
        size = sum(p.numel() for p in self.network.parameters()) / 1e6
        classes = ', '.join(str(h.num_classes) for h in heads(self.network))
        view = ('' if self.scale == 1 else
                f"; sees {self.scale} times the student's height and width")
        return (f'Teacher: {type(self.network).__name__}, {size:.2f} M '
                f'parameters, all loaded from {self.teacher.source}; '
                f'{self.teacher_mode} mode; classes: {classes}{view}')

    # -- training ----------------------------------------------------------

    def before_run(self, runner) -> None:
        check_built(hasattr(self, 'teacher'))

    def start(self, runner) -> None:
        """When training begins and the data is there."""
        data = classes_of(runner.train_dataloader.dataset)
        if not self.allow_other_classes and data is not None:
            check_num_classes(self.network,
                              data,
                              'the teacher',
                              auxiliary=False)
            check_class_names(self._trained_on, data, self.teacher.source)
        staged = (runner.cfg.get('stage') or {}).get('name')
        if self.evaluate and staged and runner.val_loop is None:
            print_log(
                f'Teacher: not evaluated, as the stage {staged!r} '
                'validates nothing', 'current')
        elif self.evaluate and runner.iter == 0:
            metrics = evaluate_model(self.network, runner, self.scale)
            shown = ', '.join(f'{k} {v:.2f}' for k, v in metrics.items())
            print_log(f'Teacher on the validation set: {shown}', 'current')
        if self.compile:
            options = {} if self.compile is True else self.compile
            parts = compile_untapped(self.teacher.taps, options)
            print_log(f'Teacher: compiled are {", ".join(parts)}', 'current')
        if self.cache is not None:
            self.teacher.cache = open_cache(self.teacher, runner,
                                            self._identity(runner),
                                            **self.cache)

    @torch.no_grad()
    def predict(self, batch: dict) -> list:
        """What the whole network sees in a batch of a validation.

        In the midst of a training too: taps, modes and batch are left as
        they were.
        """
        batch = dict(batch, data_samples=copy.deepcopy(batch['data_samples']))
        with self.teacher.taps.detached(), in_eval_mode(self.network), \
                torch.compiler.set_stance('force_eager'):
            return self.network.val_step(batch)

    def _identity(self, runner) -> list[str]:
        """What decides about a map, besides the weights and the image."""
        config, _ = teacher_config(self.model, self.checkpoint)
        wrapper = runner.cfg.get('optim_wrapper', {})
        precision = self.precision and self.precision.name
        running = (precision, self.fold_bn, self.compile, self.channels_last,
                   wrapper.get('type'), wrapper.get('dtype'))
        finer = [] if self.scale == 1 else [f'scale={self.scale}']
        return [repr(config), repr(running), *finer]


@dataclass
class FinerImages:
    """From a batch to the images of a finer view that came with it.

    Args:
        preprocessor: The student's.
        scale: As of :class:`~seg_kd.teacher.teacher.Teacher`.

    Raises:
        UserError: They did not come, or ``batch_augments`` has changed the
            student's in ways that are not known.
    """

    preprocessor: nn.Module
    scale: int

    def __call__(self, images: Tensor, samples: Any) -> Tensor:
        if getattr(self.preprocessor, 'batch_augments', None) is not None:
            raise UserError('batch_augments of data_preprocessor change '
                            "images in ways that a teacher's finer view does "
                            'not see: remove them')
        views = [sample.get(FINER) for sample in samples or [{}]]
        if any(view is None for view in views):
            raise UserError(
                'the batch brings no images for a teacher with scale='
                f'{self.scale}: let the runner build the train_dataloader '
                'from a config, or set TeacherHook(cache=True)')
        alike = len({view.shape for view in views}) == 1
        found = []
        for batch in [views] if alike else [[view] for view in views]:
            data = dict(inputs=batch,
                        data_samples=[SegDataSample()] * len(batch))
            view = self.preprocessor(data, training=True)['inputs']
            bottom, right = (self.scale * n - m
                             for n, m in zip(images.shape[2:], view.shape[2:]))
            found.append(
                F.pad(view, [0, right, 0, bottom],
                      value=self.preprocessor.pad_val))
        return torch.cat(found)
