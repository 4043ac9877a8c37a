"""From maps to instances: the vectors that relation losses compare."""
from typing import Optional, Tuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ._functional import prepare

KINDS = ('image', 'map', 'pixel', 'region', 'class')
Pair = Tuple[Tensor, Tensor]


class Instances(nn.Module):
    """Turns two maps into two matrices of instances, row by row the same.

    Args:
        kind: What an instance is, always of the whole batch:

            - ``'image'``: mean over the valid positions of an image;
            - ``'map'``: the whole map of an image, flattened, 0 where not
              valid;
            - ``'pixel'``: a valid position;
            - ``'region'``: mean over the valid positions of a cell of
              ``grid``;
            - ``'class'``: mean over the positions of a class in an image,
              by the labels.
        max_instances: More are thinned out, at random under torch's seed; the
            same in both maps.
        grid: Rows and columns of ``'region'``.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) bool, (N, ., .) integer
        labels -> (M, Cs), (M, Ct)``, in float32 or better. A student on
        another grid is resized to the teacher's. M may be 0; an image, cell
        or class without a valid position is no instance.

    Raises:
        ValueError: For another ``kind``, bounds below 1, maps that
            do not fit each other, or ``'class'`` without labels.
    """

    def __init__(
        self,
        kind: str = 'pixel',
        max_instances: Optional[int] = None,
        grid: Tuple[int, int] = (4, 8)
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f'instances must be one of {KINDS}, not {kind!r}')
        if min(max_instances or 1, *grid) < 1:
            raise ValueError('max_instances and grid must be at least 1, not '
                             f'{max_instances} and {grid}')
        self.kind, self.grid = kind, tuple(grid)
        self.max_instances = max_instances

    def extra_repr(self) -> str:
        return f'{self.kind!r}, max_instances={self.max_instances}'

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Optional[Tensor] = None,
                labels: Optional[Tensor] = None) -> Pair:
        student, teacher, valid = prepare(student, teacher, mask)
        if self.kind == 'pixel':
            return self._pixels(student, teacher, valid)
        if self.kind == 'map':
            keep, pair = valid.flatten(1).any(1), [
                x.masked_fill(~valid.unsqueeze(1), 0.).flatten(1)
                for x in (student, teacher)
            ]
        else:
            weight = self._weights(valid, labels)
            keep = weight.sum(2).flatten() > 0
            pair = [means(x, weight) for x in (student, teacher)]
        index = self._thin_out(keep.nonzero().squeeze(1))
        return pair[0][index], pair[1][index]

    def _pixels(self, student: Tensor, teacher: Tensor, valid: Tensor) -> Pair:
        n, y, x = valid.nonzero(as_tuple=True)
        chosen = self._thin_out(torch.arange(len(n), device=n.device))
        n, y, x = n[chosen], y[chosen], x[chosen]
        return student[n, :, y, x], teacher[n, :, y, x]

    def _thin_out(self, index: Tensor) -> Tensor:
        if self.max_instances is None or len(index) <= self.max_instances:
            return index
        # drawn on the CPU: the same on every device
        order = torch.randperm(len(index))[:self.max_instances].sort()[0]
        return index[order.to(index.device)]

    def _weights(self, valid: Tensor, labels: Optional[Tensor]) -> Tensor:
        """Which positions each instance of an image averages.

        Shape:
            ``(N, H, W) -> (N, K, H * W)`` for K instances an image, 0 or 1.
        """
        n, h, w = valid.shape
        if self.kind == 'image':
            member = torch.zeros_like(valid, dtype=torch.long)
        elif self.kind == 'region':
            rows, columns = self.grid
            y = torch.arange(h, device=valid.device) * rows // h
            x = torch.arange(w, device=valid.device) * columns // w
            member = (y[:, None] * columns + x).expand_as(valid)
        else:
            member = resize_labels(labels, (n, h, w))
            _, member = member.unique(return_inverse=True)
        count = int(member.max()) + 1
        one = F.one_hot(member, count) * valid.unsqueeze(-1)
        return one.flatten(1, 2).transpose(1, 2)


def resize_labels(labels: Optional[Tensor], size: Tuple[int, int,
                                                        int]) -> Tensor:
    """The label at the centre of each position; ``size`` is (N, H, W)."""
    if labels is None:
        raise ValueError("instances='class' needs labels")
    if labels.dim() != 3 or len(labels) != size[0]:
        raise ValueError(f'labels must be ({size[0]}, H, W), not '
                         f'{tuple(labels.shape)}')
    # as double: labels are exact there, and long has no interpolation
    return F.interpolate(labels.double().unsqueeze(1),
                         size[1:],
                         mode='nearest-exact').squeeze(1).long()


def means(features: Tensor, weight: Tensor) -> Tensor:
    """Mean of the positions of each instance.

    Shape:
        ``(N, C, H, W), (N, K, H * W) -> (N * K, C)``.
    """
    flat = features.flatten(2).transpose(1, 2)
    invalid = (weight.sum(1) == 0).unsqueeze(2)  # a NaN there does no harm
    weight = weight.to(flat.dtype)
    sums = weight @ flat.masked_fill(invalid, 0.)
    return (sums / weight.sum(2, keepdim=True).clamp(min=1)).flatten(0, 1)
