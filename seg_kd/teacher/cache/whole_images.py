"""Training images as the teacher of a cache sees them."""
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.dataset import pseudo_collate
from torch import Tensor, nn

from seg_kd.datasets.finer import add_view
from seg_kd.errors import UserError
from seg_kd.teacher.cache.replay import NotExact, Size, show


class WholeImages:
    """Training images without the random part of their augmentation.

    Args:
        dataset: Knows the images.
        fixed: The transforms that each of them always undergoes.
        preprocessor: The student's.
        scale: Of the teacher's view, in pixels of the student's image.

    Attributes:
        size: Height and width of the student's image.

    Raises:
        NotExact: ``preprocessor`` pads whole images.
    """

    def __init__(self,
                 dataset: Any,
                 fixed: Sequence[Callable],
                 preprocessor: nn.Module,
                 scale: int = 1) -> None:
        self.dataset, self.fixed = dataset, [*fixed]
        self.preprocessor, self.scale = preprocessor, scale
        if scale != 1:
            add_view(self.fixed, scale, dataset.get_data_info(0), instead=True)
        self.size = self._size(self._load(0)['inputs'])
        if self._size(self(0)) != self.size:
            raise NotExact('data_preprocessor pads whole images of '
                           f'{show(self.size)} pixels; let a Resize make '
                           'them as large as it wants them')

    def _load(self, index: int) -> dict[str, Any]:
        results = self.dataset.get_data_info(index)
        for transform in self.fixed:
            results = transform(results)
        return results

    def _size(self, image: Tensor) -> Size:
        height, width = image.shape[-2:]
        return height // self.scale, width // self.scale

    def __call__(self, index: int) -> Tensor:
        """Normalized for the student, ``(1, C, scale * H, scale * W)``.

        Raises:
            UserError: It is not as large as the first of the data set.
        """
        sample = self._load(index)
        size = self._size(sample['inputs'])
        if size != self.size:
            raise UserError(
                f'{sample["data_samples"].img_path} has {show(size)} pixels, '
                f'the first image {show(self.size)}: a teacher cache needs '
                'images of one size; put a Resize into the train pipeline, '
                'or set TeacherHook(cache=False)')
        batch = pseudo_collate([sample])
        return self.preprocessor(batch, training=True)['inputs']
