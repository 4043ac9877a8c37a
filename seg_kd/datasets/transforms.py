"""Training augmentation through albumentations.

albumentations is used through mmseg's ``Albu``. Three of its habits are
mended here: its generators are its own, so that no seed of ours would reach
them; its ``set_random_seed`` gives every transform the *same* generator
state, so that scale, crop and flip would be correlated; and ``Albu`` leaves
the shapes in the meta information as they were.
"""
import difflib
import random
from collections.abc import Iterator, Sequence
from typing import Any

import albumentations
import cv2
import numpy as np
from albumentations.core.transforms_interface import BaseTransformInitSchema
from mmseg.datasets.transforms import Albu
from mmseg.registry import TRANSFORMS

from seg_kd.errors import UserError

FINER, MOVES = 'finer', 'moves'  # of a teacher's view: see finer.py
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


class ScaledCrop(CropWithClassCap):
    """A ``RandomScale`` and the ``CropWithClassCap`` behind it, as one.

    The draws are those of the two, and so is the label map. Of an image that
    is enlarged only what the crop keeps is made: each value is within one of
    256 levels, as it is rounded from another fraction. One that is made
    smaller is the same, as are all that have to be padded.

    Made by :meth:`join`.
    """
    scale: albumentations.RandomScale

    @classmethod
    def join(cls, scale: Any, crop: Any) -> list:
        """It in a list, or the two where they cannot be one."""
        if not (type(scale) is albumentations.RandomScale
                and type(crop) is CropWithClassCap and scale.p == crop.p == 1
                and scale.interpolation == cv2.INTER_LINEAR
                and scale.mask_interpolation == cv2.INTER_NEAREST
                and scale.area_for_downscale != 'image_mask'):
            return [scale, crop]
        made = cls(crop.height, crop.width, crop.max_ratio, crop.ignore_index,
                   crop.fill, crop.stride)
        made.scale = scale
        return [made]

    def set_random_state(self, *generators: Any) -> None:
        super().set_random_state(*generators)
        self.scale.set_random_state(*generators)

    def get_params_dependent_on_data(self, params: dict[str, Any],
                                     data: dict[str, Any]) -> dict[str, Any]:
        factor = self.scale.get_params()['scale']
        size = tuple(int(n * factor) for n in params['shape'][:2])
        data = dict(data, mask=Nearest(data['mask'], size))
        found = super().get_params_dependent_on_data(dict(params, shape=size),
                                                     data)
        return dict(found, factor=factor, size=size)

    def apply(self, img: np.ndarray, crop_coords: tuple, factor: float,
              size: tuple, **params: Any) -> np.ndarray:
        if factor <= 1 or params.get('pad_params') is not None:
            img = self.scale.apply(img, scale=factor)
            return super().apply(img, crop_coords=crop_coords, **params)
        x, y, right, bottom = crop_coords
        return magnified(img, size, (y, x, bottom, right))

    def apply_to_mask(self, mask: np.ndarray, crop_coords: tuple,
                      factor: float, size: tuple, **params: Any) -> np.ndarray:
        if params.get('pad_params') is not None:
            mask = self.scale.apply_to_mask(mask, scale=factor)
            return super().apply_to_mask(mask,
                                         crop_coords=crop_coords,
                                         **params)
        x, y, right, bottom = crop_coords
        return Nearest(mask, size)[y:bottom, x:right]


def magnified(image: np.ndarray, size: Sequence[int],
              box: Sequence[int]) -> np.ndarray:
    """A box (top, left, bottom, right) of an image that is enlarged to
    ``size``: no more than the box is made."""
    y, x, bottom, right = box
    step_y, step_x = (n / m for n, m in zip(image.shape, size))
    back = np.array([[step_x, 0, (x + .5) * step_x - .5],
                     [0, step_y, (y + .5) * step_y - .5]])
    return cv2.warpAffine(image,
                          back, (right - x, bottom - y),
                          flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
                          borderMode=cv2.BORDER_REPLICATE)


class Nearest:
    """A label map in another size, of which only what is read is made."""

    def __init__(self, label: np.ndarray, size: tuple[int, int]) -> None:
        self.label = label
        self.index = [
            np.minimum((np.arange(n) * (1 / (n / m))).astype(np.intp), m - 1)
            for n, m in zip(size, label.shape)
        ]

    def __getitem__(self, where: tuple[slice, slice]) -> np.ndarray:
        rows, columns = (i[s] for i, s in zip(self.index, where))
        return self.label[rows].take(columns, axis=1)


@TRANSFORMS.register_module()
class Albumentations(Albu):
    """A chain of albumentations' transforms, driven by numpy's global seed.

    Image and mask are moved in step, the mask by nearest neighbour. The flips
    and crops of the draw are left in the results as ``geometry``, in their
    order: ``('flip', dim)``, or ``('crop', y, x, height, width)`` in pixels.

    Args:
        transforms: Configs; ``type`` names a class of albumentations, or
            ``CropWithClassCap``. That and a ``RandomScale`` before it are
            done as one (:class:`ScaledCrop`).
        **kwargs: As for mmseg's ``Albu``.
    """

    def __init__(self, transforms: list, **kwargs: Any) -> None:
        super().__init__(transforms, update_pad_shape=False, **kwargs)
        moves = self.aug.transforms
        for k in range(len(moves) - 1, 0, -1):
            moves[k - 1:k + 1] = ScaledCrop.join(*moves[k - 1:k + 1])

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
        before = results['img'].shape[:2]
        results = super().transform(results)
        results['img_shape'] = results['pad_shape'] = results['img'].shape[:2]
        results['geometry'] = (*results.get('geometry', ()), *self._geometry())
        if FINER in results:
            done = [(m, m.params) for m in self.aug.transforms if m.params]
            results[MOVES] = *results.get(MOVES, ()), (self, before, done)
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
