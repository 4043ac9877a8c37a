"""Training augmentation through albumentations.

albumentations is used through mmseg's ``Albu``. Three of its habits are
mended here: its generators are its own, so that no seed of ours would reach
them; its ``set_random_seed`` gives every transform the *same* generator
state, so that scale, crop and flip would be correlated; and ``Albu`` leaves
the shapes in the meta information as they were.
"""
import difflib
import random
from collections.abc import Iterator
from typing import Any

import albumentations
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from mmseg.datasets.transforms import Albu
from mmseg.registry import TRANSFORMS

from seg_kd.errors import UserError

FLIPS = {albumentations.HorizontalFlip: -1, albumentations.VerticalFlip: -2}


def histogram(label: np.ndarray) -> np.ndarray:
    """Pixels per value 0 to 255 of a uint8 map; ten times np.bincount."""
    counts = cv2.calcHist([label], [0], None, [256], [0, 256])
    return counts.ravel().astype(np.int64)


class CropWithClassCap(albumentations.RandomCrop):
    """Random crop in which no class fills more than ``max_ratio``.

    Up to ten places are tried, as mmseg's ``RandomCrop(cat_max_ratio)``
    does. What is smaller than the crop is padded at the right and bottom.

    Args:
        height: Of the crop, in pixels.
        width: Of the crop, in pixels.
        max_ratio: Largest part of the scored pixels that one class may have.
        ignore_index: Label that is not scored; also pads the mask.
        fill: Pads the image (RGB).
        stride: Corners lie on multiples of it.
    """
    tries = 10

    class InitSchema(BaseTransformInitSchema):
        height: int
        width: int
        max_ratio: float
        ignore_index: int
        fill: tuple[int, int, int]
        stride: int

    def __init__(self,
                 height: int,
                 width: int,
                 max_ratio: float = 0.75,
                 ignore_index: int = 255,
                 fill: tuple[int, int, int] = (124, 116, 104),
                 stride: int = 1,
                 p: float = 1.) -> None:
        super().__init__(height,
                         width,
                         pad_if_needed=True,
                         pad_position='top_left',
                         fill=fill,
                         fill_mask=ignore_index,
                         p=p)
        self.max_ratio, self.ignore_index = max_ratio, ignore_index
        self.stride = stride

    @property
    def targets_as_params(self) -> list:
        return ['mask']

    def get_params_dependent_on_data(self, params: dict[str, Any],
                                     data: dict[str, Any]) -> dict[str, Any]:
        shape, size = params['shape'][:2], (self.height, self.width)
        for _ in range(self.tries):
            y, x = (self.py_random.randint(0,
                                           max(room, 0) // self.stride) *
                    self.stride for room in np.subtract(shape, size).tolist())
            bottom, right = y + self.height, x + self.width
            if self._varied(data['mask'][y:bottom, x:right]):
                break
        return dict(crop_coords=(x, y, right, bottom),
                    pad_params=self._get_pad_params(shape, size))

    def _varied(self, mask: np.ndarray) -> bool:
        counts = histogram(mask)
        counts[self.ignore_index] = 0
        return 0 < counts.max() < self.max_ratio * counts.sum()


@TRANSFORMS.register_module()
class Albumentations(Albu):
    """A chain of albumentations' transforms, driven by numpy's global seed.

    Image and mask are moved in step, the mask by nearest neighbour. The flips
    and crops of the draw are left in the results as ``geometry``, in their
    order: ``('flip', dim)``, or ``('crop', y, x, height, width)`` in pixels.

    Args:
        transforms: Configs; ``type`` names a class of albumentations, or
            ``CropWithClassCap``.
        **kwargs: As for mmseg's ``Albu``.
    """

    def __init__(self, transforms: list, **kwargs: Any) -> None:
        super().__init__(transforms, update_pad_shape=False, **kwargs)

    def albu_builder(self, cfg: dict) -> object:
        kind = cfg['type']
        if kind == CropWithClassCap.__name__:
            return super().albu_builder({**cfg, 'type': CropWithClassCap})
        if isinstance(kind, str) and not hasattr(albumentations, kind):
            near = difflib.get_close_matches(kind, dir(albumentations), 3, .4)
            raise UserError(f'albumentations has no transform {kind!r}; '
                            f'nearest names: {", ".join(near) or "none"}')
        return super().albu_builder(cfg)

    def transform(self, results: dict) -> dict | None:
        self._check_range(results['img'])
        seed = np.random.randint(2**32, size=4, dtype=np.uint32)
        self.aug.set_random_state(np.random.default_rng(seed),
                                  random.Random(seed.tobytes()))
        results = super().transform(results)
        results['img_shape'] = results['pad_shape'] = results['img'].shape[:2]
        results['geometry'] = (*results.get('geometry', ()), *self._geometry())
        return results

    def _check_range(self, image: np.ndarray) -> None:
        """Floats beyond 1 would be cut to 1 by what changes colours."""
        if image.dtype.kind != 'f' or not image.size or image.max() <= 1:
            return
        for move in self.aug.transforms:
            if isinstance(move, albumentations.ImageOnlyTransform):
                raise UserError(
                    f'{type(move).__name__} of albumentations takes floats '
                    'from 0 to 1, this image has larger ones: load it without '
                    'to_float32=True, the model makes floats of it')

    def _geometry(self) -> Iterator[tuple]:
        for move in self.aug.transforms:
            params = getattr(move, 'params', None)  # of what this draw applied
            if params and isinstance(move, CropWithClassCap):
                x, y, *_ = params['crop_coords']
                yield 'crop', y, x, move.height, move.width
            elif params and type(move) in FLIPS:
                yield 'flip', FLIPS[type(move)]
