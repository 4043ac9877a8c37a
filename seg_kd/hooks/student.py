"""Distillation in MMEngine's loop, around its model."""
import logging
from collections.abc import Callable, Sequence

import torch
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.model import BaseModel
from mmengine.structures import PixelData
from torch import Tensor, nn

from seg_kd.datasets.unlabelled import MARK
from seg_kd.distiller import Distiller
from seg_kd.errors import UserError
from seg_kd.hooks.distill import DistillHook
from seg_kd.hooks.teacher import TeacherHook
from seg_kd.networks.normalization import image_channels
from seg_kd.networks.taps import Replaced
from seg_kd.networks.transfer import sent
from seg_kd.networks.unwrap import unwrap_model


class StudentHook(Hook):
    """Builds the :class:`~seg_kd.distiller.Distiller` of a config and runs it.

    :class:`~seg_kd.engine.DistillRunner` adds this hook by itself. It lives
    in this order of things::

        before_wrap_model   teachers and terms are built, for each other; the
                            losses become model.distill.<name>, so that DDP,
                            optimizer, EMA and checkpoints treat their
                            trainable parts like any layer
        before_train        torch hooks go onto the tapped layers and onto the
                            student, which from then on returns more terms
        each iteration      teacher forward (once, for all hooks), student
                                forward, terms, one backward
        after_train         the torch hooks go
    """

    priority = 'VERY_HIGH'
    distiller: Distiller | None = None
    teachers: Sequence[TeacherHook] = ()

    @property
    def ignore_index(self) -> int:
        return next(iter(self.distiller.teachers.values())).ignore_index

    @property
    def finer(self) -> dict[str, int]:
        """What training samples bring besides, for teachers without a cache.

        Raises:
            UserError: Two of these have views of different scales.
        """
        found = {hook.scale for hook in self.teachers if hook.cache is None}
        found -= {1}
        if len(found) > 1:
            raise UserError('teachers without a cache see images of several '
                            f'scales, {sorted(found)}: let them have one, or '
                            'set TeacherHook(cache=True)')
        return dict(scale=found.pop()) if found else {}

    def before_wrap_model(self, runner) -> None:
        self.teachers = teachers = [
            hook for hook in runner.hooks if isinstance(hook, TeacherHook)
        ]
        hooks = [h for h in runner.hooks if isinstance(h, DistillHook)]
        check_hooks(teachers, hooks)
        if not hooks:
            return
        alone = [h for h in hooks if not h.needs_student]
        needing = [h for h in hooks if h.needs_student]
        if alone and needing:
            raise UserError(
                f'{type(needing[0]).__name__} needs the student, which the '
                f'stage of {type(alone[0]).__name__} does without: leave it '
                f'out there, custom_hooks=dict({type(needing[0]).__name__}='
                'None)')
        for hook in hooks:
            hook.prepare(runner)
        student = runner.model.to(get_device())
        image = dry_image(student)
        self.distiller = Distiller(
            student, {hook.name: hook.build(runner)
                      for hook in teachers}, [hook.term for hook in hooks],
            image,
            seed=runner.seed)
        if not (runner.cfg.get('task', True) or alone):
            self.distiller.freeze_untaught(image)
        self._describe(teachers, image)
        for hook in teachers:
            hook.make_faster(image)
        if alone:
            runner.model = NoStudent(student.data_preprocessor)
        runner.model.distill = self.distiller.parts

    def _describe(self, teachers: Sequence[TeacherHook],
                  image: Tensor) -> None:
        lines, shapes = [], dict(student=self.distiller.student_shapes)
        for hook in teachers:
            lines.append(hook.describe())
            shapes[hook.name] = self.distiller.teacher_shapes[hook.name]
        for owner, found in shapes.items():
            for path, shape in found.items():
                stride = image.shape[2] / shape[2]
                lines.append(f'  {owner} {path}: {tuple(shape)}, stride '
                             f'{stride:.3g}')
        print_log('\n'.join(lines), 'current')

    # -- training ----------------------------------------------------------

    def before_train(self, runner) -> None:
        if self.distiller is None:
            return
        for hook in self.teachers:
            hook.start(runner)
        model = unwrap_model(runner.model)
        taps = [t.taps for t in self.distiller.teachers.values()]
        self._taps = [self.distiller.taps, *taps]
        for taps in self._taps:
            taps.attach()
        self._handles = [
            model.register_forward_pre_hook(self._teach, with_kwargs=True),
            model.register_forward_hook(self._add_terms, with_kwargs=True)
        ]
        # no compiled forward can be ended
        if not runner.cfg.get('task', True) and not runner.cfg.get('compile'):
            self._handles.append(Replaced(model, self._terms_alone))
        self._labels_seen = False

    def after_train(self, runner) -> None:
        if self.distiller is None:
            return
        for handle in self._handles:
            handle.remove()
        for taps in self._taps:
            taps.detach()
        self.distiller.steps = {}

    def before_train_iter(self, runner, **_) -> None:
        if self.distiller is not None:
            self.distiller.iteration = runner.iter

    def after_train_iter(self, runner, **_) -> None:
        if self.distiller is not None:
            self.distiller.steps = {}

    def _teach(self, student: nn.Module, args, kwargs) -> None:
        if kwargs.get('mode') != 'loss':  # validation, inference
            return
        given = {**dict(zip(('inputs', 'data_samples'), args)), **kwargs}
        images, samples = given['inputs'], given.get('data_samples') or []
        bare = [k for k, s in enumerate(samples) if 'gt_sem_seg' not in s]
        labels = stack_labels(samples, bare, images, self.ignore_index)
        self.distiller.teach(images, labels, samples)
        whole = [k in bare or bool(s.get(MARK)) for k, s in enumerate(samples)]
        for step in self.distiller.steps.values():
            if step.mask is not None and any(whole):
                # where a label map says nothing
                step.mask = step.mask | sent(torch.tensor(whole),
                                             step.mask.device)[:, None, None]
        if not self._labels_seen:
            self._labels_seen = True
            check_labels(self.distiller)

    def _terms_alone(self, plain: Callable, *args, **kwargs):
        """A training forward that ends at the last tapped map.

        For a stage without the task: neither head nor loss is computed.
        """
        taps = self.distiller.taps
        if kwargs.get('mode') != 'loss' or not taps.modules:
            return plain(*args, **kwargs)
        taps.until_last(plain, *args, **kwargs)
        return {}

    def _add_terms(self, student: nn.Module, args, kwargs, output):
        if kwargs.get('mode') != 'loss':
            return None
        terms, logged = self.distiller.add_terms(output)
        losses = {
            f'loss_{name}': value
            for values in terms.values()
            for name, value in values.items()
        }
        return {**output, **losses, **logged}


class NoStudent(BaseModel):
    """Stands for the student in a stage that trains distillation parts alone.

    Its loss is what the hooks add.
    """

    def forward(self, inputs, data_samples=None, mode: str = 'tensor'):
        return {} if mode == 'loss' else []


def check_hooks(teachers: Sequence[TeacherHook],
                hooks: Sequence[DistillHook]) -> None:
    """Raises UserError where the hooks do not fit each other."""
    for what, names in (('teachers', [hook.name for hook in teachers]),
                        ('hooks', [hook.name for hook in hooks])):
        for name in names:
            if names.count(name) > 1:
                raise UserError(f'two {what} are named {name!r}: give one of '
                                'them another name=')
    if hooks and not teachers:
        raise UserError(f'{type(hooks[0]).__name__} needs a teacher: put '
                        "dict(type='TeacherHook', model=...) into "
                        'custom_hooks')
    if teachers and not hooks:
        raise UserError('TeacherHook is alone: add a distillation hook to '
                        'custom_hooks, or remove the teacher')


def dry_image(student: nn.Module, device: str | None = None) -> Tensor:
    """One grey image of the size that training uses, else 512 x 512."""
    size = getattr(student.data_preprocessor, 'size', None) or (512, 512)
    return torch.zeros(1,
                       image_channels(student),
                       *size,
                       device=device or get_device())


def stack_labels(samples: Sequence,
                 bare: Sequence[int] = (),
                 images: Tensor | None = None,
                 ignore_index: int = 255) -> Tensor | None:
    """Labels of the batch, ``(N, H, W)``; None if there are none.

    The ``bare`` samples get some for the student's own task: of these it
    learns nothing by that.
    """
    for k in bare:
        labels = images.new_full((1, *images.shape[2:]), ignore_index)
        samples[k].gt_sem_seg = PixelData(data=labels.long())
    if len(bare) == len(samples):
        return None
    return torch.cat([sample.gt_sem_seg.data for sample in samples])


def check_labels(distiller: Distiller) -> None:
    """Says so where no label of the first batch counts."""
    for step in distiller.steps.values():
        if step.labelled is not None and not step.labelled.any():
            print_log(
                'No pixel of the first batch has a label that counts: the '
                "task's loss is 0 there. Are these the right label files?",
                'current', logging.WARNING)
            return
