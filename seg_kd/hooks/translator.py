"""The stage before KA's: trains the autoencoder that translates the teacher.
"""
import re
from typing import Any, Optional

import torch
from mmengine.model import BaseModel
from torch import nn

from ..checkpoint import load_weights, read_checkpoint
from ..errors import UserError
from ..losses import Translator
from ..registry import HOOKS
from .distill import DistillHook

META = 'translator'  # where a checkpoint's meta keeps the arguments


class NoStudent(BaseModel):
    """Stands for the student in a stage that trains distillation parts alone.

    Its loss is what the hooks add.
    """

    def forward(self, inputs, data_samples=None, mode: str = 'tensor'):
        return {} if mode == 'loss' else []


@HOOKS.register_module()
class TranslatorHook(DistillHook):
    """Trains :class:`~seg_kd.losses.Translator` on the teacher's map, alone.

    The student is needed for the shape of its map and is then put away. The
    translator goes into the checkpoint with its arguments, from which
    :class:`KAHook` takes the encoder.

    Args:
        student: Layer path of the map that the translated one will guide.
        teacher: Layer path of the map to translate.
        translator: Arguments of :class:`~seg_kd.losses.Translator`, such as
            ``ratio`` and ``alpha``.
    """

    loss_cls = Translator

    def __init__(self,
                 student: str,
                 teacher: str,
                 name: Optional[str] = None,
                 **translator: Any) -> None:
        super().__init__(student, teacher, name, **translator)

    def before_wrap_model(self, runner) -> None:
        runner.model = NoStudent(runner.model.data_preprocessor)
        super().before_wrap_model(runner)
        self.student = []  # from here on there is none

    def build_loss(self, student, teacher) -> nn.Module:
        self.loss = dict(channels=teacher[1],
                         stride=stride(student, teacher),
                         **self.loss)
        return super().build_loss(student, teacher)

    def compute(self, loss, student, teacher, mask):
        terms = self.named(loss(teacher, mask))
        return {**terms, f'{self.name}_relative_error': loss.relative_error}

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        checkpoint['meta'][META] = dict(self.loss)


def stride(student: torch.Size, teacher: torch.Size) -> int:
    """How much coarser the student's map is than the teacher's, at least 1.

    The sizes are those of one image in both, and either may be rounded up.
    """
    ratios = [t / s for t, s in zip(teacher[2:], student[2:])]
    return max(1, *(round(ratio) for ratio in ratios))


def load_encoder(path: str, student: torch.Size,
                 teacher: torch.Size) -> nn.Module:
    """The frozen encoder out of a checkpoint of the translator stage.

    Raises:
        UserError: It is of another stage, or was trained for other maps.
    """
    checkpoint = read_checkpoint(path)
    arguments = checkpoint.get('meta', {}).get(META)
    if arguments is None:
        raise UserError(f'{path} is no checkpoint of a translator stage; '
                        "write translator='stage:translator', or None for no "
                        'translator')
    needed = teacher[1], stride(student, teacher)
    if (arguments['channels'], arguments['stride']) != needed:
        raise UserError(
            f'the translator in {path} takes {arguments["channels"]} channels '
            f'at stride {arguments["stride"]}, these maps need {needed[0]} '
            f'at {needed[1]}; train its stage again for this pair')
    translator = Translator(**arguments)
    prefix = re.compile(r'(module\.)?distill\.\w+\.')
    state = {prefix.sub('', k): w for k, w in checkpoint['state_dict'].items()}
    load_weights(translator, state, f'the translator in {path}')
    return translator.encoder
