"""Stages that train an autoencoder of the teacher's map: KA's and FT's."""
import inspect
import re
from typing import Any

from torch import Size, nn

from seg_kd.distiller import Term
from seg_kd.errors import UserError
from seg_kd.hooks.distill import DistillHook
from seg_kd.losses import Paraphraser, Translator
from seg_kd.losses.translator import Autoencoder
from seg_kd.networks.checkpoint import DISTILL, load_weights, read_checkpoint
from seg_kd.registry import HOOKS

KINDS = dict(translator=Translator, paraphraser=Paraphraser)


class AutoencoderTerm(Term):
    """Trains an autoencoder on the teacher's map.

    The student is needed for the shape of its map, if at all.
    """

    def build_loss(self, student, teacher):
        found = dict(channels=teacher[1])
        if 'stride' in inspect.signature(self.loss).parameters:
            found['stride'] = stride(student, teacher)
        self.arguments = {**found, **self.arguments}
        loss = super().build_loss(student, teacher)
        self.student = []  # from here on there is none
        return loss

    def compute(self, loss, student, teacher, step):
        terms = self.named(loss(teacher, step.mask))
        step.logged[f'{self.name}_relative_error'] = loss.relative_error
        return terms


class EncodedTerm(Term):
    """Compares with what the encoder of an earlier stage makes of the map.

    Args:
        settings: Of :class:`Term`; and ``translator`` or ``paraphraser``, the
            checkpoint of that stage, or None.
    """

    def build_loss(self, student, teacher):
        for name in KINDS.keys() & self.arguments.keys():
            if isinstance(self.arguments[name], str):
                steps = stride(student, teacher) if name == 'translator' else 1
                self.arguments[name] = load_encoder(self.arguments[name],
                                                    KINDS[name], teacher[1],
                                                    steps)
        return super().build_loss(student, teacher)


class AutoencoderHook(DistillHook):
    """Trains an autoencoder on the teacher's map, alone.

    The student is put away. The autoencoder goes into the checkpoint with its
    arguments, from which :func:`load_encoder` takes the encoder in the next
    stage.

    Args:
        student: Layer path of the map that the encoded one will guide.
        teacher: Layer path of the map to encode.
        settings: Of :class:`DistillHook`, and of ``loss_cls`` besides what the
            maps decide.
    """

    term_cls = AutoencoderTerm
    needs_student = False

    def before_save_checkpoint(self, runner, checkpoint) -> None:
        arguments = dict(self.term.arguments)
        checkpoint['meta'][kind(self.loss_cls)] = arguments


@HOOKS.register_module()
class TranslatorHook(AutoencoderHook):
    """The stage before :class:`KAHook`: see :class:`AutoencoderHook`.

    Takes arguments of :class:`~seg_kd.losses.Translator`, such as ``ratio``
    and ``alpha``.
    """

    loss_cls = Translator


@HOOKS.register_module()
class ParaphraserHook(AutoencoderHook):
    """The stage before :class:`FTHook`: see :class:`AutoencoderHook`.

    Takes arguments of :class:`~seg_kd.losses.Paraphraser`, such as ``ratio``.
    The student has no part in it.
    """

    loss_cls = Paraphraser

    def __init__(self, teacher: str, **settings: Any) -> None:
        super().__init__([], teacher, **settings)


def kind(autoencoder: type[Autoencoder]) -> str:
    """Where a checkpoint's meta keeps the arguments; also for messages."""
    return autoencoder.__name__.lower()


def stride(student: Size, teacher: Size) -> int:
    """How much coarser the student's map is than the teacher's, at least 1.

    The sizes are those of one image in both, and either may be rounded up.
    """
    ratios = [t / s for t, s in zip(teacher[2:], student[2:])]
    return max(1, *(round(ratio) for ratio in ratios))


def load_encoder(path: str,
                 autoencoder: type[Autoencoder],
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
    prefix = re.compile(rf'(module\.)?{re.escape(DISTILL)}\w+\.')
    state = {prefix.sub('', k): w for k, w in checkpoint['state_dict'].items()}
    load_weights(module, state, f'the {name} in {path}')
    return module.encoder
