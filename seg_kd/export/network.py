"""A segmentor as one plain function of images, for exporters."""
import json
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, nn

from seg_kd.errors import UserError
from seg_kd.export.card import LABELS, Card, resizes
from seg_kd.networks.classes import labels_of, threshold_of
from seg_kd.networks.normalization import image_channels, normalization

INPUT = 'images'


class Deployed(nn.Module):
    """Images to logits, or labels, of the same size.

    Args:
        model: An ``EncoderDecoder`` that tests whole images, in eval mode.
        card: What it takes and gives.

    Shape:
        What ``card.layout`` says -> ``(N, classes, H, W)`` float32, or labels
        ``(N, H, W)``, uint8 where they fit.
    """

    def __init__(self, model: nn.Module, card: Card) -> None:
        super().__init__()
        self.model, self.card = model, card
        mean, std, swapped = normalization(model.data_preprocessor)
        self.register_buffer('mean', mean)
        self.register_buffer('std', std)
        self.flip = swapped != (card.channels == 'RGB')

    def forward(self, images: Tensor) -> Tensor:
        if self.card.mean is None:
            images = images.permute(0, 3, 1, 2).float()
            images = images.flip(1) if self.flip else images
            images = (images - self.mean) / self.std
        logits = self.model.encode_decode(images,
                                          [dict(img_shape=images.shape[2:])])
        return self.labels(logits) if self.card.output == LABELS else logits

    def labels(self, logits: Tensor) -> Tensor:
        found = labels_of(logits, self.card.threshold)
        return found.to(torch.uint8 if logits.shape[1] <= 256 else torch.int32)


def deployed(cfg: Config, model: nn.Module, classes: Sequence[str],
             palette: list, preprocessing: bool, output: str) -> Deployed:
    """The network to export.

    Args:
        cfg: A complete config, for the test pipeline.
        model: The student, in eval mode.
        classes: Their names.
        palette: Their colours.
        preprocessing: Whether it normalizes images itself; then it takes them
            as they are read, ``(N, H, W, 3)`` RGB uint8.
        output: ``'logits'`` or ``'argmax'``.

    Raises:
        UserError: The model tests in a way that is no plain function.
    """
    check_plain(cfg, model)
    mean, std, swapped = normalization(model.data_preprocessor)
    inside = preprocessing
    card = Card(tuple(classes),
                palette,
                layout='NHWC' if inside else 'NCHW',
                dtype='uint8' if inside else 'float32',
                channels='RGB' if inside or swapped else 'BGR',
                mean=None if inside else mean.expand(3, 1, 1).ravel().tolist(),
                std=None if inside else std.expand(3, 1, 1).ravel().tolist(),
                output=output,
                align_corners=bool(model.align_corners),
                resize=resizes(cfg),
                threshold=threshold_of(model))
    return Deployed(model, card).eval()


def check_plain(cfg: Config, model: nn.Module) -> None:
    """Raises UserError where the model's inference is no plain function."""
    kind = type(model).__name__
    if not hasattr(model, 'encode_decode'):
        raise UserError(f'a {kind} cannot be exported: only what is derived '
                        'from EncoderDecoder')
    if model.test_cfg.get('mode', 'whole') != 'whole':
        raise UserError(
            f'{cfg.filename} tests with a sliding window, which belongs to '
            'the program around the network: export with --cfg-options '
            'model.test_cfg.mode=whole')
    if image_channels(model) != 3:
        raise UserError(f'{cfg.filename} takes images of '
                        f'{image_channels(model)} channels, an export takes 3')
    if getattr(model.data_preprocessor, 'test_cfg', None):
        raise UserError(
            f'{cfg.filename} pads images in tests, which an exported network '
            'does not: export with --cfg-options '
            'model.data_preprocessor.test_cfg=None')


def example(card: Card, size: Sequence[int], count: int) -> Tensor:
    """Noise that the network takes, ``count`` images of this size."""
    noise = torch.Generator().manual_seed(0)
    images = torch.randint(0,
                           256, (count, *size, 3),
                           generator=noise,
                           dtype=torch.uint8)
    return torch.from_numpy(card.batch(images.numpy()))


def program(network: Deployed, size: Sequence[int],
            fixed: bool) -> torch.export.ExportedProgram:
    """The network as ``torch.export`` sees it, for batches of any size.

    Args:
        network: To export.
        size: Height and width of the images it is tried with.
        fixed: Whether it will take this size only.

    Raises:
        UserError: It cannot be exported, or not for images of any size.
    """
    height, width = size
    width += not fixed and width == height  # equal ones would count as one
    images = example(network.card, (height, width), 2)
    axes = {0: torch.export.Dim.DYNAMIC}
    if not fixed:
        first = network.card.layout.index('H')
        axes |= dict.fromkeys((first, first + 1), torch.export.Dim.DYNAMIC)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of torch's own, and mmseg's
            return torch.export.export(network, (images, ),
                                       dynamic_shapes=(axes, ))
    except Exception as error:  # tracing can fail in any way
        raise UserError(_reason(network, error, fixed)) from error


def _reason(network: Deployed, error: Exception, fixed: bool) -> str:
    head = type(network.model.decode_head).__name__
    lines: list[Any] = [line.strip() for line in str(error).splitlines()]
    first = next((line for line in lines if line), '')[:200]
    how = ('' if fixed else '; it may go for one size of images: --size '
           'HEIGHT WIDTH')
    return (f'torch.export cannot follow this network, whose head is '
            f'{head}{how} ({type(error).__name__}: {first})')


def saved(made: torch.export.ExportedProgram, card: Card,
          path: str) -> nn.Module:
    """The program as it comes back from the file that it is written to.

    The card is in the file, as ``card.json``.
    """
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        torch.export.save(
            made, path, extra_files={'card.json': json.dumps(card.metadata())})
        return torch.export.load(path).module()
