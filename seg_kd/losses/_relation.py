"""What losses that compare relations between instances share."""
from collections.abc import Sequence

from torch import Tensor

from seg_kd.losses._functional import full_precision, keep, number_of
from seg_kd.losses._gram import exact_floats
from seg_kd.losses._maps import Loss
from seg_kd.losses.instances import GRID, Instances, as_instances


class RelationLoss(Loss):
    """Base of losses that compare how student and teacher relate instances.

    A method defines ``relate``, of two matrices ``(M, Cs), (M, Ct)`` in
    float32 or better, M from 0. A GPU has to be waited for to know M, unless
    the method says ``padded = True``: ``relate`` then takes a third argument,
    which rows are instances, ``(M,)`` bool, the others being 0, or None for
    all.

    Args:
        instances: ``Pixels()``, ``Regions()``, ``Classes()``, ``Images()``,
            ``Maps()`` or a kind of your own. Short forms, for configs:
            ``'pixel'``, ``'region'``, ``'class'``, ``'image'``, ``'map'``.
        max_instances: Of a short form.
        grid: Of ``'region'``.
    """

    padded = False

    def __init__(self,
                 instances: Instances | str = 'pixel',
                 max_instances: int | None = None,
                 grid: Sequence[int] = GRID) -> None:
        super().__init__()
        self.instances = as_instances(instances, max_instances, grid)

    @property
    def by_label(self) -> bool:
        """Whether it needs labels; ``mask`` then says where they are known."""
        return self.instances.by_label

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None,
                labels: Tensor | None = None):
        with full_precision(teacher), exact_floats(teacher.device):
            maps = student, teacher, mask, labels
            if self.padded:
                return self.relate(*self.instances.padded(*maps))
            return self.relate(*self.instances(*maps))

    def relate(self, student: Tensor, teacher: Tensor, *there: Tensor | None):
        raise NotImplementedError


def count_of(rows: Tensor, there: Tensor | None) -> Tensor | int:
    """How many rows are instances, at least 1; a tensor in float64."""
    return max(1, len(rows)) if there is None else number_of(there)


def kept(x: Tensor, there: Tensor | None) -> Tensor:
    """``x (M, ...)``, but 0 in the rows that are no instances."""
    if there is None:
        return x
    return keep(x, there.view(-1, *[1] * (x.dim() - 1)))


def pairs_of(there: Tensor, rows: slice, columns: slice) -> Tensor:
    """Which pairs of rows are instances, both: a tile of ``(M, M)``."""
    return there[rows].unsqueeze(1) & there[columns]
