"""What an exported network says of itself: classes, input, output.

An ONNX file carries it as its metadata, so that the file alone is enough to
predict with.
"""
import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.config import Config

from seg_kd.datasets.check import pipeline_of, unwrapped
from seg_kd.errors import UserError
from seg_kd.networks.classes import class_names, other_classes
from seg_kd.registry import DATASETS, type_name

LOGITS, LABELS = 'logits', 'argmax'
# Transforms of a test pipeline that change the size of an image alone.
RESIZES = ('Resize', 'ResizeToMultiple', 'ResizeShortestEdge')
_LOADS = ('LoadImageFromFile', 'LoadAnnotations', 'CheckLabels',
          'PackSegInputs')


@dataclasses.dataclass(frozen=True)
class Card:
    """How to use an exported network.

    Args:
        classes: Their names.
        palette: A colour (RGB) for each.
        layout: Of the images: ``'NHWC'`` or ``'NCHW'``.
        dtype: Of the images: ``'uint8'`` or ``'float32'``.
        channels: Their order: ``'RGB'`` or ``'BGR'``.
        mean: To be subtracted from the images first; None where the network
            does that itself.
        std: To divide by, then.
        output: ``'logits'``, ``(N, classes, H, W)`` float32, or ``'argmax'``,
            ``(N, H, W)``: the size is that of the images.
        align_corners: How logits are to be brought to another size.
        resize: Configs of MMSegmentation's transforms that the images went
            through before, in its tests.
        threshold: Of networks with one logit, for two classes: it is the
            second class where the logit's sigmoid is larger.
    """
    classes: tuple[str, ...]
    palette: list[list[int]]
    layout: str
    dtype: str
    channels: str
    mean: list[float] | None
    std: list[float] | None
    output: str
    align_corners: bool
    resize: list[dict[str, Any]]
    threshold: float | None = None  # files without it are older

    @property
    def output_name(self) -> str:
        """In an ONNX graph, where ``argmax`` is the name of a node's."""
        return 'labels' if self.output == LABELS else self.output

    def metadata(self) -> dict[str, str]:
        """As ONNX keeps it: each entry is JSON."""
        return {k: json.dumps(v) for k, v in dataclasses.asdict(self).items()}

    @classmethod
    def read(cls, metadata: Mapping[str, str], source: str) -> 'Card':
        """
        Raises:
            UserError: The file ``source`` does not say it.
        """
        names = [field.name for field in dataclasses.fields(cls)]
        missing = [
            name for name in names
            if name not in metadata and not hasattr(cls, name)
        ]
        if missing:
            raise UserError(f'{source} does not say its {missing[0]}: its '
                            'metadata is not that of seg-kd export; give a '
                            'file that seg-kd export --onnx has written')
        try:
            values = {
                name: json.loads(metadata[name])
                for name in names if name in metadata
            }
        except ValueError as error:
            raise UserError(f'{source}: its metadata cannot be read: '
                            f'{error}') from error
        return cls(**{**values, 'classes': tuple(values['classes'])})

    def describe(self) -> str:
        """The input in one line."""
        size = ', '.join({'C': '3'}.get(letter, letter)
                         for letter in self.layout)
        text = f'images ({size}), {self.channels}, {self.dtype}'
        if self.mean is None:
            return f'{text}, 0 to 255'
        return f'{text}, (pixel - {self.mean}) / {self.std}'

    def batch(self, images: np.ndarray) -> np.ndarray:
        """Images as the network takes them.

        Shape:
            ``(N, H, W, 3)`` BGR, as OpenCV reads them -> what ``layout`` says.
        """
        found = images[..., ::-1] if self.channels == 'RGB' else images
        if self.mean is not None:
            mean, std = (np.array(x, np.float32)
                         for x in (self.mean, self.std))
            found = (found.astype(np.float32) - mean) / std
        if self.layout == 'NCHW':
            found = found.transpose(0, 3, 1, 2)
        return np.ascontiguousarray(found, self.dtype)


def classes_and_palette(cfg: Config, checkpoint: dict[str, Any],
                        source: str) -> tuple[tuple[str, ...], list]:
    """Those of the data; where a config names none, of the checkpoint.

    Raises:
        UserError: Neither names them, or they speak of different ones.
    """
    meta = _of_data(cfg) or checkpoint.get('meta', {}).get('dataset_meta')
    if not meta or not meta.get('classes'):
        raise UserError(f'neither {cfg.filename} nor {source} names the '
                        'classes: set metainfo=dict(classes=...) in the data '
                        'set')
    classes = tuple(meta['classes'])
    detail = other_classes(class_names(checkpoint), classes)
    if detail:
        raise UserError(f'{source} was trained on other classes than those of '
                        f'{cfg.filename}: {detail}; give the checkpoint of '
                        'this config')
    palette = meta.get('palette')
    if not palette or len(palette) != len(classes):
        palette = np.random.RandomState(42).randint(0, 255, (len(classes), 3))
    return classes, [[int(x) for x in colour] for colour in palette]


def _of_data(cfg: Config) -> dict[str, Any] | None:
    for key in ('test_dataloader', 'val_dataloader', 'train_dataloader'):
        for dataset in unwrapped((cfg.get(key) or {}).get('dataset')):
            options = dict(pipeline=[], lazy_init=True, _scope_='mmseg')
            try:
                made = DATASETS.build({**dataset, **options})
            except TypeError:  # a class that takes other arguments
                continue
            meta = getattr(made, 'metainfo', None)
            if meta and meta.get('classes'):
                return meta
    return None


def resizes(cfg: Config) -> list[dict[str, Any]]:
    """The transforms of the test pipeline that change an image.

    Raises:
        UserError: One of them does more than change its size.
    """
    pipeline = pipeline_of((cfg.get('test_dataloader') or {}).get('dataset'))
    found = [move for move in pipeline if type_name(move) not in _LOADS]
    for move in found:
        if type_name(move) not in RESIZES:
            raise UserError(
                f'the test pipeline has {type_name(move)}, which an exported '
                'network cannot do, nor say: take it out for the export, with '
                '--cfg-options')
    return [{**move, 'type': type_name(move)} for move in found]


def set_size(cfg: Config, size: Sequence[int]) -> None:
    """Lets the test pipeline bring all images to one height and width."""
    height, width = size
    resize = dict(type='Resize', scale=(width, height), keep_ratio=False)
    for dataset in unwrapped((cfg.get('test_dataloader')
                              or {}).get('dataset')):
        load, *rest = dataset['pipeline']
        rest = [move for move in rest if type_name(move) not in RESIZES]
        dataset['pipeline'] = [load, resize, *rest]
