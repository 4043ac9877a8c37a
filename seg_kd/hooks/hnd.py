"""Head network distillation as a hook."""
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor

from seg_kd.errors import UserError
from seg_kd.hooks.distill import DistillHook, find_teacher
from seg_kd.hooks.teacher import TeacherHook, dry_image
from seg_kd.losses import HNDLoss
from seg_kd.networks.taps import resolve
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class HNDHook(DistillHook):
    """Trains the head of a split network, see :class:`HNDLoss`.

    The model is a :class:`~seg_kd.models.SplitSegmentor`; where it is split
    is said there, so there are no layer paths to give. The hook fills its
    tail from the teacher, and the teacher then runs no further than to the
    split point.

    Args:
        masked: Leave out pixels without a label. By default all count: the
            method needs no labels.
        settings: Of :class:`DistillHook`, and of the loss.
    """

    loss_cls = HNDLoss

    def __init__(self, masked: bool = False, **settings: Any) -> None:
        if settings.keys() & {'student', 'teacher'}:
            raise UserError('HNDHook: the split is said in the model, as '
                            'split=; leave student= and teacher= out')
        super().__init__((), (), **settings)  # the model knows them
        self.masked = masked

    def before_wrap_model(self, runner) -> None:
        source, model = find_teacher(runner, self), runner.model
        if not hasattr(model, 'take_tail'):
            raise UserError('HNDHook trains the head of a SplitSegmentor, '
                            f'not a {type(model).__name__}: see '
                            'configs/hnd_deeplab.py')
        model.take_tail(source.network.state_dict(),
                        f'the teacher of {source.source}')
        self.student, self.teacher = 'backbone', model.split_path
        shape = tap(source, model.split_path, dry_image(model))
        source.student_shapes['backbone'] = shape  # the model has seen to it
        super().before_wrap_model(runner)
        print_log(
            f'The teacher is split behind {model.split_path}, '
            f'{tuple(shape)}; the tail has its weights and is frozen',
            'current')

    def compute(self, loss, student, teacher, mask):
        return super().compute(loss, student, teacher,
                               mask if self.masked else None)


def tap(source: TeacherHook, path: str, image: Tensor) -> torch.Size:
    """Has the teacher read one more map; the shape of that."""
    source.taps.modules[path] = resolve(source.network, path)
    source.teacher_shapes = source.taps.shapes(image)
    return source.teacher_shapes[path]
