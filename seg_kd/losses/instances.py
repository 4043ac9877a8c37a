"""Instances: which vectors of two maps a relation loss compares.

A kind of your own derives from :class:`Instances`, or from the kind next to
it, and defines ``gather``; docs/extend.md has one.
"""
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from seg_kd.losses._functional import (check_least, constant, keep,
                                       mask_invalid, numbers, prepare)
from seg_kd.losses._maps import Loss

GRID = (4, 8)  # rows and columns of regions
CLASSES = 256  # that labels of 8 bits tell apart


class Instances(Loss):
    """Turns two maps into two matrices of instances, row by row the same.

    Args:
        max_instances: Of more a random subset is taken, under torch's seed;
            the same in both maps. None: all.

    Attributes:
        by_label: Whether the kind needs labels. Positions whose label is not
            known are then not valid either.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .) bool, (N, ., .) integer
        labels -> (M, Cs), (M, Ct)``, in float32 or better. A student on
        another grid is resized to the teacher's. M may be 0. On a GPU this
        waits for M to be known; :meth:`padded` does not.

    Raises:
        ValueError: For a bound below 1, maps that do not fit each other, or
            missing labels.
    """

    by_label = False
    shown = ('max_instances', )

    def __init__(self, max_instances: int | None = None) -> None:
        super().__init__()
        check_least('max_instances', max_instances)
        self.max_instances = max_instances

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None,
                labels: Tensor | None = None) -> list[Tensor]:
        *rows, there = self.padded(student, teacher, mask, labels)
        return rows if there is None else [x[there] for x in rows]

    def padded(self, student: Tensor, teacher: Tensor, mask: Tensor | None,
               labels: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        """Both matrices, and which of their rows are instances: ``(M,)`` bool.

        On a CPU all are, and that is None. Elsewhere M depends on sizes
        alone, and a row that is no instance is 0.
        """
        student, teacher, valid = prepare(student, teacher, mask)
        if self.by_label:
            labels = resize_labels(labels, valid.shape)
            valid = known(valid, mask)
        rows, there = self.matrices([student, teacher], valid, labels)
        return *rows, there

    def matrices(self, maps: Sequence[Tensor], valid: Tensor,
                 labels: Tensor | None) -> tuple[list[Tensor], Tensor | None]:
        """What ``gather`` gives, and which of the rows are instances."""
        if valid.device.type == 'cpu':
            return self.gather(maps, valid, labels), None
        # of a map of ones, what is an instance is not 0
        ones = valid.unsqueeze(1).to(maps[0].dtype)
        *rows, ones = self.gather([*maps, ones], valid, labels)
        return rows, (ones > 0).any(1)

    def gather(self, maps: Sequence[Tensor], valid: Tensor,
               labels: Tensor | None) -> list[Tensor]:
        """A matrix of each map: the one method that a kind defines.

        Shape:
            maps ``(N, C, H, W)``, ``(N, H, W)`` bool and, where ``by_label``,
            ``(N, H, W)`` long; to as many matrices ``(M, C)``.
        """
        raise NotImplementedError

    def take(self,
             rows: Sequence[Tensor],
             exists: Tensor,
             are_zero: bool = False) -> list[Tensor]:
        """At most ``max_instances`` of the rows that exist, at random.

        Rows that do not are to be zero, or are made so.

        Shape:
            ``(K, C)`` of each, ``(K,)`` bool ``-> (M, C)`` of each; on a GPU
            M is known beforehand, and what does not exist is 0.
        """
        index = choose(exists, self.max_instances)
        if len(index) < len(exists):
            # of positions next to each other in memory a copy by channels
            # is fast
            exists = exists[index]
            rows = [
                x.T.index_select(1, index).T
                if x.stride(0) == 1 else x.index_select(0, index) for x in rows
            ]
        if are_zero or exists.device.type == 'cpu':
            return list(rows)
        return [keep(x, exists.unsqueeze(1)) for x in rows]


class Pixels(Instances):
    """The vectors at the valid positions of the batch."""

    def gather(self, maps: Sequence[Tensor], valid: Tensor,
               labels: Tensor | None) -> list[Tensor]:
        rows = [x.transpose(0, 1).flatten(1).T for x in maps]
        return self.take(rows, valid.flatten())


class Maps(Instances):
    """Whole images, flattened, 0 where not valid."""

    def gather(self, maps: Sequence[Tensor], valid: Tensor,
               labels: Tensor | None) -> list[Tensor]:
        rows = [mask_invalid(x, valid.unsqueeze(1)).flatten(1) for x in maps]
        return self.take(rows, valid.flatten(1).any(1), are_zero=True)


class Means(Instances):
    """Base of kinds that average positions; those without one are left out."""

    def gather(self, maps: Sequence[Tensor], valid: Tensor,
               labels: Tensor | None) -> list[Tensor]:
        member = self.members(valid, labels)
        number = numbers(self.most(member), member.device).unsqueeze(1)
        weight = member.flatten(1).unsqueeze(1) == number
        weight &= valid.flatten(1).unsqueeze(1)
        rows = means(maps, weight)
        return self.take(rows, weight.any(2).flatten(), are_zero=True)

    def members(self, valid: Tensor, labels: Tensor | None) -> Tensor:
        """Number of the instance that each position of an image belongs to.

        Shape:
            ``(N, H, W) -> (N, H, W)`` long, from 0.
        """
        raise NotImplementedError

    def most(self, member: Tensor) -> int:
        """How many instances an image has at most.

        To look it up, as here, a GPU has to be waited for.
        """
        return int(member.max()) + 1


class Images(Means):
    """The mean over the valid positions of an image."""

    def most(self, member: Tensor) -> int:
        return 1

    def members(self, valid: Tensor, labels: Tensor | None) -> Tensor:
        return torch.zeros_like(valid, dtype=torch.long)


class Regions(Means):
    """The mean over the valid positions of a cell.

    Args:
        grid: Rows and columns of cells of an image.
    """

    shown = 'grid', 'max_instances'

    def __init__(self,
                 grid: Sequence[int] = GRID,
                 max_instances: int | None = None) -> None:
        super().__init__(max_instances)
        check_least('grid', grid)
        self.grid = tuple(grid)

    def most(self, member: Tensor) -> int:
        return self.grid[0] * self.grid[1]

    def members(self, valid: Tensor, labels: Tensor | None) -> Tensor:
        return cells(self.grid, *valid.shape[1:],
                     valid.device).expand_as(valid)


class Classes(Means):
    """The mean over the positions of a class in an image, by the labels."""

    by_label = True

    def members(self, valid: Tensor, labels: Tensor | None) -> Tensor:
        if labels.device.type == 'cpu':
            return labels.unique(return_inverse=True)[1]
        return labels.clamp(0, CLASSES - 1)

    def most(self, member: Tensor) -> int:
        return super().most(member) if member.device.type == 'cpu' else CLASSES


KINDS = dict(image=Images,
             map=Maps,
             pixel=Pixels,
             region=Regions,
             **{'class': Classes})


def as_instances(instances: Instances | str, max_instances: int | None,
                 grid: Sequence[int]) -> Instances:
    """A kind by its short name, with its bounds; an object as it is."""
    if isinstance(instances, Instances):
        return instances
    if instances not in KINDS:
        raise ValueError(f'instances must be one of {tuple(KINDS)}, or an '
                         f'object of a kind, not {instances!r}')
    own = dict(grid=grid) if instances == 'region' else {}
    return KINDS[instances](max_instances=max_instances, **own)


# -- what kinds are made of ------------------------------------------------


@constant
def cells(grid: tuple[int, int], h: int, w: int,
          device: torch.device) -> Tensor:
    """Number of the cell of each position of a map: ``(h, w)`` long."""
    y = torch.arange(h, device=device) * grid[0] // h
    x = torch.arange(w, device=device) * grid[1] // w
    return y[:, None] * grid[1] + x


def subset(count: int, most: int | None) -> Tensor:
    """At most ``most`` of ``range(count)``, at random, in ascending order."""
    if most is None or count <= most:
        return torch.arange(count)
    return torch.randperm(count)[:most].sort()[0]


def choose(exists: Tensor, most: int | None) -> Tensor:
    """Numbers of at most ``most`` of those that exist, at random.

    On a CPU in ascending order. Elsewhere ``most``, or as many as there are
    places, and those that do not exist are the last: how many do is not
    known there.
    """
    if exists.device.type == 'cpu':
        index = exists.nonzero().squeeze(1)
        return index[subset(len(index), most)]
    if most is None or most >= len(exists):
        return numbers(len(exists), exists.device)
    keys = torch.rand(len(exists), device=exists.device) * exists
    return keys.topk(most)[1]


def means(maps: Sequence[Tensor], weight: Tensor) -> list[Tensor]:
    """Mean of the positions of each instance, in each map.

    Shape:
        maps ``(N, C, H, W)``, ``(N, K, H * W)`` bool, to as many
        ``(N * K, C)``.
    """
    used = weight.any(1, keepdim=True)  # a NaN elsewhere does no harm
    found, shares = [], {}
    for x in maps:
        flat = mask_invalid(x.flatten(2), used)
        if x.dtype not in shares:
            share = weight.to(x.dtype)
            shares[x.dtype] = share, share.sum(2, keepdim=True).clamp(min=1)
        share, count = shares[x.dtype]
        if weight.shape[1] == 1:  # whatever is used is of the one instance
            sums = flat.sum(2).unsqueeze(1)
        else:
            sums = (flat @ share.mT).mT
        found.append((sums / count).flatten(0, 1))
    return found


def resize_labels(labels: Tensor | None, size: Sequence[int]) -> Tensor:
    """The label at the centre of each position; ``size`` is (N, H, W)."""
    if labels is None:
        raise ValueError('instances or negatives by class need labels')
    if labels.dim() != 3 or len(labels) != size[0]:
        raise ValueError(f'labels must be ({size[0]}, H, W), not '
                         f'{tuple(labels.shape)}')
    return at_centres(labels, size).long()


def known(valid: Tensor, mask: Tensor | None) -> Tensor:
    """Valid positions whose label is known: the mask is read as labels are."""
    if mask is None:
        return valid
    return valid & at_centres(mask, valid.shape)


def at_centres(image: Tensor, size: Sequence[int]) -> Tensor:
    """The entry at the centre of each position."""
    y, x = (centres(many, few, image.device)
            for many, few in zip(image.shape[1:], size[1:]))
    return image[:, y[:, None], x]


@constant
def centres(many: int, few: int, device: torch.device) -> Tensor:
    """Numbers of the entries of a side that a coarser one has the centres of.

    They are ``F.interpolate``'s; float64 holds them exactly.
    """
    at = torch.arange(many, dtype=torch.double).view(1, 1, -1)
    at = F.interpolate(at, few, mode='nearest-exact').long()
    return at.flatten().to(device)
