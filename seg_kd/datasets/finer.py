"""Images of which a teacher sees more pixels than the student does.

The image is kept as it was read, before anything makes it smaller. What the
student's pipeline does to its own is then done to the kept one, at ``scale``
times the size: the same crop, flip and colours.
"""
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import torch
from albumentations import (BasicTransform, HorizontalFlip, ImageOnlyTransform,
                            RandomScale, VerticalFlip)
from mmcv.transforms import BaseTransform, LoadImageFromFile
from mmengine.logging import print_log
from mmseg.datasets.transforms import (LoadAnnotations, PackSegInputs, Resize,
                                       ResizeToMultiple)

from seg_kd.datasets.cached import Cached, OnDisk
from seg_kd.datasets.check import CheckLabels
from seg_kd.datasets.transforms import (FINER, MOVES, Albumentations,
                                        CropWithClassCap, ScaledCrop,
                                        magnified)
from seg_kd.datasets.unlabelled import LoadLabels
from seg_kd.errors import UserError

RESIZES = Resize, ResizeToMultiple
FIXED = (LoadImageFromFile, LoadAnnotations, LoadLabels, CheckLabels, *RESIZES)
FOLLOWED = (HorizontalFlip, VerticalFlip, RandomScale, CropWithClassCap,
            ScaledCrop)


class KeepOriginal(BaseTransform):
    """Stands before the first transform that changes the image."""

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        results[FINER] = results['img'].copy()
        return results


class FinerView(BaseTransform):
    """What the student's image shows, of the kept one; before packing.

    Reduced by area where the original has more pixels, enlarged linearly
    where it has fewer.

    Args:
        scale: Its height and width in those of the student's image.
        instead: It takes the place of the student's image; else it is a
            tensor ``(C, scale * H, scale * W)`` beside it.
    """

    def __init__(self, scale: int, instead: bool = False) -> None:
        self.scale, self.instead = scale, instead

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        image = results.pop(FINER)
        for chain, frame, moves in results.pop(MOVES, ()):
            rgb = chain.bgr_to_rgb  # is what these moves are done to
            for move, params in moves:
                if isinstance(move, CropWithClassCap):
                    frame = params.get('size', frame)  # of a ScaledCrop
                    fill = move.fill[::-1] if rgb else move.fill
                    image = self._crop(image, frame, params, fill)
                    frame = move.height, move.width
                elif isinstance(move, RandomScale):
                    frame = [int(n * params['scale']) for n in frame]
                elif rgb and isinstance(move, ImageOnlyTransform):
                    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGB)
                    image = move.apply(image, **params)
                    image = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
                else:
                    image = np.ascontiguousarray(move.apply(image, **params))
        size = [n * self.scale for n in results['img'].shape[:2]]
        image = part(image, size, (0, 0, *size))
        if self.instead:
            results.update(img=image, img_shape=image.shape[:2])
            results['pad_shape'] = image.shape[:2]
        else:
            image = torch.from_numpy(np.atleast_3d(image))
            results[FINER] = image.movedim(2, 0).contiguous()
        return results

    def _crop(self, image: np.ndarray, frame: Sequence[int],
              params: dict[str, Any], fill: tuple[int, ...]) -> np.ndarray:
        """``frame`` is the size of what the student's crop was taken from."""
        whole = [n * self.scale for n in frame]
        x, y, right, bottom = (n * self.scale for n in params['crop_coords'])
        inside = min(bottom, whole[0]), min(right, whole[1])
        image = part(image, whole, (y, x, *inside))
        room = bottom - inside[0], right - inside[1]
        return cv2.copyMakeBorder(image,
                                  0,
                                  room[0],
                                  0,
                                  room[1],
                                  cv2.BORDER_CONSTANT,
                                  value=fill)


def part(image: np.ndarray, size: Sequence[int],
         box: Sequence[int]) -> np.ndarray:
    """A box (top, left, bottom, right) of an image brought to ``size``."""
    y, x, bottom, right = box
    if any(n > m for n, m in zip(size, image.shape)):
        return magnified(image, size, box)
    if image.shape[:2] != tuple(size):
        image = cv2.resize(image, size[::-1], interpolation=cv2.INTER_AREA)
    return image[y:bottom, x:right]


def show_finer(dataset: Any, scale: int, instead: bool = False) -> None:
    """Has the samples of a data set show the finer view as well.

    Args:
        dataset: With a ``pipeline`` and ``get_data_info`` as
            ``BaseSegDataset`` has them; of wrappers the inner one.
        scale: See :class:`FinerView`.
        instead: See there. Otherwise it is ``finer`` in the ``metainfo``.

    Raises:
        UserError: It has none, or the pipeline holds a transform that cannot
            be done to two images alike.
    """
    if not hasattr(dataset, 'pipeline') or not hasattr(dataset,
                                                       'get_data_info'):
        raise UserError(f'a teacher with scale={scale} needs a data set with '
                        'a pipeline of its own, as BaseSegDataset has it, not '
                        f'a {type(dataset).__name__}')
    transforms = dataset.pipeline.transforms
    for transform in unpacked(transforms):
        if type(transform) not in (*FIXED, *FOLLOWED, PackSegInputs) and \
                not only_colours(transform):
            raise UserError(
                f'a teacher with scale={scale} cannot follow '
                f'{type(transform).__name__} of the pipeline: behind loading, '
                'labels and a Resize it follows Albumentations of '
                f'{", ".join(kind.__name__ for kind in FOLLOWED[:-1])} and of '
                'colours, such as ColorJitter')
    add_view(transforms, scale, dataset.get_data_info(0), instead)
    if not instead:
        pack = next(t for t in transforms if isinstance(t, PackSegInputs))
        pack.meta_keys = (*pack.meta_keys, FINER)


def add_view(transforms: list,
             scale: int,
             first: dict[str, Any],
             instead: bool = False) -> None:
    """Puts the two transforms in; says so where a file is too small.

    Args:
        transforms: A pipeline; it is changed.
        scale: See :class:`FinerView`.
        first: What the data set says of one image.
        instead: See :class:`FinerView`.
    """
    insert(transforms, KeepOriginal(),
           (*RESIZES, Albumentations, PackSegInputs))
    insert(transforms, FinerView(scale, instead), (PackSegInputs, ))
    for transform in transforms:
        if isinstance(transform, (Albumentations, FinerView)):
            break
        first = transform(first)
    has, seen = first[FINER].shape[:2], first['img'].shape[:2]
    if any(n < scale * m for n, m in zip(has, seen)):
        print_log(
            f'Teacher: {first["img_path"]} has {has[0]} x {has[1]} pixels, '
            f'fewer than {scale} times the {seen[0]} x {seen[1]} of the '
            "student: such images are enlarged for the teacher's view",
            'current')


def insert(transforms: list, new: BaseTransform, before: tuple[type,
                                                               ...]) -> bool:
    """Before the first transform of these kinds, inside ``Cached`` too."""
    for place, transform in enumerate(transforms):
        if isinstance(transform, Cached):
            if insert(transform.transforms.transforms, new, before):
                if isinstance(transform.store, OnDisk):  # other contents
                    transform.store.transforms += type(new).__name__
                return True
        elif isinstance(transform, before):
            transforms.insert(place, new)
            return True
    return False


def only_colours(transform: Any) -> bool:
    """Whether its draws fit an image of another size."""
    return isinstance(transform, ImageOnlyTransform) and (
        type(transform).get_params_dependent_on_data
        is BasicTransform.get_params_dependent_on_data)


def unpacked(pipeline: Sequence[Any]) -> list[Any]:
    """The transforms inside ``Cached`` and ``Albumentations`` as well.

    Those of a finer view are left out: they do nothing to the image.
    """
    found: list[Any] = []
    for transform in pipeline:
        if isinstance(transform, Cached):
            found += unpacked(transform.transforms.transforms)
        elif isinstance(transform, Albumentations):
            for move in transform.aug.transforms:
                joined = isinstance(move, ScaledCrop)
                found += [move.scale, move] if joined else [move]
        elif not isinstance(transform, (KeepOriginal, FinerView)):
            found.append(transform)
    return found
