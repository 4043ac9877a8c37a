"""What a data set is told before a runner takes it."""
import warnings
from collections.abc import Sequence
from typing import Any

from mmengine.dataset import Compose
from torch import Tensor

from seg_kd.datasets.check import CheckLabels, check_label, open_pair
from seg_kd.errors import UserError


def make_ready(dataset: Any) -> Any:
    """Lets its errors name their file, and CheckLabels know the classes.

    A wrapper, such as ``ConcatDataset``, passes it on.
    """
    held = [*getattr(dataset, 'datasets', ())]
    for inner in (*held, getattr(dataset, 'dataset', None)):
        if inner is not None:
            make_ready(inner)
    pipeline = getattr(dataset, 'pipeline', None)
    if isinstance(pipeline, Compose):
        dataset.pipeline = NamingPipeline(pipeline.transforms)
    fill_in_classes(pipeline, len(classes_of(dataset) or ()))
    return dataset


def classes_of(dataset: Any) -> Sequence[str] | None:
    """The names of its classes, if it says them."""
    return (getattr(dataset, 'metainfo', None) or {}).get('classes')


def fill_in_classes(transform: Any, classes: int) -> None:
    """In each CheckLabels that has no number of its own."""
    if isinstance(transform, CheckLabels):
        transform.num_classes = transform.num_classes or classes or None
    for name in ('transforms', 'subroutines'):  # of Compose; of TestTimeAug
        held = getattr(transform, name, None)
        for inner in held if isinstance(held, list) else [held]:
            if inner is not None:
                fill_in_classes(inner, classes)


class NamingPipeline(Compose):
    """A pipeline that says which file cannot be used.

    What fails for another reason fails as it would.

    Raises:
        UserError: An image or label is not readable, an image not finite, or
            a label no label map.
    """

    def __call__(self, data: dict) -> Any:
        files = {k: data[k] for k in ('img_path', 'seg_map_path') if k in data}
        try:
            with warnings.catch_warnings():  # the check below says more
                warnings.filterwarnings('ignore', 'Please pay attention your')
                found = super().__call__(data)
        except UserError:
            raise
        except Exception as error:
            if 'img_path' in files:
                open_pair(files)  # it says so where they are at fault
            if isinstance(error, KeyError):
                raise UserError(
                    f'{files.get("img_path")}: a transform of the pipeline '
                    f'misses {error}: are they all there, and in this order, '
                    'LoadImageFromFile, LoadAnnotations, ..., PackSegInputs?'
                ) from error
            raise
        if isinstance(found, dict) and 'img' in found and \
                'inputs' not in found:
            raise UserError(f'{files.get("img_path")}: the pipeline does not '
                            'end with PackSegInputs')
        inputs = found.get('inputs') if isinstance(found, dict) else None
        if isinstance(inputs, Tensor) and inputs.is_floating_point() and \
                not inputs.isfinite().all():
            raise UserError(f'{files.get("img_path")}: the image is NaN or '
                            'infinite somewhere, as the pipeline leaves it')
        sample = found.get('data_samples') if isinstance(found, dict) else None
        if 'gt_sem_seg' in (sample or ()):
            label = sample.gt_sem_seg.data
            if label.dim() != 3 or label.shape[0] != 1:
                check_label(files.get('seg_map_path'), label.numpy(),
                            label.shape)
        return found
