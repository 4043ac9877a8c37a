"""Distillation around any student, in any training loop.

A :class:`Term` is one loss between maps of student and teacher, with its
weight. A :class:`Distiller` runs the teacher once per batch, reads the maps
and adds the terms; the hooks for MMEngine are adapters of these two.
"""
from __future__ import annotations

import copy
import inspect
import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from seg_kd.errors import UserError
from seg_kd.networks.auto_weight import AutoWeight, grad_norm, total
from seg_kd.networks.taps import Taps
from seg_kd.networks.transfer import sent
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.teacher.teacher import Step, Teacher

Path = str | Sequence[str]
Kept = Tensor | list[Tensor]  # maps at one path, or at several
Shape = torch.Size | list[torch.Size]
Losses = Mapping[str, Any]
Shapes = Mapping[str, torch.Size]
Parts = Mapping[str, nn.Module] | nn.ModuleDict


@dataclass
class Requests:
    """What a term needs of the two networks.

    Attributes:
        student: Paths of maps.
        teacher: Paths of maps.
        teacher_logits: Path of the logits of the task whose gradients at the
            teacher's maps are needed.
        student_gradients: Whether the student's task is differentiated at
            its maps.
        weights: Is handed the teacher's state dict and where it came from.
    """

    student: list[str]
    teacher: list[str]
    teacher_logits: str | None = None
    student_gradients: bool = False
    weights: Callable[[dict[str, Tensor], str], None] | None = None


class Term:
    """``weight * loss(student, teacher, mask)`` at tapped maps.

    If the loss's constructor takes ``student_channels`` and
    ``teacher_channels``, they are filled in; if its ``forward`` takes
    ``labels``, it gets those of the batch, ``(N, H, W)``; if it takes
    ``index``, the numbers of the images, where the loop hands them over as
    ``samples``. It may return one value or a dict of named ones.

    Args:
        loss: Class of the loss, or the loss itself.
        student: Layer path, or several where the loss compares several.
        teacher: The same in the teacher.
        name: In logs and checkpoints; by default that of the class.
        weight: Factor of the term. ``'auto'`` measures it: the term gets
            ``auto_ratio`` times the gradient that the task has at the
            student's tapped maps, over the first ``auto_iters`` iterations
            from ``start`` (:class:`~seg_kd.networks.auto_weight.AutoWeight`).
        start: First iteration with a weight other than 0.
        end: First iteration at which the weight is 0 again.
        warmup: Iterations over which the weight grows linearly from ``start``.
        auto_ratio: See ``weight``.
        auto_iters: See ``weight``.
        teacher_name: Which of several teachers; may be left out with one.
        lr_mult: Learning rate of the loss's own parameters, such as a
            connector's, in multiples of the student's.
        connector_iters: Iterations from ``start`` in which the term trains
            its own parameters alone: the student's maps are constants to it.
            Of a measured weight they come first.
        arguments: Of the loss, as a dict; for those that are named like one
            of these.
        more: Of the loss.

    Attributes:
        by_label: It compares what labels tell apart, and nothing in images
            without any. A loss says so of itself by the same name.
    """

    by_label = False

    def __init__(self,
                 loss: type[nn.Module] | nn.Module,
                 student: Path,
                 teacher: Path,
                 name: str | None = None,
                 weight: float | str = 1.,
                 start: int = 0,
                 end: int | None = None,
                 warmup: int = 0,
                 auto_ratio: float = 1.,
                 auto_iters: int = 50,
                 teacher_name: str | None = None,
                 lr_mult: float = 1.,
                 connector_iters: int = 0,
                 arguments: Mapping[str, Any] | None = None,
                 **more: Any) -> None:
        kind = type(loss) if isinstance(loss, nn.Module) else loss
        self.loss, self.kind = loss, getattr(kind, '__name__', repr(kind))
        self.student, self.teacher = student, teacher
        self.name = name or self.kind.removesuffix('Loss').lower()
        self.weight, self.teacher_name = weight, teacher_name
        self.start, self.end, self.warmup = start, end, warmup
        self.auto_ratio, self.auto_iters = auto_ratio, auto_iters
        self.lr_mult, self.connector_iters = lr_mult, connector_iters
        self.arguments = {**more, **(arguments or {})}
        self._takes: set[str] = set()  # arguments of the loss's forward
        if '.' in self.name or 'loss' in self.name:
            raise UserError(f'{self.name!r} cannot name a term: no dots, and '
                            'not the word loss')
        if weight != 'auto' and not isinstance(weight, (int, float)):
            raise UserError(f'the weight of {self.name!r} is a number or '
                            f"'auto', not {weight!r}")
        if lr_mult < 0 or connector_iters < 0:
            raise UserError(f'{self.name}: lr_mult and connector_iters must '
                            'not be negative')

    # -- building ----------------------------------------------------------

    def requests(self, student: nn.Module) -> Requests:
        """What the term needs, when the networks are there."""
        return Requests(paths(self.student), paths(self.teacher))

    def build(self, student: Shapes, teacher: Shapes) -> dict[str, nn.Module]:
        """The modules that go with the student, by name.

        The generator is left as it was: a student distilled and a student
        alone see the same random numbers.
        """
        module = self.build_loss(pick(student, self.student),
                                 pick(teacher, self.teacher))
        self._takes = set(inspect.signature(module.forward).parameters)
        parts = {self.name: module}
        if self.weight == 'auto':
            parts[f'{self.name}_weight'] = AutoWeight(self.name,
                                                      self.auto_ratio,
                                                      self.auto_iters)
        return parts

    def build_loss(self, student: Shape, teacher: Shape) -> nn.Module:
        """The loss, for maps of these shapes."""
        if isinstance(self.loss, nn.Module):
            return self.loss
        signature = inspect.signature(self.loss)
        self._check_names(signature.parameters)
        given = dict(student_channels=channels(student),
                     teacher_channels=channels(teacher))
        given = {k: v for k, v in given.items() if k in signature.parameters}
        given.update(self.arguments)
        try:
            signature.bind(**given)
        except TypeError as error:
            raise UserError(f'{self.name}: {error}; {self.kind} takes '
                            f'{", ".join(signature.parameters)}') from error
        with self._explained():
            return self.loss(**given)

    def _check_names(self, known: Mapping[str, Any]) -> None:
        """Raises UserError where one name could mean two arguments."""
        for name, mine in inspect.signature(Term).parameters.items():
            value = getattr(self, name, mine.default)
            if (name in known and name not in {*self.arguments, 'more'}
                    and value != mine.default):
                raise UserError(
                    f'{self.name}: {name}= is an argument of the hook or term '
                    f'and of {self.kind}; write that of {self.kind} as '
                    f'loss=dict({name}=...) in a hook, as '
                    f'arguments=dict({name}=...) in a Term')

    def check(self, module: nn.Module, student: Shapes,
              teacher: Shapes) -> None:
        """Computes a copy of the loss once, on noise of two images.

        Raises:
            UserError: It does not take maps of these shapes.
        """
        mine, theirs = ({
            p: torch.randn(2, *shape[1:])
            for p, shape in shapes.items()
        } for shapes in (student, teacher))
        labels = torch.zeros(2, 8, 8, dtype=torch.long)
        step = Step(labels, labels == 0, labels[:, 0, 0])
        module = copy.deepcopy(module).cpu()
        with torch.no_grad():
            try:
                self.compute(module, pick(mine, self.student),
                             pick(theirs, self.teacher), step)
            except UserError:
                raise
            except Exception:  # training will say it, with its traceback
                pass

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """A ValueError of the loss: about arguments, or maps that misfit."""
        try:
            yield
        except ValueError as error:
            raise UserError(f'{self.name}: {self.kind}: {error}') from error

    # -- training ----------------------------------------------------------

    def level(self, iteration: int) -> float:
        """Factor of the weight at ``iteration``, from 0 to 1.

        Outside ``[start, end)`` the term is computed all the same: under DDP
        each parameter must take part in each iteration.
        """
        ended = self.end is not None and iteration >= self.end
        if iteration < self.start or ended:
            return 0.
        if self.warmup == 0:
            return 1.
        return min(1., (iteration - self.start + 1) / self.warmup)

    def __call__(self, parts: Parts, maps: Mapping[str, Tensor], step: Step,
                 task: Losses, iteration: int) -> dict[str, Tensor]:
        """The term with its weight: one value, or several by name.

        Args:
            parts: What :meth:`build` has made, by name.
            maps: The student's.
            step: The teacher's.
            task: What the student is trained for besides.
            iteration: Decides about the weight.
        """
        student = pick(maps, self.student)
        check_gradient(student, self.student)
        taught = pick(step.maps, self.teacher)
        apart = 0 <= iteration - self.start < self.connector_iters
        # float32 even under AMP: Gram sums over a map overflow float16.
        device = in_list(taught)[0].device
        with torch.autocast(device.type, enabled=False):
            mine, theirs = self.compared(student, taught, step, task)
            if apart:
                mine = each(mine, Tensor.detach)
            terms = self.compute(parts[self.name], each(mine, Tensor.float),
                                 each(theirs, Tensor.float), step)
        level = self.level(iteration)
        factor: float | str | Tensor = self.weight
        if isinstance(factor, str):  # 'auto'
            auto = cast(AutoWeight, parts[f'{self.name}_weight'])
            if level > 0 and not apart:
                term = added(value.mean() for value in terms.values())
                auto.measure(total(task), term, in_list(student),
                             step.labelled)
            # before anything is measured it counts once
            factor = 1. if apart else auto.value()
        step.logged[f'{self.name}_weight'] = torch.as_tensor(level * factor)
        return {name: level * factor * v for name, v in terms.items()}

    def compared(self, student: Kept, teacher: Kept, step: Step,
                 task: Losses) -> tuple[Kept, Kept]:
        """What the loss compares: the tapped maps of student and teacher."""
        return student, teacher

    def compute(self, loss: nn.Module, student: Kept, teacher: Kept,
                step: Step) -> dict[str, Tensor]:
        """The terms, without weight; ``step.logged`` takes what is no term."""
        device = in_list(teacher)[0].device
        extras = {
            k: v if v is None else sent(v, device)
            for k, v in self.extras(step).items() if k in self._takes
        }
        with self._explained():
            return self.named(
                loss(student, teacher, self.mask(loss, step), **extras))

    def mask(self, loss: nn.Module, step: Step) -> Tensor | None:
        """Where the loss compares; not at images without labels if it needs
        some."""
        needs_labels = self.by_label or getattr(loss, 'by_label', False)
        return step.labelled if needs_labels else step.mask

    def extras(self, step: Step) -> dict[str, Any]:
        """What the loss is given besides maps and mask, if it takes it."""
        numbers = isinstance(step.samples, Tensor)
        return dict(labels=step.labels,
                    index=step.samples if numbers else None)

    def named(self, value: Tensor | dict[str, Tensor]) -> dict[str, Tensor]:
        if isinstance(value, Tensor):
            return {self.name: value}
        return {f'{self.name}_{key}': term for key, term in value.items()}


class Distiller(nn.Module):
    """Trains a student with the terms of a teacher::

        distiller = Distiller(student, teacher, [Term(...)], image, task)
        losses = distiller(images, labels)
        sum(losses.values()).backward()

    It is the trainable parts of the terms and what was measured: they alone
    are its parameters and its state dict. The student is the caller's; the
    teacher is frozen and in eval mode, and in nobody's state dict. Under DDP
    wrap :meth:`joined`. ``eval()`` stops the count of iterations.

    Args:
        student: Any module.
        teacher: Any module, a :class:`Teacher`, or several by name.
        terms: What is added.
        image: Images for a dry forward of both, ``(N, C, H, W)``, as large as
            in training.
        task: From the student's output and the labels to a loss, or to a
            dict of named losses. Without it, or without labels, there are
            the terms alone.
        ignore_index: Label that does not count.
        seed: Of the terms' parameters; the current one by default.

    Raises:
        UserError: A path names no map, or a loss does not take the maps.
    """

    def __init__(self,
                 student: nn.Module,
                 teacher: nn.Module | Teacher | Mapping[str, Any],
                 terms: Sequence[Term],
                 image: Tensor,
                 task: Callable[[Any, Tensor], Any] | None = None,
                 ignore_index: int = 255,
                 seed: int | None = None) -> None:
        super().__init__()
        if not isinstance(teacher, Mapping):
            teacher = dict(teacher=teacher)
        self.teachers = {
            name: made(found, ignore_index)
            for name, found in teacher.items()
        }
        self.terms, self.task = list(terms), task
        self.parts = nn.ModuleDict()
        self.iteration = 0
        #: Whether a step also finds :meth:`gradient_ratios`.
        self.measuring = False
        #: Is entered around the teachers' forward and around each term, with
        #: ``'teacher'`` or the term's name: to time them, say.
        self.around: Callable[[str], AbstractContextManager] = nullcontext
        self.steps: dict[str, Step] = {}
        self._student = (student, )  # no submodule
        self._build(image, torch.initial_seed() if seed is None else seed)

    @property
    def student(self) -> nn.Module:
        return self._student[0]

    # -- building ----------------------------------------------------------

    def _build(self, image: Tensor, seed: int) -> None:
        student = unwrap_model(self.student)
        image = image.to(next(student.parameters(), image).device)
        requests = {term: term.requests(student) for term in self.terms}
        self.taps = Taps(student,
                         [p for r in requests.values() for p in r.student])
        self.student_shapes = self.taps.shapes(image)
        self.taps.leaves = set[str]().union(*(r.student
                                              for r in requests.values()
                                              if r.student_gradients))
        for term in self.terms:
            term.teacher_name = self._teacher_of(term)
        self.teacher_shapes: dict[str, dict[str, torch.Size]] = {}
        for name, teacher in self.teachers.items():
            asked = [r for t, r in requests.items() if t.teacher_name == name]
            if not asked:
                raise UserError(f'no term learns from the teacher {name!r}: '
                                'add one, or leave the teacher out')
            self.teacher_shapes[name] = tap(teacher, asked, image)
        for term in self.terms:
            for name, part in self._parts_of(term, seed).items():
                if name in self.parts:
                    raise UserError(f'two terms are named {name!r}: give one '
                                    'of them another name=')
                self.parts[name] = part.to(image.device)
        # Some wanted a shape and no more.
        read = {p for term in self.terms for p in paths(term.student)}
        for path in self.taps.modules.keys() - read:
            del self.taps.modules[path]

    def _parts_of(self, term: Term, seed: int) -> dict[str, nn.Module]:
        shapes = (self.student_shapes,
                  self.teacher_shapes[self._teacher_of(term)])
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            parts = term.build(*shapes)
            term.check(parts[term.name], *shapes)
        return parts

    def _teacher_of(self, term: Term) -> str:
        """Name of the term's teacher."""
        names, name = list(self.teachers), term.teacher_name
        if name is None and len(names) == 1:
            return names[0]
        if name is None or name not in names:
            raise UserError(f'{term.name}: teacher_name= is one of {names}, '
                            f'not {name!r}')
        return name

    def freeze_untaught(self, image: Tensor) -> None:
        """Freezes what none of the student's tapped maps depends on.

        For training by the terms alone: it could only decay.
        """
        taught = self.taps.sources(image)
        for parameter in unwrap_model(self.student).parameters():
            parameter.requires_grad_(parameter in taught)

    def parameter_groups(self, lr: float) -> list[dict[str, Any]]:
        """The parameters of each term that has some, for an optimizer.

        Args:
            lr: The student's; a term's is ``lr_mult`` times that.
        """
        groups = [
            dict(params=list(self.parts[term.name].parameters()),
                 lr=term.lr_mult * lr) for term in self.terms
        ]
        return [group for group in groups if group['params']]

    def joined(self) -> nn.Module:
        """Student and distiller in one module, for DDP and the like."""
        return _Joined(self)

    # -- training ----------------------------------------------------------

    def forward(self,
                images: Tensor,
                labels: Tensor | None = None,
                samples: Any = None) -> dict[str, Tensor]:
        """The losses of a batch: ``task``, and one of each term.

        What a term consists of, and measured weights, are in :attr:`logged`.
        """
        with self.taps.attached():
            self.teach(images, labels, samples)
            output = self.student(images)
            task: dict[str, Tensor] = {}
            if self.task is not None and labels is not None:
                found = self.task(output, labels)
                task = found if isinstance(found, dict) else dict(task=found)
            named = {f'loss_{name}': value for name, value in task.items()}
            terms, logged = self.add_terms(named)
        for values in terms.values():
            logged.update(values)
        self.logged = {name: value.detach() for name, value in logged.items()}
        self.steps = {}
        self.iteration += self.training
        losses = {name: added(v.values()) for name, v in terms.items()}
        return {**task, **losses}

    def teach(self,
              images: Tensor,
              labels: Tensor | None = None,
              samples: Any = None) -> None:
        """The teachers' part of a step: before the student's forward."""
        with self.around('teacher'):
            self.steps = {
                name: teacher(images, labels, samples)
                for name, teacher in self.teachers.items()
            }
        one = next(iter(self.steps.values()))
        for step in self.steps.values():
            step.terms, step.logged = one.terms, one.logged

    def add_terms(
        self, task: Losses
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, Tensor]]:
        """The terms' part: after the student's forward, with taps attached.

        Args:
            task: Named losses that the student is trained for besides; what
                has no "loss" in its name is none.

        Returns:
            The values of each term, by its name; and what is only logged.
        """
        maps = self.taps.take()
        found: dict[str, dict[str, Tensor]] = {}
        logged: dict[str, Tensor] = {}
        for term in self.terms:
            step = self.steps[self._teacher_of(term)]
            with self.around(term.name):
                found[term.name] = values = term(self.parts, maps, step, task,
                                                 self.iteration)
            step.terms.update(values)
            logged = step.logged
        if self.measuring:
            try:
                logged.update(self.gradient_ratios(task, found, maps))
            except RuntimeError as error:  # no reason to end a training
                logging.getLogger(__name__).warning(
                    f'gradients of the terms cannot be measured: {error}')
        return found, dict(logged)

    def gradient_ratios(self, task: Losses, terms: Mapping[str, Losses],
                        maps: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """How hard each term, with its weight, pulls at the student.

        As ``<term>_gradient_ratio``: the norm of its gradient at the maps
        that it taps, per norm of the task's gradient there. Terms without
        such a map, and maps where the task has no gradient, are left out. No
        parameter gets a gradient. It waits once for a GPU.
        """
        found: dict[str, tuple[Tensor, Tensor]] = {}
        whole = total(task)
        for term in self.terms:
            tapped = in_list(pick(maps, term.student))
            if not tapped:
                continue
            mine = added(v.mean() for v in terms[term.name].values())
            # both on every process: SyncBN's backward waits for the others
            pull, own = grad_norm(mine, tapped), grad_norm(whole, tapped)
            found[term.name] = pull, own
        if not found:
            return {}
        counts = torch.stack([own > 0 for _, own in found.values()]).tolist()
        return {
            f'{name}_gradient_ratio': pull / own
            for (name, (pull, own)), counted in zip(found.items(), counts)
            if counted
        }

    def get_extra_state(self) -> dict[str, int]:
        return dict(iteration=self.iteration)

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.iteration = state['iteration']


class _Joined(nn.Module):
    """A student and its distiller."""

    def __init__(self, distiller: Distiller) -> None:
        super().__init__()
        self.student, self.distiller = distiller.student, distiller

    def forward(self, *args: Any, **kwargs: Any) -> dict[str, Tensor]:
        return self.distiller(*args, **kwargs)


def made(teacher: nn.Module | Teacher, ignore_index: int) -> Teacher:
    if isinstance(teacher, Teacher):
        return teacher
    return Teacher(teacher, ignore_index=ignore_index)


def tap(teacher: Teacher, requests: Sequence[Requests],
        image: Tensor) -> dict[str, torch.Size]:
    """Has the teacher give what is asked for; the shapes of its maps."""
    wanted = [p for r in requests for p in r.teacher]
    tasks: dict[str, list[str]] = {}
    for request in requests:
        if request.teacher_logits:
            wanted.append(request.teacher_logits)
            known = tasks.setdefault(request.teacher_logits, [])
            known += [p for p in request.teacher if p not in known]
        if request.weights is not None:
            request.weights(teacher.network.state_dict(),
                            f'the teacher of {teacher.source}')
    return teacher.tap(wanted, image, tasks)


def paths(path: Path) -> list[str]:
    return [path] if isinstance(path, str) else list(path)


def pick(found: Mapping[str, Any], path: Path) -> Any:
    """What was found at the path, or the list of it at several paths."""
    if isinstance(path, str):
        return found[path]
    return [found[p] for p in path]


def channels(shape: Shape) -> int | list[int]:
    return shape[1] if isinstance(shape, torch.Size) else [s[1] for s in shape]


def in_list(maps: Kept) -> list[Tensor]:
    return [maps] if isinstance(maps, Tensor) else maps


def each(maps: Kept, change: Callable[[Tensor], Tensor]) -> Kept:
    if isinstance(maps, Tensor):
        return change(maps)
    return [change(kept) for kept in maps]


def added(values: Iterable[Tensor]) -> Tensor:
    return cast(Tensor, sum(values))


def check_gradient(student: Kept, path: Path) -> None:
    if not torch.is_grad_enabled():
        return
    for name, kept in zip(paths(path), in_list(student)):
        if not kept.requires_grad:
            raise UserError(
                f'the student map {name!r} has no gradient, so nothing would '
                'be distilled; is the layer frozen, or inside a checkpointed '
                'block (with_cp=True, activation_checkpointing)?')
