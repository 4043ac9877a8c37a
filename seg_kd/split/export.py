"""Exports a split network as its two halves, and says what crosses the link.

The link is the bottleneck inside the head. The device has the head's encoder;
the server has the head's decoder and the teacher's tail. Both are written as
``torch.export`` programs, which need torch and nothing of ours.
"""
import json
import os
import tempfile
import warnings
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from seg_kd.datasets import check_files
from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import load_weights, read_checkpoint
from seg_kd.networks.costs import flops, parameters
from seg_kd.networks.normalization import normalization
from seg_kd.registry import DATASETS, MODELS

JPEG_QUALITY = 95
TOLERANCE = 1e-4  # of the largest logit
DEVICE, SERVER, REPORT = 'device.pt2', 'server.pt2', 'split.json'


class DeviceHalf(nn.Module):
    """Image to bottleneck: normalization and the head's encoder.

    Shape:
        ``(1, 3, H, W)`` float32 RGB from 0 to 255 -> ``(1, B, h, w)``.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        mean, std, swapped = normalization(model.data_preprocessor)
        self.register_buffer('mean', mean)
        self.register_buffer('std', std)
        self.flip = not swapped  # images are read as BGR
        self.encoder = model.backbone.encoder

    def forward(self, image: Tensor) -> Tensor:
        image = image.flip(1) if self.flip else image
        return self.encoder((image - self.mean) / self.std)


class ServerHalf(nn.Module):
    """Bottleneck to logits: the head's decoder and the teacher's tail.

    Shape:
        ``(1, B, h, w) -> (1, classes, H, W)``, the size of the image.
    """

    def __init__(self, model: nn.Module, size: tuple[int, int]) -> None:
        super().__init__()
        self.decoder, self.tail = model.backbone.decoder, model.tail
        self.neck = model.neck if model.with_neck else nn.Identity()
        self.decode_head, self.test_cfg = model.decode_head, model.test_cfg
        self.size, self.grid = size, model.backbone.grid(size)

    def forward(self, sent: Tensor) -> Tensor:
        maps = self.neck(self.tail(self.decoder(sent, self.grid)))
        return self.decode_head.predict(maps, [dict(img_shape=self.size)],
                                        self.test_cfg)


class Quantized:
    """8 bits a value, one scale and one zero point for the whole map.

    Shape:
        Any float32 tensor; :attr:`bytes` counts the values, a float32 scale
        and an 8-bit zero point.
    """

    def __init__(self, x: Tensor) -> None:
        low, high = x.min().clamp(max=0), x.max().clamp(min=0)
        self.scale = ((high - low) / 255).clamp(min=1e-12)
        self.zero = (-low / self.scale).round()
        self.values = ((x / self.scale).round() + self.zero).clamp(0, 255).to(
            torch.uint8)
        self.bytes = self.values.numel() + 4 + 1

    def restored(self) -> Tensor:
        return (self.values.float() - self.zero) * self.scale


@torch.no_grad()
def export_split(cfg: Config,
                 checkpoint: str,
                 out: str,
                 size: Sequence[int] | None = None,
                 image: str | None = None) -> dict[str, Any]:
    """Writes ``device.pt2``, ``server.pt2`` and ``split.json``.

    Nothing is left in ``out`` unless the halves, read back from their files,
    give what the whole model gives.

    Args:
        cfg: Config of a ``SplitSegmentor``, of a single stage.
        checkpoint: Of its training.
        out: Folder for the three files.
        size: Height and width of the images; those of the crop by default.
            The programs take this size only.
        image: File to check with and to compare with as a JPEG; the first
            of the test set by default. Noise where there is none.

    Returns:
        What ``split.json`` holds.

    Raises:
        UserError: The model is not split, the checkpoint does not fill it,
            the image cannot be read, or the halves differ from the model.
    """
    model = load_model(cfg, checkpoint)
    size = image_size(model, size)
    picture, path = read_image(cfg, image, size)
    halves = {
        DEVICE: DeviceHalf(model).eval(),
        SERVER: ServerHalf(model, size).eval()
    }
    rgb = torch.from_numpy(picture[..., ::-1].copy()).permute(2, 0, 1)[None]
    given = {DEVICE: rgb.float()}
    given[SERVER] = halves[DEVICE](given[DEVICE])
    os.makedirs(out, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out) as folder:
        programs = {
            name: written(half, given[name], os.path.join(folder, name))
            for name, half in halves.items()
        }
        report = dict(config=os.path.basename(cfg.filename or ''),
                      checkpoint=os.path.basename(checkpoint),
                      split=model.split_path,
                      **input_facts(size, picture, path),
                      halves=half_facts(halves, given))
        report['bottleneck'] = link_facts(given[SERVER], report['image'])
        report['check'] = compare(model, picture, programs, given[DEVICE])
        with open(os.path.join(folder, REPORT), 'w', encoding='utf-8') as f:
            json.dump(report, f, indent=1)
        for name in (DEVICE, SERVER, REPORT):
            os.replace(os.path.join(folder, name), os.path.join(out, name))
    return report


def load_model(cfg: Config, checkpoint: str) -> nn.Module:
    """The whole network in eval mode, with all its weights."""
    init_default_scope(cfg.get('default_scope', 'mmseg'))
    content = read_checkpoint(checkpoint, cfg.get('trust_checkpoint', False))
    model = MODELS.build(cfg.model)
    head = getattr(model, 'backbone', None)
    if not hasattr(model, 'split_path'):
        raise UserError(f'the {type(model).__name__} of {cfg.filename} is not '
                        'split: give a config of a SplitSegmentor')
    if not all(hasattr(head, x) for x in ('encoder', 'decoder', 'grid')):
        raise UserError(f'{type(head).__name__} has no bottleneck to cut at: '
                        'it needs encoder, decoder and grid, as '
                        'BottleneckHead has them')
    load_weights(model, content, f'checkpoint {checkpoint}')
    return model.eval()


def image_size(model: nn.Module,
               size: Sequence[int] | None) -> tuple[int, int]:
    size = size or getattr(model.data_preprocessor, 'size', None)
    if size is None or len(size) != 2 or min(size) < 32:
        raise UserError(f'cannot export for images of size {size}: give '
                        '--size HEIGHT WIDTH, 32 or more')
    return int(size[0]), int(size[1])


def read_image(cfg: Config, path: str | None,
               size: tuple[int, int]) -> tuple[np.ndarray, str | None]:
    """An image ``(H, W, 3)``, BGR, of this size, and the file it is from."""
    path = path or _first_test_image(cfg)
    if path is None:
        noise = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
        return noise, None
    picture = cv2.imread(path)
    if picture is None:
        raise UserError(f'{path} is not an image that can be read')
    return cv2.resize(picture, size[::-1], interpolation=cv2.INTER_AREA), path


def _first_test_image(cfg: Config) -> str | None:
    loader = cfg.get('test_dataloader')
    try:
        check_files(loader['dataset'])
    except (UserError, TypeError):  # no data on this machine, or no test set
        return None
    return DATASETS.build(loader['dataset']).get_data_info(0)['img_path']


def written(half: nn.Module, given: Tensor, path: str) -> nn.Module:
    """The half as it comes back from the file that it is written to."""
    with warnings.catch_warnings():  # of torch's own graph, and mmseg's sizes
        warnings.simplefilter('ignore')
        torch.export.save(torch.export.export(half, (given, )), path)
        return torch.export.load(path).module()


def compare(model: nn.Module, picture: np.ndarray,
            programs: dict[str, nn.Module], rgb: Tensor) -> dict[str, Any]:
    """The programs compared with the model, and what fewer bits do."""
    image = torch.from_numpy(picture).permute(2, 0, 1)
    inputs = model.data_preprocessor(dict(inputs=[image]))['inputs']
    whole = model.encode_decode(inputs, [dict(img_shape=rgb.shape[2:])])
    sent = programs[DEVICE](rgb)
    received = dict(float32=sent,
                    float16=sent.half().float(),
                    uint8=Quantized(sent).restored())
    found: dict[str, Any] = dict(largest_logit=float(whole.abs().max()))
    for kind, values in received.items():
        logits = programs[SERVER](values)
        same = logits.argmax(1).eq(whole.argmax(1)).float().mean()
        found[kind] = dict(max_error=float((logits - whole).abs().max()),
                           same_pixels=float(same))
    error = found['float32']['max_error']
    if not error <= TOLERANCE * found['largest_logit']:  # NaN fails, too
        raise UserError(
            f'the halves are not the whole model: logits up to '
            f'{found["largest_logit"]:.3g} differ by {error:.3g}; nothing was '
            'written')
    return found


# -- facts -----------------------------------------------------------------


def input_facts(size: tuple[int, int], picture: np.ndarray,
                path: str | None) -> dict[str, Any]:
    facts: dict[str, Any] = dict(size=list(size),
                                 file=path and os.path.basename(path),
                                 bytes_rgb=picture.size,
                                 bytes_jpeg=None)
    if path is not None:  # noise would make a JPEG that proves nothing
        _, data = cv2.imencode('.jpg', picture,
                               [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        facts['bytes_jpeg'] = len(data)
        facts['jpeg_quality'] = JPEG_QUALITY
    return dict(image=facts)


def link_facts(sent: Tensor, image: dict[str, Any]) -> dict[str, Any]:
    """Bytes that cross the link, and their ratios to those of the image."""
    sizes = dict(float32=4 * sent.numel(),
                 float16=2 * sent.numel(),
                 uint8=Quantized(sent).bytes)
    facts: dict[str, Any] = dict(shape=list(sent.shape), bytes=sizes)
    for name in ('rgb', 'jpeg'):
        whole = image[f'bytes_{name}']
        if whole:
            facts[f'to_{name}'] = {k: b / whole for k, b in sizes.items()}
    return facts


def half_facts(halves: dict[str, nn.Module],
               given: dict[str, Tensor]) -> dict[str, Any]:
    """Cost of each half; a multiply-add is two operations."""
    return {
        name: dict(parameters=parameters(half), flops=flops(half, given[name]))
        for name, half in halves.items()
    }
