"""A segmentor with a small head in place of its first layers."""
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import ConfigDict
from mmseg.models import EncoderDecoder
from torch import Tensor, nn

from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import load_weights, read_checkpoint
from seg_kd.networks.normalization import image_channels
from seg_kd.registry import MODELS
from seg_kd.split import cut
from seg_kd.teacher.build import build_network, teacher_config


class TeacherTail(nn.ModuleDict):
    """The frozen part of a :class:`SplitSegmentor`, by the teacher's names."""


@MODELS.register_module()
class SplitSegmentor(EncoderDecoder):
    """A head, and behind it the teacher from its split point on.

    The head is trained to give the map that the teacher has at the split
    point (:class:`~seg_kd.hooks.HNDHook`), with no labels. The teacher's tail
    is frozen and in eval mode, whatever ``train()`` says, and is part of the
    checkpoint. Inference is the teacher's own.

    Args:
        teacher: What ``TeacherHook(model=)`` takes: a config file, an
            MMSegmentation config by name, or a model config.
        split: The layer of the teacher's backbone whose map the head gives:
            a path, ``'backbone.layer1'``, or a map of the backbone,
            ``'backbone[0]'``.
        backbone: Config of the head, such as ``dict(type='BottleneckHead')``.
            It gets ``out_channels`` and ``stride`` of the map, which a dry
            forward tells.
        checkpoint: The teacher's, for its tail. Not needed in training:
            ``HNDHook`` hands over the tail of the teacher that it distils.
        trust_checkpoint: As in ``TeacherHook``.
        data_preprocessor: As of any segmentor.
        test_cfg: Of inference; the teacher's by default.
        dry_size: Height and width of the image for the dry forward.
        init_cfg: Unused; the head has its own.

    Raises:
        UserError: The teacher cannot be split there (the nearest layers where
            it can are named), or the checkpoint does not fill the tail.
    """

    def __init__(self,
                 teacher: str | dict[str, Any],
                 split: str,
                 backbone: dict[str, Any],
                 checkpoint: str | None = None,
                 trust_checkpoint: bool = False,
                 data_preprocessor: dict | None = None,
                 test_cfg: dict | None = None,
                 dry_size: Sequence[int] = (128, 256),
                 init_cfg: dict | None = None) -> None:
        # Not that of EncoderDecoder, which would build a backbone and heads.
        super(EncoderDecoder, self).__init__(data_preprocessor, init_cfg)
        with torch.random.fork_rng(devices=[]):  # the head's weights are its
            torch.manual_seed(0)  # own, whatever the teacher draws
            network = build(teacher, checkpoint)
        noise = torch.Generator().manual_seed(0)
        image = torch.randn(1,
                            image_channels(network),
                            *dry_size,
                            generator=noise)
        self.split, self.train_cfg = split, None
        self.split_path, shape, self.tail = cut.split(network, split, image)
        if network.with_neck:
            self.neck = network.neck
        self.decode_head = network.decode_head
        self.align_corners = network.align_corners
        self.num_classes = network.num_classes
        self.out_channels = network.out_channels
        self.test_cfg = ConfigDict(test_cfg or network.test_cfg)
        self.split_shape = tuple(shape[1:])
        self.backbone = build_head(backbone, shape, image)
        self.tail_source: str | None = None
        if checkpoint is not None:
            self.take_tail(read_checkpoint(checkpoint, trust_checkpoint),
                           f'the checkpoint {checkpoint} of the teacher')
        self.teacher_tail().requires_grad_(False)
        self.train(self.training)

    # -- the tail ----------------------------------------------------------

    def teacher_tail(self) -> TeacherTail:
        """All that is the teacher's, under the names it has there."""
        parts = dict(backbone=self.tail.backbone, decode_head=self.decode_head)
        if self.with_neck:
            parts['neck'] = self.neck
        return TeacherTail(parts)

    def take_tail(self, checkpoint: dict[str, Any], source: str) -> None:
        """Fills the tail from a checkpoint of the teacher, all of it.

        Raises:
            UserError: A weight is missing or has another shape.
        """
        load_weights(self.teacher_tail(), checkpoint, source)
        self.tail_source = source

    def train(self, mode: bool = True) -> 'SplitSegmentor':
        super().train(mode)
        self.teacher_tail().eval()
        return self

    def init_weights(self) -> None:
        """Initializes the head; the tail has the teacher's weights."""
        if self.tail_source is None:
            raise UserError("the tail of SplitSegmentor has no weights: add "
                            "dict(type='HNDHook') to custom_hooks, behind the "
                            'TeacherHook, or give checkpoint=')
        self.backbone.init_weights()

    # -- forward -----------------------------------------------------------

    def extract_feat(self, inputs: Tensor):
        maps = self.tail(self.backbone(inputs))
        return self.neck(maps) if self.with_neck else maps

    def loss(self, inputs: Tensor, data_samples=None) -> dict[str, Tensor]:
        """Runs the head alone; what it is trained for is added by hooks."""
        if not hasattr(self, 'distill'):
            raise UserError('SplitSegmentor learns from its teacher alone: '
                            "add dict(type='HNDHook') to custom_hooks")
        self.backbone(inputs)
        return {}


def build(teacher: str | dict, checkpoint: str | None) -> nn.Module:
    """The whole teacher, with random weights."""
    config, _ = teacher_config(teacher, checkpoint or 'comes later')
    network = build_network(config).eval()
    kind = type(network)
    if (kind.forward is not EncoderDecoder.forward
            or kind.encode_decode is not EncoderDecoder.encode_decode
            or kind.extract_feat is not EncoderDecoder.extract_feat):
        raise UserError(f'a {kind.__name__} cannot be split, only an '
                        'EncoderDecoder: its forward is another')
    return network


def build_head(config: dict[str, Any], shape: torch.Size,
               image: Tensor) -> nn.Module:
    """The head for a map of this shape, which the image has."""
    if image.shape[2] % shape[2] or image.shape[3] % shape[3]:
        raise UserError(f'images of {tuple(image.shape[2:])} have a map of '
                        f'{tuple(shape[2:])} at the split point, which is no '
                        'whole stride; give another dry_size=')
    found = dict(out_channels=shape[1], stride=image.shape[2] // shape[2])
    if image.shape[1] != 3:
        found['in_channels'] = image.shape[1]
    head = MODELS.build(dict(config, **found))
    mode = head.training
    with torch.no_grad():
        found = head.eval()(image)
    if not isinstance(found, Tensor) or found.shape != shape:
        found = getattr(found, 'shape', [type(found).__name__])
        raise UserError(f'{type(head).__name__} gives {tuple(found)} where '
                        f'the teacher has {tuple(shape)}')
    return head.train(mode)
