"""Pictures as data URIs, reduced to what a page shows."""
import base64
import io
from collections.abc import Sequence

import cv2
import matplotlib
import numpy as np
from PIL import Image

WIDTH = 384  # pixels: the columns of the page are about half as wide
TILE = 64  # longest side of one map of a sprite
LOST, WON, SAME = (224, 86, 26), (46, 134, 222), (128, 128, 128)


def photo(image: np.ndarray) -> str:
    """``(H, W, 3)`` RGB uint8 as a JPEG."""
    return _uri(Image.fromarray(_reduced(image, cv2.INTER_AREA)),
                'JPEG',
                quality=82)


def flat(image: np.ndarray) -> str:
    """``(H, W, 3)`` RGB uint8 of few colours as a PNG."""
    small = Image.fromarray(_reduced(image, cv2.INTER_NEAREST))
    few = small.quantize(256, dither=Image.Dither.NONE)
    return _uri(few, 'PNG', optimize=True)


def heat(values: np.ndarray, size: Sequence[int]) -> str:
    """``(h, w)`` from 0 to 1, in colours, at the shape (H, W) of the image."""
    height, width = _fitting(size)
    large = cv2.resize(values.astype(np.float32), (width, height),
                       interpolation=cv2.INTER_NEAREST)
    return _uri(Image.fromarray(coloured(large)), 'PNG', optimize=True)


def sprite(maps: np.ndarray, grid: tuple[int, int]) -> str:
    """``(rows * columns, h, w)`` from 0 to 1: all in one picture."""
    rows, columns = grid
    _, h, w = maps.shape
    scale = max(1, TILE // max(h, w))
    maps = maps.repeat(scale, 1).repeat(scale, 2)
    tiled = maps.reshape(rows, columns, h * scale, w * scale)
    whole = tiled.transpose(0, 2, 1, 3).reshape(rows * h * scale, -1)
    shown = Image.fromarray(coloured(whole))
    return _uri(shown.quantize(64), 'PNG', optimize=True)


def coloured(values: np.ndarray) -> np.ndarray:
    """Values from 0 to 1 -> RGB uint8, blue to yellow."""
    table = matplotlib.colormaps['viridis']
    return (255 * table(np.clip(values, 0, 1))[..., :3]).round().astype(
        np.uint8)


def differences(student: np.ndarray, teacher: np.ndarray,
                truth: np.ndarray) -> np.ndarray:
    """Where one of two networks alone is right: ``(H, W)`` -> RGB."""
    out = np.empty((*truth.shape, 3), np.uint8)
    out[:] = SAME
    valid = truth != 255
    out[valid & (teacher == truth) & (student != truth)] = LOST
    out[valid & (student == truth) & (teacher != truth)] = WON
    return out


def hexed(colour: Sequence[int]) -> str:
    """``(255, 0, 16) -> '#ff0010'``."""
    return '#' + ''.join(f'{int(x):02x}' for x in colour)


def _fitting(shape: Sequence[int]) -> tuple[int, int]:
    height, width = shape[:2]
    scale = min(1., WIDTH / width)
    return max(1, round(height * scale)), max(1, round(width * scale))


def _reduced(image: np.ndarray, how: int) -> np.ndarray:
    height, width = _fitting(image.shape)
    return cv2.resize(image, (width, height), interpolation=how)


def _uri(image: Image.Image, kind: str, **options: object) -> str:
    file = io.BytesIO()
    image.save(file, kind, **options)
    data = base64.b64encode(file.getvalue()).decode()
    return f'data:image/{kind.lower()};base64,{data}'
