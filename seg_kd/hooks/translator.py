"""Stages that train an autoencoder of the teacher's map: KA's and FT's."""
import re
from typing import Any, Optional, Type

import torch
from mmengine.model import BaseModel
from torch import nn

from seg_kd.errors import UserError
from seg_kd.hooks.distill import DistillHook, Path
from seg_kd.losses import Paraphraser, Translator
from seg_kd.losses.translator import Autoencoder
from seg_kd.networks.checkpoint import load_weights, read_checkpoint
from seg_kd.registry import HOOKS


class NoStudent(BaseModel):
    """Stands for the student in a stage that trains distillation parts alone.

    Its loss is what the hooks add.
    """

    def forward(self, inputs, data_samples=None, mode: str = 'tensor'):
        return {} if mode == 'loss' else []


class AutoencoderHook(DistillHook):
    """Trains an autoencoder on the teacher's map, alone.

    The student is needed for the shape of its map, if at all, and is then put
    away. The autoencoder goes into the checkpoint with its arguments, from
    which :func:`load_encoder` takes the encoder in the next stage.

    Args:
        student: Layer path of the map that the encoded one will guide.
        teacher: Layer path of the map to encode.
        name: As in :class:`DistillHook`.
        arguments: Of ``loss_cls``, beside what the maps decide.
    """

    loss_cls: Type[Autoencoder]

    def __init__(self,
                 student: Path,
                 teacher: str,
                 name: Optional[str] = None,
                 **arguments: Any) -> None:
        super().__init__(student, teacher, name, **arguments)

    def before_wrap_model(self, runner) -> None:
        runner.model = NoStudent(runner.model.data_preprocessor)
        super().before_wrap_model(runner)
        self.student = []  # from here on there is none

    def build_loss(self, student, teacher) -> nn.Module:
        self.loss = dict(channels=teacher[1], **self.loss)
        return super().build_loss(student, teacher)

    def compute(self, loss, student, teacher, mask):
        terms = self.named(loss(teacher, mask))
        return {**terms, f'{self.name}_relative_error': loss.relative_error}

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        checkpoint['meta'][kind(self.loss_cls)] = dict(self.loss)


@HOOKS.register_module()
class TranslatorHook(AutoencoderHook):
    """The stage before :class:`KAHook`: see :class:`AutoencoderHook`.

    Takes arguments of :class:`~seg_kd.losses.Translator`, such as ``ratio``
    and ``alpha``.
    """

    loss_cls = Translator

    def build_loss(self, student, teacher) -> nn.Module:
        self.loss = dict(stride=stride(student, teacher), **self.loss)
        return super().build_loss(student, teacher)


@HOOKS.register_module()
class ParaphraserHook(AutoencoderHook):
    """The stage before :class:`FTHook`: see :class:`AutoencoderHook`.

    Takes arguments of :class:`~seg_kd.losses.Paraphraser`, such as ``ratio``.
    The student has no part in it.
    """

    loss_cls = Paraphraser

    def __init__(self,
                 teacher: str,
                 name: Optional[str] = None,
                 **arguments: Any) -> None:
        super().__init__([], teacher, name, **arguments)


def kind(autoencoder: Type[Autoencoder]) -> str:
    """Where a checkpoint's meta keeps the arguments; also for messages."""
    return autoencoder.__name__.lower()


def stride(student: torch.Size, teacher: torch.Size) -> int:
    """How much coarser the student's map is than the teacher's, at least 1.

    The sizes are those of one image in both, and either may be rounded up.
    """
    ratios = [t / s for t, s in zip(teacher[2:], student[2:])]
    return max(1, *(round(ratio) for ratio in ratios))


def load_encoder(path: str,
                 autoencoder: Type[Autoencoder],
                 channels: int,
                 stride: int = 1) -> nn.Module:
    """The encoder out of a checkpoint of the stage of an autoencoder.

    Raises:
        UserError: It is of another stage, or was trained for other maps.
    """
    name = kind(autoencoder)
    checkpoint = read_checkpoint(path)
    arguments = checkpoint.get('meta', {}).get(name)
    if arguments is None:
        raise UserError(f'{path} is no checkpoint of a {name} stage; '
                        f"write {name}='stage:{name}', or None for no {name}")
    trained = arguments['channels'], arguments.get('stride', 1)
    if trained != (channels, stride):
        raise UserError(
            f'the {name} in {path} takes {trained[0]} channels at stride '
            f'{trained[1]}, these maps need {channels} at {stride}; train '
            'its stage again for this pair')
    module = autoencoder(**arguments)
    prefix = re.compile(r'(module\.)?distill\.\w+\.')
    state = {prefix.sub('', k): w for k, w in checkpoint['state_dict'].items()}
    load_weights(module, state, f'the {name} in {path}')
    return module.encoder
