"""Moves of an image that a feature map can follow exactly.

A flip is the same flip of a map; a crop whose corner and size lie on the grid
of a map's stride is a crop of the map. Nothing else is: a map of a scaled or
recoloured image is another map. Other colours can be left to the student.
"""
from collections.abc import Sequence
from typing import Any

from albumentations import (FromFloat, HorizontalFlip, ImageOnlyTransform,
                            Normalize, ToFloat, VerticalFlip)
from mmseg.datasets.transforms import PackSegInputs, PhotoMetricDistortion
from torch import Tensor, nn

from seg_kd.datasets.finer import FIXED, unpacked
from seg_kd.datasets.transforms import CropWithClassCap
from seg_kd.errors import UserError

MOVES = (HorizontalFlip, VerticalFlip, CropWithClassCap)
RANGES = Normalize, ToFloat, FromFloat  # what numbers stand for a colour
Size = tuple[int, int]  # height, width


class NotExact(UserError):
    """Maps cannot follow this augmentation; says why, and what to change."""


def split(pipeline: Sequence[Any],
          ignore_colours: bool = False) -> tuple[list[Any], list[Any]]:
    """A train pipeline in two parts.

    Args:
        pipeline: Transforms.
        ignore_colours: Leave out what changes an image's colours, or blurs
            it, and moves nothing: it is then in neither part.

    Returns:
        Transforms that do the same to an image in every epoch, packing
        included; and the flips and crops between loading and packing.

    Raises:
        NotExact: There is a transform of another kind.
    """
    fixed: list[Any] = []
    moves: list[Any] = []
    for transform in unpacked(pipeline):
        if ignore_colours and changes_colours(transform):
            continue
        known = type(transform) in FIXED and not moves
        if type(transform) in MOVES:
            moves.append(transform)
        elif known or type(transform) is PackSegInputs:
            fixed.append(transform)
        else:
            colours = ', or have the teacher see the image without it: ' \
                'cache=dict(ignore_colours=True)'
            raise NotExact(
                f'no stored map fits an image after {type(transform).__name__}'
                '; take it out of the train pipeline'
                f'{colours * changes_colours(transform)} (a fixed Resize can '
                'stand for random scaling), where behind loading there may '
                'be Albumentations of HorizontalFlip, VerticalFlip and '
                'CropWithClassCap(stride=...): see '
                'configs/_base_/datasets/camvid_half_grid.py')
    return fixed, moves


def changes_colours(transform: Any) -> bool:
    """Whether it leaves every pixel in its place, and on its scale."""
    return type(transform) is PhotoMetricDistortion or isinstance(
        transform, ImageOnlyTransform) and not isinstance(transform, RANGES)


def strides(size: Size, shapes: dict[str, Sequence[int]]) -> dict[str, int]:
    """Stride of each map ``(..., h, w)`` of an image of ``size``.

    Raises:
        NotExact: The image is no whole multiple of a map.
    """
    found = {}
    for path, (*_, height, width) in shapes.items():
        found[path] = stride = size[0] // height
        if (height * stride, width * stride) != tuple(size):
            raise NotExact(
                f'the map {path!r} of a whole image of {show(size)} pixels is '
                f'{show((height, width))}, which is no whole stride; let a '
                'Resize make the images multiples of the stride')
    return found


def check_moves(moves: Sequence[Any], size: Size, strides: dict[str,
                                                                int]) -> Size:
    """Size of the image after the moves; every crop must be on the grid.

    Raises:
        NotExact: A crop is off the grid of a map, or pads.
    """
    for crop in (m for m in moves if isinstance(m, CropWithClassCap)):
        for path, stride in strides.items():
            if crop.height % stride or crop.width % stride or \
                    crop.stride % stride:
                raise NotExact(
                    f'CropWithClassCap(height={crop.height}, width='
                    f'{crop.width}, stride={crop.stride}) is off the grid of '
                    f'the map {path!r}: make all three multiples of its '
                    f'stride, {stride}')
        if crop.height > size[0] or crop.width > size[1]:
            raise NotExact(
                f'CropWithClassCap pads images of {show(size)} pixels to '
                f'{crop.height} x {crop.width}; take smaller crops')
        size = crop.height, crop.width
    return size


def check_preprocessor(preprocessor: nn.Module, size: Size) -> None:
    """Batches of images of ``size`` must come out as they go in.

    Raises:
        NotExact: They are padded, or augmented.
    """
    least = getattr(preprocessor, 'size', None) or (0, 0)
    divisor = getattr(preprocessor, 'size_divisor', None) or 1
    if any(n < m or n % divisor for n, m in zip(size, least)):
        raise NotExact(f'data_preprocessor pads images of {show(size)} '
                       'pixels; set its size to that')
    if getattr(preprocessor, 'batch_augments', None) is not None:
        raise NotExact('batch_augments of data_preprocessor change images in '
                       'ways that are not recorded; remove them')


def replay(kept: Tensor, geometry: Sequence[tuple], stride: int) -> Tensor:
    """What the recorded moves of an image make of its map.

    Args:
        kept: Map of the whole image, ``(C, h, w)``.
        geometry: As :class:`Albumentations` records it, in pixels.
        stride: Pixels from one position of the map to the next.
    """
    for move, *where in geometry:
        if move == 'flip':
            kept = kept.flip(where)
        else:
            y, x, height, width = (n // stride for n in where)
            kept = kept[:, y:y + height, x:x + width]
    return kept


def show(size: Size) -> str:
    return f'{size[0]} x {size[1]}'
