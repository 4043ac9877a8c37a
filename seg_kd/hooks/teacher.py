"""The frozen teacher: loaded completely, checked, run once an iteration."""
import copy
import os
import warnings
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple, Union

import torch
import torch.nn.functional as F
from mmengine.config import Config, ConfigDict
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.hub import get_config
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper, revert_sync_batchnorm
from mmengine.registry import init_default_scope
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..checkpoint import load_weights, read_checkpoint
from ..classes import check_class_names, check_num_classes, class_names, heads
from ..errors import UserError
from ..evaluation import evaluate_model
from ..registry import HOOKS, MODELS
from ..taps import Taps, parse


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

    Raises:
        UserError: The weights do not fill the model, or the classes differ.
    """

    priority = 'VERY_HIGH'

    def __init__(self,
                 model: Union[str, Dict[str, Any]],
                 checkpoint: Optional[str] = None,
                 trust_checkpoint: bool = False,
                 evaluate: bool = False,
                 teacher_mode: str = 'eval',
                 allow_other_classes: bool = False) -> None:
        if teacher_mode not in ('eval', 'bn_train'):
            raise UserError(f"teacher_mode is 'eval' or 'bn_train', not "
                            f'{teacher_mode!r}')
        self.model, self.checkpoint = model, checkpoint
        self.trust_checkpoint, self.evaluate = trust_checkpoint, evaluate
        self.teacher_mode = teacher_mode
        self.allow_other_classes = allow_other_classes
        self._forget()

    def _forget(self) -> None:
        """What belongs to one iteration."""
        self.maps: Dict[str, Tensor] = {}
        # where asked for, by (path of the logits, path of the map)
        self.gradients: Dict[Tuple[str, str], Tensor] = {}
        self.labels: Optional[Tensor] = None  # (N, H, W)
        self.mask: Optional[Tensor] = None  # where the labels count
        self.terms: Set[str] = set()  # what distillation added to the losses

    # -- building ----------------------------------------------------------

    def before_wrap_model(self, runner) -> None:
        """Builds the teacher, and finds the shape of every tapped map."""
        with torch.random.fork_rng(devices=[]):
            self.network, checkpoint = build_teacher(
                self.model, self.checkpoint, self.trust_checkpoint,
                runner.model.data_preprocessor)
        self._trained_on = class_names(checkpoint)
        self.network.to(get_device())
        if runner.cfg.get('channels_last'):
            self.network.to(memory_format=torch.channels_last)
        set_mode(self.network, self.teacher_mode)
        student = runner.model.to(get_device())
        self._renormalise = Renormalise(student.data_preprocessor,
                                        self.network.data_preprocessor)
        image = dry_image(student)
        student_paths, teacher_paths = tapped_paths(runner)
        self.student_shapes = Taps(student, student_paths).shapes(image)
        self.taps = Taps(self.network, teacher_paths)
        self.teacher_shapes = self.taps.shapes(image)
        self._tasks = differentiated_paths(runner)
        self.taps.leaves = {p for found in self._tasks.values() for p in found}
        # One of several maps may be behind another: no graph can start there.
        self._from_the_start = any(
            parse(path)[1] is not None for path in self.taps.leaves)
        self._describe(image)

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
        model = runner.model
        model = model.module if is_model_wrapper(model) else model
        self._ignore_index = next((head.ignore_index for head in heads(model)),
                                  255)
        self._align_corners = next(
            (head.align_corners for head in heads(self.network)), False)
        if self._tasks and self.allow_other_classes:
            raise UserError('gradients of the task need a teacher of the '
                            "data's own classes")
        self.taps.attach()
        self._handle = model.register_forward_pre_hook(self._run,
                                                       with_kwargs=True)

    def after_train(self, runner) -> None:
        self._handle.remove()
        self.taps.detach()
        self._forget()

    @torch.no_grad()  # not inference_mode: losses save these maps
    def _run(self, student: nn.Module, args, kwargs) -> None:
        if kwargs.get('mode') != 'loss':
            return
        self._forget()
        given = {**dict(zip(('inputs', 'data_samples'), args)), **kwargs}
        inputs = given['inputs']
        self.device_type = inputs.device.type
        self.labels = stack_labels(given.get('data_samples'))
        if self.labels is not None:
            self.mask = self.labels.ne(self._ignore_index)
        with torch.set_grad_enabled(bool(self._tasks)):
            images = self._renormalise(inputs)
            if self._from_the_start:
                images = images.detach().requires_grad_()
            maps = self.taps.run(images)
            self.gradients = self._differentiate(maps)
        self.maps = {path: kept.detach() for path, kept in maps.items()}

    def _differentiate(self, maps: Dict[str, Tensor]):
        """Gradients of the cross entropy, summed over pixels, by the maps."""
        found: Dict[Tuple[str, str], Tensor] = {}
        for logits, wanted in self._tasks.items():
            task = pixel_sum(maps[logits], self.labels, self._ignore_index,
                             self._align_corners)
            given = {path: maps[path] for path in wanted}
            for path, gradient in gradients(task, given, 'teacher').items():
                found[logits, path] = gradient
        return found

    def after_train_iter(self,
                         runner,
                         batch_idx,
                         data_batch=None,
                         outputs=None) -> None:
        self._forget()


def build_teacher(model: Union[str,
                               Dict], checkpoint: Optional[str], trust: bool,
                  preprocessor: nn.Module) -> Tuple[nn.Module, Dict[str, Any]]:
    """The teacher with all its weights, and the checkpoint they came from.

    A model config that says nothing of pre-processing gets the student's.
    """
    config, found = teacher_config(model, checkpoint)
    content = read_checkpoint(found, trust)
    if config.get('data_preprocessor') is None:
        config['data_preprocessor'] = preprocessor
    network = build_network(config)
    load_weights(network, content, f'the checkpoint {found} of the teacher')
    return network.requires_grad_(False), content


def build_network(config: Dict) -> nn.Module:
    with warnings.catch_warnings():  # of losses that a teacher never computes
        warnings.filterwarnings('ignore', message='.*avg_non_ignore')
        return revert_sync_batchnorm(MODELS.build(config))


def teacher_config(model: Union[str, Dict],
                   checkpoint: Optional[str]) -> Tuple[Dict, str]:
    """Model config and checkpoint of what ``TeacherHook(model=)`` names."""
    init_default_scope('mmseg')
    if not isinstance(model, str):
        config = model
    elif '::' in model:
        try:
            found = get_config(model, pretrained=checkpoint is None)
        except (FileNotFoundError, ValueError, KeyError,
                AssertionError) as error:
            raise UserError(
                f'no config or no weights are known for {model}: '
                f'{error}; see the model zoo of MMSegmentation') from error
        config, checkpoint = found.model, checkpoint or found.model_path
        if 'data_preprocessor' in found:
            config.setdefault('data_preprocessor', found.data_preprocessor)
    elif not os.path.isfile(model):
        raise UserError(f'the config file {model} of the teacher does not '
                        'exist')
    else:
        config = Config.fromfile(model).model
    if checkpoint is None:
        raise UserError('TeacherHook needs checkpoint=, the weights of the '
                        'teacher: an untrained teacher teaches nothing')
    config = ConfigDict(copy.deepcopy(config))
    config.pop('pretrained', None)
    return config, checkpoint


def set_mode(network: nn.Module, mode: str) -> None:
    network.eval()
    if mode == 'bn_train':
        for module in network.modules():
            if isinstance(module, _BatchNorm):
                module.train()
                module.momentum = 0.  # the running statistics stay


def tapped_paths(runner) -> Tuple[List[str], List[str]]:
    """All layer paths that the runner's distillation hooks name."""
    from .distill import DistillHook, paths
    hooks = [h for h in runner.hooks if isinstance(h, DistillHook)]
    student = [p for h in hooks for p in paths(h.student)]
    teacher = [p for h in hooks for p in paths(h.teacher)]
    teacher += [h.teacher_logits for h in hooks if h.teacher_logits]
    if not hooks:
        raise UserError('TeacherHook is alone: add a distillation hook to '
                        'custom_hooks, or remove the teacher')
    return student, teacher


def differentiated_paths(runner) -> Dict[str, List[str]]:
    """By the path of its logits: maps that the teacher is differentiated by.
    """
    from .distill import DistillHook, paths
    found: Dict[str, List[str]] = {}
    for hook in runner.hooks:
        if isinstance(hook, DistillHook) and hook.teacher_logits:
            wanted = found.setdefault(hook.teacher_logits, [])
            wanted += [p for p in paths(hook.teacher) if p not in wanted]
    return found


def gradients(task: Tensor,
              maps: Dict[str, Tensor],
              owner: str,
              create_graph: bool = False) -> Dict[str, Tensor]:
    """Of a network's task by its maps; the graph stays.

    Raises:
        UserError: The task does not depend on a map.
    """
    found = torch.autograd.grad(task,
                                list(maps.values()),
                                retain_graph=True,
                                create_graph=create_graph,
                                allow_unused=True)
    for path, gradient in zip(maps, found):
        if gradient is None:
            raise UserError(f'the task of the {owner} does not depend on its '
                            f'map {path!r}: tap a layer before the logits')
    return dict(zip(maps, found))


def pixel_sum(logits: Tensor, labels: Tensor, ignore_index: int,
              align_corners: bool) -> Tensor:
    """Cross entropy at the size of the labels, summed over valid pixels.

    A mean over the pixels of a batch has gradients that float16 rounds to 0.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = F.interpolate(logits.float(),
                               labels.shape[1:],
                               mode='bilinear',
                               align_corners=align_corners)
        return F.cross_entropy(logits,
                               labels.long(),
                               ignore_index=ignore_index,
                               reduction='sum')


def dry_image(student: nn.Module) -> Tensor:
    """One grey image of the size that training uses, else 512 x 512."""
    size = getattr(student.data_preprocessor, 'size', None) or (512, 512)
    return torch.zeros(1, 3, *size, device=get_device())


def stack_labels(data_samples: Optional[Iterable]) -> Optional[Tensor]:
    """Labels of the batch, ``(N, H, W)``; None without samples."""
    if data_samples is None:
        return None
    return torch.cat([sample.gt_sem_seg.data for sample in data_samples])


class Renormalise:
    """From the student's image normalisation to the teacher's.

    Images of equal pre-processing pass untouched.
    """

    def __init__(self, student: nn.Module, teacher: nn.Module) -> None:
        mean, std, flip = normalisation(student)
        to_mean, to_std, to_flip = normalisation(teacher)
        self.flip = flip != to_flip
        if self.flip:
            mean, std = mean.flip(0), std.flip(0)
        self.scale, self.shift = std / to_std, (mean - to_mean) / to_std
        self.same = not self.flip and bool(
            (self.scale == 1).all() and (self.shift == 0).all())

    def __call__(self, inputs: Tensor) -> Tensor:
        if self.same:
            return inputs
        inputs = inputs.flip(1) if self.flip else inputs
        return inputs * self.scale.to(inputs) + self.shift.to(inputs)


def normalisation(preprocessor: nn.Module) -> Tuple[Tensor, Tensor, bool]:
    """Mean, deviation ``(3, 1, 1)``, and whether channels are swapped."""
    mean, std = torch.zeros(3, 1, 1), torch.ones(3, 1, 1)
    if getattr(preprocessor, '_enable_normalize', False):
        mean, std = preprocessor.mean.cpu(), preprocessor.std.cpu()
    return mean, std, getattr(preprocessor, '_channel_conversion', False)
