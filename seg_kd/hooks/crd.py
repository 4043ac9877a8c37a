"""CRD as a hook: tells the loss which image of the data set is which."""
from typing import Any

import torch

from seg_kd.datasets import WithUnlabelled
from seg_kd.distiller import Term
from seg_kd.errors import UserError
from seg_kd.hooks.distill import DistillHook
from seg_kd.losses import CRDLoss
from seg_kd.registry import HOOKS
from seg_kd.teacher.teacher import Step


class NumberedTerm(Term):
    """Knows the images of a data set by number, once it is told them."""

    numbers: dict[str, int] = {}

    def number(self, images: list[str]) -> None:
        """Gives each of these paths a number, equal ones the same."""
        self.numbers = {p: i for i, p in enumerate(dict.fromkeys(images))}
        self.arguments['n_data'] = len(self.numbers)

    def extras(self, step: Step) -> dict[str, Any]:
        extras = super().extras(step)
        if self.numbers and extras['index'] is None:
            self.index = torch.tensor([self._number(s) for s in step.samples])
            extras['index'] = self.index
        return extras

    def _number(self, sample: Any) -> int:
        path = sample.metainfo.get('img_path')
        if path not in self.numbers:
            raise UserError(
                f"CRDHook with instances='image' has to know its images, and "
                f'{path!r} is none of the training data; the pipeline must '
                "keep img_path as it was loaded: PackSegInputs' meta_keys")
        return self.numbers[path]


@HOOKS.register_module()
class CRDHook(DistillHook):
    """Contrastive representation distillation, see :class:`CRDLoss`.

    With ``instances='image'`` the loss keeps a vector of every image of the
    training data. They are counted here, and known by their path: an image
    that a data set repeats, or that two data sets share, is one image; those
    without labels (``unlabelled=`` of the loader) count, too. So the
    pipeline must end with ``PackSegInputs``, which keeps ``img_path``.

    Args:
        settings: Of :class:`DistillHook` and of the loss, but for ``n_data``.
    """

    loss_cls = CRDLoss
    term_cls = NumberedTerm

    def prepare(self, runner) -> None:
        if self.term.arguments.get('instances') == 'image':
            self.term.number(image_paths(runner.train_dataloader.dataset))


def image_paths(dataset: Any) -> list[str]:
    """Path of every image of a data set, wrapped or joined as it may be.

    Raises:
        UserError: There is a data set in it that does not say.
    """
    if hasattr(dataset, 'datasets'):  # ConcatDataset
        return [path for d in dataset.datasets for path in image_paths(d)]
    if hasattr(dataset, 'dataset') and not isinstance(
            dataset, WithUnlabelled):  # RepeatDataset, SeededDataset
        return image_paths(dataset.dataset)
    if not hasattr(dataset, 'get_data_info'):
        raise UserError(
            f'{type(dataset).__name__} does not list its images, which '
            "CRDHook with instances='image' has to know: it needs "
            "get_data_info, as BaseSegDataset has it; or take another "
            "instances=")
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
