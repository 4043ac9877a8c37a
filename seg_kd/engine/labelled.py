"""The task of a batch with images without labels: its labelled images alone.

A label map that is ignored everywhere would do for a plain cross entropy.
Others would make it a target, as STDC's and PIDNet's of edges and EncNet's of
the classes there are, or divide by all images, as Dice, OHEM and focal loss.
"""
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from mmseg.models.decode_heads.decode_head import BaseDecodeHead
from torch import Tensor, nn

from seg_kd.datasets.unlabelled import MARK
from seg_kd.errors import UserError
from seg_kd.networks.classes import heads


def task_of_labelled(model: nn.Module) -> None:
    """Each head's loss sees what it made of labelled images, and no other.

    Raises:
        UserError: A head has a loss of another kind.
    """
    for head in heads(model):
        if isinstance(head, BaseDecodeHead):
            head.loss_by_feat = partial(_of_labelled, head.loss_by_feat)
        elif hasattr(head, 'loss_by_feat'):
            raise UserError(
                f'unlabelled=: the loss of a {type(head).__name__} '
                'would take images without labels for empty ones: write '
                "the teacher's labels (seg-kd prepare-data pseudo-labels), or "
                'take a student with a BaseDecodeHead of MMSegmentation')


def _of_labelled(loss: Callable[..., dict], *made: Any) -> dict[str, Tensor]:
    """``loss(outputs..., samples)`` of the labelled ones, which are first."""
    samples: Sequence = made[-1]
    count = sum(not sample.metainfo.get(MARK) for sample in samples)
    if count == len(samples):
        return loss(*made)
    return loss(*(_first(x, count, len(samples)) for x in made))


def _first(made: Any, count: int, images: int) -> Any:
    """The first ``count`` of as many ``images``, in lists and tuples too."""
    if isinstance(made, Tensor):
        return made[:count] if len(made) == images else made
    if isinstance(made, (list, tuple)):
        if made and hasattr(made[0], 'metainfo'):
            return made[:count]
        return type(made)(_first(x, count, images) for x in made)
    return made
