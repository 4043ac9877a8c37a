"""CRD as a hook: tells the loss which image of the data set is which."""
from typing import Any, Dict, List

import torch
from torch import Tensor, nn

from seg_kd.errors import UserError
from seg_kd.hooks.distill import DistillHook
from seg_kd.losses import CRDLoss
from seg_kd.registry import HOOKS


@HOOKS.register_module()
class CRDHook(DistillHook):
    """Contrastive representation distillation, see :class:`CRDLoss`.

    With ``instances='image'`` the loss keeps a vector of every image of the
    training data. They are counted here, and known by their path: an image
    that a data set repeats, or that two data sets share, is one image. So the
    pipeline must end with ``PackSegInputs``, which keeps ``img_path``.

    Args:
        settings: Of :class:`DistillHook` and of the loss, but for ``n_data``.
    """

    loss_cls = CRDLoss

    def before_wrap_model(self, runner) -> None:
        self.numbers: Dict[str, int] = {}
        if self.loss.get('instances') == 'image':
            paths = image_paths(runner.train_dataloader.dataset)
            self.numbers = {p: i for i, p in enumerate(dict.fromkeys(paths))}
            self.loss['n_data'] = len(self.numbers)
        super().before_wrap_model(runner)

    def before_train_iter(self, runner, batch_idx, data_batch=None) -> None:
        super().before_train_iter(runner, batch_idx, data_batch)
        if self.numbers:
            samples = data_batch['data_samples']
            self.index = torch.tensor([self._number(s) for s in samples])

    def _number(self, sample) -> int:
        path = sample.metainfo.get('img_path')
        if path not in self.numbers:
            raise UserError(
                f"CRDHook with instances='image' has to know its images, and "
                f'{path!r} is none of the training data; the pipeline must '
                "keep img_path as it was loaded: PackSegInputs' meta_keys")
        return self.numbers[path]

    def compute(self, loss: nn.Module, student: Tensor, teacher: Tensor,
                mask) -> Dict[str, Tensor]:
        index = self.index.to(student.device) if self.numbers else None
        return self.named(
            loss(student, teacher, mask, self._source.labels, index))


def image_paths(dataset: Any) -> List[str]:
    """Path of every image of a data set, wrapped or joined as it may be.

    Raises:
        UserError: There is a data set in it that does not say.
    """
    if hasattr(dataset, 'datasets'):  # ConcatDataset
        return [path for d in dataset.datasets for path in image_paths(d)]
    if hasattr(dataset, 'dataset'):  # RepeatDataset, SeededDataset
        return image_paths(dataset.dataset)
    if not hasattr(dataset, 'get_data_info'):
        raise UserError(
            f'{type(dataset).__name__} does not list its images, which '
            "CRDHook with instances='image' has to know: it needs "
            "get_data_info, as BaseSegDataset has it; or take another "
            "instances=")
    return [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
