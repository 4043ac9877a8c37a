"""From maps to instances: the vectors that relation losses compare."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses._functional import full_precision, mask_invalid, prepare
from seg_kd.losses.sharing import once

KINDS = ('image', 'map', 'pixel', 'region', 'class')
Pair = tuple[Tensor, Tensor]


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
        max_instances: More are subsample out, at random under torch's seed; the
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
        max_instances: int | None = None,
        grid: tuple[int, int] = (4, 8)) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f'instances must be one of {KINDS}, not {kind!r}')
        if min(1 if max_instances is None else max_instances, *grid) < 1:
            raise ValueError('max_instances and grid must be at least 1, not '
                             f'{max_instances} and {grid}')
        self.kind, self.grid = kind, tuple(grid)
        self.max_instances = max_instances

    def extra_repr(self) -> str:
        return f'{self.kind!r}, max_instances={self.max_instances}'

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None,
                labels: Tensor | None = None) -> Pair:
        student, teacher, valid = prepare(student, teacher, mask)
        if self.kind == 'pixel':
            return pixels(student, teacher, valid, self.max_instances)
        if self.kind == 'map':
            keep, pair = valid.flatten(1).any(1), [
                x.masked_fill(~valid.unsqueeze(1), 0.).flatten(1)
                for x in (student, teacher)
            ]
        else:
            if self.kind == 'class' and mask is not None:  # as the labels
                valid = valid & (at_centres(mask, valid.shape) > 0)
            weight = self._weights(valid, labels)
            keep = weight.sum(2).flatten() > 0
            pair = [means(x, weight) for x in (student, teacher)]
        index = keep.nonzero().squeeze(1)
        index = index[subset(len(index), self.max_instances).to(index.device)]
        return pair[0][index], pair[1][index]

    def _weights(self, valid: Tensor, labels: Tensor | None) -> Tensor:
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
            member = resize_labels(labels, valid.shape)
            _, member = member.unique(return_inverse=True)
        count = int(member.max()) + 1
        one = F.one_hot(member, count) * valid.unsqueeze(-1)
        return one.flatten(1, 2).transpose(1, 2)


@once
def pixels(student: Tensor, teacher: Tensor, valid: Tensor,
           most: int | None) -> Pair:
    """The vectors at valid positions: ``(M, Cs), (M, Ct)``.

    Losses that share a step compare the same positions.
    """
    index = valid.flatten().nonzero().squeeze(1)
    index = index[subset(len(index), most).to(index.device)]
    # positions side by side in memory: to copy channel by channel is fast
    pair = [x.transpose(0, 1).flatten(1) for x in (student, teacher)]
    if len(index) < valid.numel():
        pair = [x.index_select(1, index) for x in pair]
    return pair[0].T, pair[1].T


def subset(count: int, most: int | None) -> Tensor:
    """At most ``most`` of ``range(count)``, at random, in ascending order."""
    if most is None or count <= most:
        return torch.arange(count)
    # drawn on the CPU: the same on every device
    return torch.randperm(count)[:most].sort()[0]


def resize_labels(labels: Tensor | None, size: tuple[int, int, int]) -> Tensor:
    """The label at the centre of each position; ``size`` is (N, H, W)."""
    if labels is None:
        raise ValueError("instances='class' needs labels")
    if labels.dim() != 3 or len(labels) != size[0]:
        raise ValueError(f'labels must be ({size[0]}, H, W), not '
                         f'{tuple(labels.shape)}')
    return at_centres(labels, size).long()


def at_centres(image: Tensor, size: tuple[int, int, int]) -> Tensor:
    """The entry at the centre of each position, as float64.

    Labels are exact there, and integers have no interpolation.
    """
    return F.interpolate(image.double().unsqueeze(1),
                         size[1:],
                         mode='nearest-exact').squeeze(1)


def means(features: Tensor, weight: Tensor) -> Tensor:
    """Mean of the positions of each instance.

    Shape:
        ``(N, C, H, W), (N, K, H * W) -> (N * K, C)``.
    """
    used = (weight.sum(1) > 0).unsqueeze(1)  # a NaN elsewhere does no harm
    flat = mask_invalid(features.flatten(2), used)
    weight = weight.to(flat.dtype)
    if weight.shape[1] == 1:  # whatever is used is of the one instance
        sums = flat.sum(2).unsqueeze(1)
    else:
        sums = (flat @ weight.mT).mT
    return (sums / weight.sum(2, keepdim=True).clamp(min=1)).flatten(0, 1)


class RelationLoss(nn.Module):
    """Base of losses that compare how student and teacher relate instances.

    A method defines ``relate``, of two matrices ``(M, Cs), (M, Ct)`` in
    float32 or better, M from 0.

    Args:
        instances, max_instances, grid: Of :class:`Instances`.
    """

    def __init__(self, instances: str, max_instances: int | None,
                 grid: tuple[int, int]) -> None:
        super().__init__()
        self.instances = Instances(instances, max_instances, grid)

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None,
                labels: Tensor | None = None):
        with full_precision(teacher):
            return self.relate(*self.instances(student, teacher, mask, labels))

    def relate(self, student: Tensor, teacher: Tensor):
        raise NotImplementedError
