"""PKT, probabilistic knowledge transfer (Passalis and Tefas, ECCV 2018).

The paper form is that of ``nn/pkt.py`` of passalis/probabilistic_kt (which
HobbitLong/RepDistiller has, too), without the 1e-7 added to lengths there.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from seg_kd.losses._functional import check_form, with_gradient
from seg_kd.losses._gram import Rows, add_product, pair_tiles, through_length
from seg_kd.losses._relation import RelationLoss, count_of, pairs_of
from seg_kd.losses.instances import GRID, Instances

EPS = 1e-7
LEAST = -1 + 1e-7  # of what log1p gets: float32 cannot tell more from -1


class PKTLoss(RelationLoss):
    r"""How likely student and teacher find each instance near another.

    .. math::
        p_{ij} = \frac{1 + \cos(F_i, F_j)}{\sum_k (1 + \cos(F_i, F_k))},
        \qquad
        L = \tfrac1M \sum_{ij} t_{ij} \log \frac{t_{ij}}{s_{ij}}

    with :math:`p` called :math:`s` in the student and :math:`t` in the
    teacher, over the :math:`M` instances of the batch.

    Dense: the mean over the instances i of a Kullback-Leibler divergence, as
    above, with :math:`10^{-7}/M` added to each probability in the fraction: it
    does not depend on the crop. ``form='paper'`` is the mean over the pairs,
    with :math:`10^{-7}` added: but for that the dense value divided by M.
    RepDistiller's weight 30000 belongs to a batch of 64 images: 30000 / 64,
    about 469, here.

    It is found in tiles, together with its gradient: memory is linear in M
    and time quadratic, so M is bounded. The gradient cannot be differentiated
    again.

    Args:
        form: ``'dense'`` or ``'paper'``.
        instances: Which vectors are compared, see :class:`RelationLoss`.
        max_instances: Of a short form; of more a random subset is taken. None:
            all.
        grid: Of ``'region'``.

    Shape:
        ``(N, Cs, h, w), (N, Ct, H, W), (N, ., .), (N, ., .) -> ()``. A student
        on another grid is resized to the teacher's. Nats per instance, or
        with ``'paper'`` per pair.

    Raises:
        ValueError: For another ``form`` or kind, bounds below 1, maps that
            do not fit each other, or ``'class'`` without labels.
    """

    shown = ('form', )

    def __init__(self,
                 form: str = 'dense',
                 instances: Instances | str = 'pixel',
                 max_instances: int | None = 2048,
                 grid: Sequence[int] = GRID) -> None:
        super().__init__(instances, max_instances, grid)
        check_form(form)
        self.form = form

    padded = True

    def relate(self,
               student: Tensor,
               teacher: Tensor,
               there: Tensor | None = None) -> Tensor:
        count = count_of(student, there)
        dense = self.form == 'dense'
        scale = 1 / count if dense else 1 / count**2
        value, gradient = divergence(student.detach(), teacher, count,
                                     EPS / count if dense else EPS, there)
        return with_gradient(student, scale * value, gradient.mul_(scale))


@torch.no_grad()
def divergence(student: Tensor, teacher: Tensor, count: Tensor | int,
               eps: Tensor | float,
               there: Tensor | None) -> tuple[Tensor, Tensor]:
    r"""Sum over the pairs, and its gradient with respect to the student.

    With :math:`a = (1 + \cos)/2`, its row sums :math:`Z`, and
    :math:`\delta_{ij}` for the fraction in the logarithm less 1, which is
    small where the two agree, so that nothing cancels:

    .. math::
        L = \sum_{ij} s_{ij} \bigl( (1 + \delta_{ij}) \log(1 + \delta_{ij})
            - \delta_{ij} \bigr) \\
        \partial L / \partial a_{s,ij}
            = (\textstyle\sum_k s_{ik} \delta_{ik} - \delta_{ij}) / Z_{s,i}

    but for :math:`\epsilon`.
    """
    s, t = Rows(student, unit=True), Rows(teacher, unit=True)
    total = s.sum()
    s_mass, t_mass = mass(s, total, count), mass(t, t.sum(), count)
    to_teacher, shift = s_mass / t_mass, eps * s_mass
    value = student.new_zeros((), dtype=torch.double)
    rest, gradient = s.zeros(len(s), 1), s.zeros(len(s), s.width)

    def one_way(x: Tensor, y: Tensor, rows: slice,
                apart: Tensor | None) -> Tensor:
        """Counts the rows of a tile in; minus the slope of each entry."""
        nonlocal value
        base = x + shift[rows]
        delta = (y * to_teacher[rows]).sub_(x).div_(base).clamp_(min=LEAST)
        log = delta.log1p()
        row = torch.addcmul(log - delta, log, delta).mul_(base)
        row.sub_(log.mul_(shift[rows]))
        value += (row.sum(1, keepdim=True) /
                  s_mass[rows]).sum(dtype=torch.double)
        slope = delta.sub_(shift[rows] / base).div_(s_mass[rows])
        if apart is not None:
            slope.masked_fill_(apart, 0.)
        rest[rows] += slope.sum(1, keepdim=True)
        return slope

    for rows, columns, times in pair_tiles(s):
        x, y = near(s, rows, columns), near(t, rows, columns)
        apart = None
        if there is not None:
            apart = ~pairs_of(there, rows, columns)
            x, y = (a.masked_fill_(apart, 0.) for a in (x, y))
        slope = one_way(x, y, rows, apart)
        other = slope if times == 1 else one_way(
            x.T, y.T, columns, None if apart is None else apart.T)
        add_product(gradient, slope + other.T, s, rows, columns)
    rest = (rest + count / s_mass).mul_(eps)
    gradient += rest * total + s.sum(rest)
    return value.clamp(min=0), through_length(gradient.div_(-2), s)


def mass(x: Rows, total: Tensor, count: Tensor | int) -> Tensor:
    """Row sums of ``(1 + cos) / 2``, from the rows' sum: ``(M, 1)``."""
    sums = x.matrix.new_empty((len(x), 1), dtype=x.dtype)
    for tile in x.tiles():
        sums[tile] = x[tile] @ total.T
    return sums.add_(count).div_(2)


def near(x: Rows, rows: slice, columns: slice) -> Tensor:
    """``(1 + cos) / 2``, at least 0."""
    return (x[rows] @ x[columns].T).add_(1).div_(2).clamp_(min=0)
