"""Gradients of a network's own task with respect to its maps."""
from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_kd.errors import UserError


@dataclass
class TaskGradients:
    """Those of the teacher's cross entropy.

    Args:
        wanted: Paths of maps, by the path of the teacher's logits.
        ignore_index: Label that does not count.
        align_corners: How the teacher enlarges its logits.
    """

    wanted: Mapping[str, list[str]]
    ignore_index: int = 255
    align_corners: bool = False

    def __call__(self, maps: Mapping[str, Tensor],
                 labels: Tensor | None) -> dict[tuple[str, str], Tensor]:
        """By (path of the logits, path of the map), summed over pixels."""
        if labels is None:
            raise UserError('gradients of the task need labels, and these '
                            'images have none')
        found: dict[tuple[str, str], Tensor] = {}
        for logits, paths in self.wanted.items():
            task = pixel_sum(maps[logits], labels, self.ignore_index,
                             self.align_corners)
            given = {path: maps[path] for path in paths}
            for path, gradient in gradients(task, given, 'teacher').items():
                found[logits, path] = gradient
        return found


def gradients(task: Tensor,
              maps: Mapping[str, Tensor],
              owner: str,
              create_graph: bool = False) -> dict[str, Tensor]:
    """The gradients of a task with respect to maps; the graph stays.

    Raises:
        UserError: The task does not depend on a map.
    """
    found = torch.autograd.grad(task,
                                list(maps.values()),
                                retain_graph=True,
                                create_graph=create_graph,
                                allow_unused=True)
    for path, gradient in zip(maps, found):
        if gradient is None:
            raise UserError(f'the task of the {owner} does not depend on its '
                            f'map {path!r}: tap a layer before the logits')
    return dict(zip(maps, found))


def pixel_sum(logits: Tensor, labels: Tensor, ignore_index: int,
              align_corners: bool) -> Tensor:
    """Cross entropy at the size of the labels, summed over valid pixels.

    A mean over the pixels of a batch has gradients that float16 rounds to 0.
    """
    with torch.autocast(logits.device.type, enabled=False):
        logits = F.interpolate(logits.float(),
                               labels.shape[1:],
                               mode='bilinear',
                               align_corners=align_corners)
        return F.cross_entropy(logits,
                               labels.long(),
                               ignore_index=ignore_index,
                               reduction='sum')
