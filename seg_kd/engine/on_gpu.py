"""What MMSegmentation does in each step, without a wait for the GPU.

:func:`ready` puts these in the place of its own parts in a model. Values are
the same; on a CPU nothing is replaced but the class of the pre-processing,
which there does what it did.
"""
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.structures import PixelData
from mmseg.models import SegDataPreProcessor
from mmseg.models.decode_heads import decode_head
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.losses import accuracy as mmsegs_accuracy
from mmseg.models.losses.cross_entropy_loss import cross_entropy
from torch import Tensor, nn

from seg_kd.networks.transfer import sent, stacked
from seg_kd.registry import MODELS

IMAGE, LABEL = 'inputs', 'gt_sem_seg'


def ready(model: nn.Module, device: str) -> None:
    """Lets the training step of a student make the host wait nowhere.

    That concerns MMSegmentation's pre-processing, pixel accuracy and cross
    entropy over classes. Parts of other classes are left as they are.
    """
    given = getattr(model, 'data_preprocessor', None)
    if type(given) is SegDataPreProcessor:
        given.__class__ = BatchPreProcessor
    if torch.device(device).type == 'cpu':
        return
    decode_head.accuracy = accuracy
    module: Any
    for module in model.modules():
        if type(module) is CrossEntropyLoss and \
                module.cls_criterion is cross_entropy:
            module.cls_criterion = CrossEntropy(module.class_weight)
            module.class_weight = None  # it would be copied in each step


@MODELS.register_module()
class BatchPreProcessor(SegDataPreProcessor):
    """MMSegmentation's, but a batch goes to the GPU in two copies.

    Images travel as they were loaded, labels in 8 bits where they fit, both
    in pinned memory. Channels are swapped, and images normalized and padded,
    once for all; the values are those of MMSegmentation. What is no batch of
    a training, of images of one size, goes MMSegmentation's way.
    :class:`~seg_kd.engine.DistillRunner` takes this class for its own.
    """

    def forward(self, data: dict, training: bool = False) -> dict[str, Any]:
        if training and self.device.type != 'cpu' and is_batch(data):
            return self.batch(data)
        found = super().forward(data, training)
        for sample in found['data_samples'] or []:
            if LABEL in sample and sample.gt_sem_seg.data.dtype == torch.uint8:
                sample.gt_sem_seg = PixelData(
                    data=sample.gt_sem_seg.data.long())
        return found

    def batch(self, data: dict) -> dict[str, Any]:
        """What :meth:`forward` returns, of a batch of a training."""
        images = stacked(data[IMAGE], self.device)
        size = images.shape[-2:]
        if self._channel_conversion and images.shape[1] == 3:
            images = images.flip(1)
        images = images.float()
        if self._enable_normalize:
            images = (images - self.mean) / self.std
        padding = self.padding(size)
        images = padded(images, padding, self.pad_val)
        samples = [sample.new() for sample in data['data_samples']]
        labelled = [sample for sample in samples if LABEL in sample]
        labels: list[Tensor] = []
        if labelled:
            maps = [sample.gt_sem_seg.data for sample in labelled]
            found = stacked(maps, self.device, narrowest(maps))
            found = found.to(torch.long if found.dtype ==
                             torch.uint8 else found.dtype)
            labels = list(padded(found, padding, self.seg_pad_val))
        for sample, label in zip(labelled, labels):
            sample.gt_sem_seg = PixelData(data=label)
        for sample in samples:
            shape = sample.gt_sem_seg.shape if LABEL in sample else None
            sample.set_metainfo(
                dict(img_shape=size, pad_shape=shape, padding_size=padding))
        if self.batch_augments is not None:
            images, samples = self.batch_augments(images, samples)
        return dict(inputs=images, data_samples=samples)

    def padding(self, size: torch.Size) -> tuple[int, int, int, int]:
        """Of images ``(height, width)``: to the right and below."""
        if self.size is not None:
            high, wide = self.size[-2:]
        else:
            high, wide = (-(-n // self.size_divisor) * self.size_divisor
                          for n in size)
        return 0, max(wide - size[1], 0), 0, max(high - size[0], 0)


def is_batch(data: dict) -> bool:
    """Images of one size on the host, with labels of that size, or none."""
    images, samples = data[IMAGE], data.get('data_samples')
    if not samples or any(set(s.keys()) - {LABEL} for s in samples):
        return False
    labels = [s.gt_sem_seg.data for s in samples if LABEL in s]
    if any(x.device.type != 'cpu' for x in (*images, *labels)):
        return False
    (kind, *others), kinds = ({(x.shape, x.dtype)
                               for x in found} for found in (images, labels))
    shape = torch.Size((1, *kind[0][1:]))
    return (not others and len(kind[0]) == 3 and len(kinds) <= 1
            and all(found == shape for found, _ in kinds))


def narrowest(labels: list[Tensor]) -> torch.dtype:
    """The type in which they travel: 8 bits where that loses nothing."""
    kind = labels[0].dtype
    if kind.is_floating_point or kind == torch.uint8:
        return kind
    for label in labels:
        low, high = label.aminmax()
        if low < 0 or high > 255:
            return kind
    return torch.uint8


def padded(maps: Tensor, padding: tuple[int, ...], value: float) -> Tensor:
    return F.pad(maps, padding, value=value) if any(padding) else maps


class CrossEntropy:
    """MMSegmentation's, which divides by a number that stays on the GPU.

    Args:
        class_weight: One number a class, or None.
    """

    def __init__(self, class_weight: Any = None) -> None:
        self.class_weight = class_weight
        self._weights: Tensor | None = None  # on the device

    def __call__(self,
                 pred: Tensor,
                 label: Tensor,
                 weight: Tensor | None = None,
                 reduction: str = 'mean',
                 avg_factor: Any = None,
                 ignore_index: int = -100,
                 avg_non_ignore: bool = False,
                 **_: Any) -> Tensor:
        weights = self.weights(pred)
        if avg_factor is None and reduction == 'mean':
            counts = label != ignore_index
            if weights is not None:
                of_each = weights[label.where(counts, 0)]
                avg_factor = (of_each * counts).sum()
            elif avg_non_ignore:
                avg_factor = counts.sum()
        return cross_entropy(pred, label, weight, weights, reduction,
                             avg_factor, ignore_index)

    def weights(self, like: Tensor) -> Tensor | None:
        if self.class_weight is None:
            return None
        held = self._weights
        if held is None or (held.device, held.dtype) != (like.device,
                                                         like.dtype):
            given = torch.as_tensor(self.class_weight, dtype=like.dtype)
            self._weights = sent(given, like.device)
        return self._weights


def accuracy(pred: Tensor,
             target: Tensor,
             topk: int | tuple[int, ...] = 1,
             thresh: float | None = None,
             ignore_index: int | None = None) -> Any:
    """MMSegmentation's pixel accuracy, ``(1,)`` in percent, left on a GPU."""
    if pred.device.type == 'cpu' or topk != 1 or thresh is not None or \
            ignore_index is None or not pred.numel():
        return mmsegs_accuracy(pred, target, topk, thresh, ignore_index)
    return share_right(pred, target, ignore_index)


def share_right(pred: Tensor, target: Tensor, ignore_index: int) -> Tensor:
    """``(N, K, H, W), (N, H, W) -> (1,)``, in percent of the valid pixels."""
    counts = target != ignore_index
    right = (pred.argmax(1) == target) & counts
    tiny = torch.finfo(torch.float32).eps
    return ((right.sum() + tiny) * (100 / (counts.sum() + tiny))).reshape(1)
