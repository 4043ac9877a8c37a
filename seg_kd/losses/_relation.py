"""What losses that compare relations between instances share."""
from collections.abc import Sequence

from torch import Tensor

from seg_kd.losses._functional import full_precision
from seg_kd.losses._maps import Loss
from seg_kd.losses.instances import GRID, Instances, as_instances


class RelationLoss(Loss):
    """Base of losses that compare how student and teacher relate instances.

    A method defines ``relate``, of two matrices ``(M, Cs), (M, Ct)`` in
    float32 or better, M from 0.

    Args:
        instances: ``Pixels()``, ``Regions()``, ``Classes()``, ``Images()``,
            ``Maps()`` or a kind of your own. Short forms, for configs:
            ``'pixel'``, ``'region'``, ``'class'``, ``'image'``, ``'map'``.
        max_instances: Of a short form.
        grid: Of ``'region'``.
    """

    def __init__(self,
                 instances: Instances | str = 'pixel',
                 max_instances: int | None = None,
                 grid: Sequence[int] = GRID) -> None:
        super().__init__()
        self.instances = as_instances(instances, max_instances, grid)

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                mask: Tensor | None = None,
                labels: Tensor | None = None):
        with full_precision(teacher):
            return self.relate(*self.instances(student, teacher, mask, labels))

    def relate(self, student: Tensor, teacher: Tensor):
        raise NotImplementedError
