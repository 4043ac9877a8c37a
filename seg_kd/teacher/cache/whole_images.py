"""Training images as the teacher of a cache sees them."""
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from seg_kd.errors import UserError
from seg_kd.teacher.cache.replay import NotExact, Size, show


class WholeImages:
    """Training images without the random part of their augmentation.

    Args:
        dataset: Knows the images.
        fixed: The transforms that each of them always undergoes.
        preprocessor: The student's.

    Raises:
        NotExact: ``preprocessor`` pads whole images.
    """

    def __init__(self, dataset: Any, fixed: Sequence[Callable],
                 preprocessor: nn.Module) -> None:
        self.dataset, self.fixed = dataset, fixed
        self.preprocessor = preprocessor
        self.size: Size = tuple(self._load(0)['inputs'].shape[1:])
        if tuple(self(0).shape[2:]) != self.size:
            raise NotExact('data_preprocessor pads whole images of '
                           f'{show(self.size)} pixels; let a Resize make '
                           'them as large as it wants them')

    def _load(self, index: int) -> dict[str, Any]:
        results = self.dataset.get_data_info(index)
        for transform in self.fixed:
            results = transform(results)
        return results

    def __call__(self, index: int) -> Tensor:
        """Normalized for the student, ``(1, C, H, W)``.

        Raises:
            UserError: It is not as large as the first of the data set.
        """
        sample = self._load(index)
        size = tuple(sample['inputs'].shape[1:])
        if size != self.size:
            raise UserError(
                f'{sample["data_samples"].img_path} has {show(size)} pixels, '
                f'the first image {show(self.size)}: a teacher cache needs '
                'images of one size; put a Resize into the train pipeline, '
                'or set TeacherHook(cache=False)')
        batch = pseudo_collate([sample])
        return self.preprocessor(batch, training=True)['inputs']
