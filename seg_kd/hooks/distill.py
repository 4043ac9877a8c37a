"""The base class of all methods: carries the mechanics once."""
import inspect
from typing import Any, Dict, List, Optional, Sequence, Type, Union

import torch
from mmengine.hooks import Hook
from torch import Tensor, nn

from seg_kd.errors import UserError
from seg_kd.hooks.auto_weight import AutoWeight, total
from seg_kd.hooks.teacher import TeacherHook
from seg_kd.networks.taps import Taps
from seg_kd.networks.unwrap import unwrap_model

Path = Union[str, Sequence[str]]
Shape = Union[torch.Size, List[torch.Size]]


class DistillHook(Hook):
    """Adds ``loss_<name> = weight * loss_cls()(student, teacher, mask)``.

    It lives in this order of things (see ``seg_kd/engine/runner.py``)::

        before_wrap_model   the loss module becomes model.distill.<name>, so
                            that DDP, optimizer, EMA and checkpoints treat its
                            trainable parts like any layer
        before_train        torch hooks go onto the tapped layers and onto the
                            student, which from then on returns one more term
        each iteration      teacher forward (once, for all hooks), student
                            forward, terms, one backward
        after_train         the torch hooks go

    A method is a subclass that names its ``loss_cls``. If the constructor of
    that takes ``student_channels`` and ``teacher_channels``, they are filled
    in; if its ``forward`` takes ``labels``, it gets those of the batch,
    ``(N, H, W)``. A loss may return one term or a dict of named terms.

    Args:
        student: Layer path, or several where the method compares several.
        teacher: The same in the teacher.
        name: Name of the term in the log; the method's own by default.
        weight: Factor of the term(s). ``'auto'`` measures it: the terms
            together get ``auto_ratio`` times the gradient that the task has
            at the student's tapped maps, over the first ``auto_iters``
            iterations from ``start``. It is logged as ``<name>_weight`` and
            kept in checkpoints (:class:`AutoWeight`).
        start: First iteration with a weight other than 0.
        end: First iteration after which the weight is 0 again.
        warmup: Iterations over which the weight grows linearly from ``start``.
        auto_ratio: See ``weight``.
        auto_iters: See ``weight``.
        loss: Arguments of ``loss_cls``.
    """

    loss_cls: Type[nn.Module]
    teacher_logits: Optional[str] = None  # a path: TeacherHook.gradients

    def __init__(self,
                 student: Path,
                 teacher: Path,
                 name: Optional[str] = None,
                 weight: Union[float, str] = 1.,
                 start: int = 0,
                 end: Optional[int] = None,
                 warmup: int = 0,
                 auto_ratio: float = 1.,
                 auto_iters: int = 50,
                 **loss: Any) -> None:
        self.student, self.teacher = student, teacher
        self.name = name or type(self).__name__.removesuffix('Hook').lower()
        self.weight, self.loss = weight, loss
        self.auto_ratio, self.auto_iters = auto_ratio, auto_iters
        self.start, self.end, self.warmup = start, end, warmup
        if '.' in self.name or 'loss' in self.name:
            raise UserError(f'{self.name!r} cannot name a term: no dots, and '
                            'not the word loss')
        if isinstance(weight, str) and weight != 'auto':
            raise UserError(f'the weight of {self.name!r} is a number or '
                            f"'auto', not {weight!r}")

    # -- building ----------------------------------------------------------

    def before_wrap_model(self, runner) -> None:
        """Hands the loss module to the model.

        The generator is left as it was: a student distilled and a student
        alone start from the same weights under the same seed.
        """
        source = find_teacher(runner, self)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(runner.seed)
            module = self.build_loss(pick(source.student_shapes, self.student),
                                     pick(source.teacher_shapes, self.teacher))
        if not hasattr(runner.model, 'distill'):
            runner.model.distill = nn.ModuleDict()
        if self.name in runner.model.distill:
            raise UserError(f'two hooks are named {self.name!r}: give one of '
                            'them another name=')
        runner.model.distill[self.name] = module
        if self.weight == 'auto':
            runner.model.distill[f'{self.name}_weight'] = AutoWeight(
                self.name, self.auto_ratio, self.auto_iters)

    def build_loss(self, student: Shape, teacher: Shape) -> nn.Module:
        """The loss module, for maps of these shapes."""
        given = dict(student_channels=channels(student),
                     teacher_channels=channels(teacher))
        known = inspect.signature(self.loss_cls).parameters
        given = {k: v for k, v in given.items() if k in known}
        try:
            return self.loss_cls(**{**given, **self.loss})
        except (TypeError, ValueError) as error:
            raise UserError(f'{type(self).__name__}: {error}; '
                            f'{self.loss_cls.__name__} takes '
                            f'{", ".join(known)}') from error

    # -- training ----------------------------------------------------------

    def before_train(self, runner) -> None:
        model = unwrap_model(runner.model)
        self._source = find_teacher(runner, self)
        self._taps = Taps(model, paths(self.student)).attach()
        self._handle = model.register_forward_hook(self._add_terms,
                                                   with_kwargs=True)

    def after_train(self, runner) -> None:
        self._taps.detach()
        self._handle.remove()

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        self.level = self.schedule(runner.iter)

    def schedule(self, iteration: int) -> float:
        """Factor of the weight at ``iteration``, from 0 to 1.

        Outside ``[start, end)`` the term is computed all the same: under DDP
        each parameter must take part in each iteration.
        """
        if iteration < self.start or iteration >= (self.end or float('inf')):
            return 0.
        if self.warmup == 0:
            return 1.
        return min(1., (iteration - self.start + 1) / self.warmup)

    def _add_terms(self, model: nn.Module, args, kwargs, output):
        if kwargs.get('mode') != 'loss':  # validation, inference
            return None
        student = pick(self._taps.take(), self.student)
        check_gradient(student, self.student)
        teacher = pick(self._source.maps, self.teacher)
        device = self._source.device_type
        # float32 even under AMP: Gram sums over a map overflow float16.
        with torch.autocast(device, enabled=False):
            pair = self.compared(student, teacher, output)
            terms = self.compute(model.distill[self.name],
                                 *map(in_float, pair), self._source.mask)
        return {**output, **self._weighted(terms, model, output, student)}

    def compared(self, student, teacher, output: Dict[str, Any]):
        """What the loss compares: the tapped maps of student and teacher.

        ``output`` is what ``mode='loss'`` has returned up to here.
        """
        return student, teacher

    def compute(self, loss: nn.Module, student, teacher,
                mask: Optional[Tensor]) -> Dict[str, Tensor]:
        """Terms to add to what ``mode='loss'`` returns, yet without weight.

        A term has "loss" in its name; what has not is logged as it is.
        """
        extra = {}
        if 'labels' in inspect.signature(loss.forward).parameters:
            extra['labels'] = self._source.labels
        return self.named(loss(student, teacher, mask, **extra))

    def named(self, value: Union[Tensor, Dict[str, Tensor]]):
        if isinstance(value, Tensor):
            return {f'loss_{self.name}': value}
        return {f'loss_{self.name}_{key}': term for key, term in value.items()}

    def _weighted(self, terms: Dict[str, Tensor], model: nn.Module,
                  output: Dict[str, Any], student) -> Dict[str, Tensor]:
        factor, logged = self.weight, {}
        if self.weight == 'auto':
            auto = model.distill[f'{self.name}_weight']
            task = {k: output[k] for k in output.keys() - self._source.terms}
            if self.level > 0:
                auto.measure(total(task), total(terms), in_list(student))
            factor = auto.value()
            logged[f'{self.name}_weight'] = factor
        factor = self.level * factor
        weighted = {k: factor * terms[k] for k in terms if 'loss' in k}
        self._source.terms |= weighted.keys()
        return {**terms, **weighted, **logged}


def find_teacher(runner, hook: Hook) -> TeacherHook:
    """The runner's one teacher."""
    for other in runner.hooks:
        if isinstance(other, TeacherHook):
            return other
    raise UserError(f'{type(hook).__name__} needs a teacher: put '
                    "dict(type='TeacherHook', model=...) into custom_hooks")


def paths(path: Path) -> List[str]:
    return [path] if isinstance(path, str) else list(path)


def pick(found: Dict[str, Any], path: Path) -> Any:
    """What was found at the path, or the list of it at several paths."""
    if isinstance(path, str):
        return found[path]
    return [found[p] for p in path]


def channels(shape: Shape):
    return shape[1] if isinstance(shape, torch.Size) else [s[1] for s in shape]


def in_list(maps) -> List[Tensor]:
    return [maps] if isinstance(maps, Tensor) else maps


def in_float(maps):
    return as_float(maps) if isinstance(maps,
                                        Tensor) else [*map(as_float, maps)]


def as_float(kept: Tensor) -> Tensor:
    return kept.float()


def check_gradient(student, path: Path) -> None:
    for name, kept in zip(paths(path), in_list(student)):
        if not kept.requires_grad:
            raise UserError(
                f'the student map {name!r} has no gradient, so nothing would '
                'be distilled; is the layer frozen, or inside a checkpointed '
                'block (with_cp=True, activation_checkpointing)?')
