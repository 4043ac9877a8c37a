"""Gradients of a network's own task by its maps."""
from typing import Dict, List, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_kd.errors import UserError


class TaskGradients:
    """Of the teacher's cross entropy, for hooks that set ``teacher_logits``.

    Args:
        wanted: By the path of its logits: paths of the maps.
        ignore_index: Label that does not count.
        align_corners: How the teacher enlarges its logits.
    """

    def __init__(self, wanted: Dict[str, List[str]], ignore_index: int,
                 align_corners: bool) -> None:
        self.wanted = wanted
        self.ignore_index, self.align_corners = ignore_index, align_corners

    def __call__(self, maps: Dict[str, Tensor],
                 labels: Tensor) -> Dict[Tuple[str, str], Tensor]:
        """By (path of the logits, path of the map), summed over pixels."""
        found: Dict[Tuple[str, str], Tensor] = {}
        for logits, paths in self.wanted.items():
            task = pixel_sum(maps[logits], labels, self.ignore_index,
                             self.align_corners)
            given = {path: maps[path] for path in paths}
            for path, gradient in gradients(task, given, 'teacher').items():
                found[logits, path] = gradient
        return found


def gradients(task: Tensor,
              maps: Dict[str, Tensor],
              owner: str,
              create_graph: bool = False) -> Dict[str, Tensor]:
    """Of a network's task by its maps; the graph stays.

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
