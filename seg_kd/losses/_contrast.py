"""Where contrastive losses take their negatives from: banks, or a queue."""
import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses._functional import (gather_processes, number_of, numbers,
                                       parts, read, tiles, unit, with_gradient)
from seg_kd.losses._relation import count_of, kept
from seg_kd.losses.instances import choose

EPS = 1e-7  # of the authors, in the denominators of both probabilities


class Banks(nn.Module):
    r"""Noise-contrastive estimation against a vector of every image.

    With the score :math:`P_j = e^{v \cdot b_j / \tau} / Z` of a vector
    :math:`v` and row :math:`j` of the other network's bank, for the image
    :math:`i` itself and K rows drawn with replacement:

    .. math::
        -\log \frac{P_i}{P_i + K/n + \epsilon}
        - \sum_{k=1}^K \log \frac{K/n}{P_{j_k} + K/n + \epsilon}

    mean over the batch, once with the student's vectors on the teacher's bank
    and once the other way round. Then row :math:`i` of each bank becomes the
    unit vector of :math:`m b_i + (1 - m) v_i`; of an image that is drawn
    twice the last one counts. Processes gather before they write, so that
    they all hold the same. In ``eval`` nothing is written.

    A row is scored once, however often it is drawn, which costs ``(B, n)``
    floats where a copy of the drawn rows costs ``(B, K, D)``. The gradient
    is found with the value and cannot be differentiated again.

    Args:
        n_data: ``n``, number of images.
        dim: ``D``, length of the vectors.
        k: Negatives of each image.
        temperature: :math:`\tau`.
        momentum: ``m``, what stays of a row.

    Shape:
        ``(B, D), (B, D), (B,) long -> ()``, vectors of length 1. The buffers
        ``student`` and ``teacher`` are ``(n, D)``; ``log_z`` is the logarithm
        of both Z, which the first batch settles, not a number until then.
    """

    def __init__(self,
                 n_data: int,
                 dim: int = 128,
                 k: int = 16384,
                 temperature: float = .07,
                 momentum: float = .5) -> None:
        super().__init__()
        self.k, self.temperature, self.momentum = k, temperature, momentum
        bound = math.sqrt(3 / dim)  # rows of about unit length
        for name in ('student', 'teacher'):
            bank = torch.empty(n_data, dim).uniform_(-bound, bound)
            self.register_buffer(name, bank)
        self.register_buffer('log_z', torch.full((2, ), math.nan))

    def extra_repr(self) -> str:
        return (f'{tuple(self.student.shape)}, k={self.k}, '
                f'temperature={self.temperature}, momentum={self.momentum}')

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                index: Tensor,
                there: Tensor | None = None) -> Tensor:
        noise = self.k / len(self.student)
        both, banks = torch.stack(
            (student, teacher)), (self.teacher, self.student)
        scores = torch.stack([v @ b.T for v, b in zip(both.detach(), banks)])
        scores /= self.temperature
        counts = kept(self.draw(len(index)), there)
        own = torch.zeros_like(counts).scatter_(
            1, index.unsqueeze(1), kept(counts.new_ones(len(index), 1), there))
        shift = self.normalizers(scores, counts + own)
        shift = shift + math.log(noise + EPS)
        batch = count_of(student, there)
        constant = own.sum() * self.k * math.log1p(EPS / noise)
        values, slopes = noise_contrast(scores - shift[:, None, None], counts,
                                        own)
        values = ((values + constant) / batch).to(both.dtype)
        gradient = torch.stack([x @ b for x, b in zip(slopes, banks)])
        gradient /= batch * self.temperature
        if self.training:
            self.update(student, teacher, index, there)
        return with_gradient(both, values.sum(), gradient)

    def draw(self, rows: int) -> Tensor:
        """How often each image is a negative of each row: ``(rows, n)``."""
        n = len(self.student)
        picks = torch.randint(n, (rows, self.k), device=self.student.device)
        counts = self.student.new_zeros(rows, n)
        return counts.scatter_add_(1, picks, counts.new_ones(picks.shape))

    @torch.no_grad()
    def normalizers(self, scores: Tensor, counts: Tensor) -> Tensor:
        """``log Z`` of both sides: n times the mean of the first scores."""
        if not read(self, 'log_z', unknown):
            return self.log_z
        sums = [(s + counts.log()).flatten().logsumexp(0) for s in scores]
        sums = torch.stack([*sums, counts.sum().log()])
        *sums, drawn = gather_processes(sums.unsqueeze(0)).logsumexp(0)
        log_z = torch.stack(sums) - drawn + math.log(len(self.student))
        if drawn == -math.inf:
            return torch.zeros_like(log_z)  # nothing valid: not known yet
        if self.training:
            self.log_z.copy_(log_z)
            read(self, 'log_z', unknown)  # from now on no step waits for it
        return log_z

    @torch.no_grad()
    def update(self,
               student: Tensor,
               teacher: Tensor,
               index: Tensor,
               there: Tensor | None = None) -> None:
        """Moves the rows of these images, of all processes."""
        index, there, *vectors = gathered(index, there, student, teacher)
        if not len(index):
            return
        same = index.unsqueeze(1) == index
        if there is not None:
            same &= there
        last = len(index) - 1 - same.flip(1).long().argmax(1)
        banks = self.student, self.teacher
        old = torch.stack([bank[index] for bank in banks], 1)
        new = torch.stack(vectors, 1)
        new = unit(torch.lerp(new, old, self.momentum))[last]
        new = torch.where(same.any(1)[:, None, None], new, old)
        for bank, rows in zip(banks, new.unbind(1)):
            bank[index] = rows


def unknown(x: Tensor) -> bool:
    return bool(x.isnan().any())


def noise_contrast(logits: Tensor, counts: Tensor,
                   own: Tensor) -> tuple[Tensor, Tensor]:
    """Sum of each batch, and its gradient with respect to the logits.

    Logits are those of being the image itself and not noise; a logit counts
    as negative ``counts`` times, and as positive ``own`` times.

    Shape:
        ``(..., B, n), (B, n), (B, n) -> (...,), (..., B, n)``.
    """
    value = (own * F.softplus(-logits)).sum((-2, -1))
    value = value + (counts * F.softplus(logits)).sum((-2, -1))
    return value, counts * logits.sigmoid() - own * (-logits).sigmoid()


class Queue(nn.Module):
    r"""Which of many is one's own? In the batch, and among earlier ones.

    .. math::
        -\operatorname{mean}_i \log \frac{e^{v_i \cdot w_i / \tau}}
        {\sum_{j \in \{i\} \cup N(i)} e^{v_i \cdot w_j / \tau}}

    with :math:`v` the student's vectors and :math:`w` the teacher's, plus the
    same the other way round. :math:`N(i)` holds the vectors of other classes
    in the batch and in a queue of earlier ones; without classes, all others.
    An instance without negatives gives 0 and no gradient.

    Processes gather before they write, so that they all hold the same queue.
    In ``eval`` nothing is written. Time is ``M (M + size)``, memory is
    linear: value and gradient are found in one pass over tiles, and cannot be
    differentiated again.

    Args:
        size: Length of the queue; 0 for none.
        dim: ``D``, length of the vectors.
        enqueue: At most so many instances, drawn at random, does each process
            write at a time.
        temperature: :math:`\tau`.

    Shape:
        ``(M, D), (M, D), (M,) long or None -> ()``, vectors of length 1.
    """

    def __init__(self,
                 size: int = 2048,
                 dim: int = 128,
                 enqueue: int = 128,
                 temperature: float = .07) -> None:
        super().__init__()
        self.enqueue, self.temperature = enqueue, temperature
        self.register_buffer('student', torch.zeros(size, dim))
        self.register_buffer('teacher', torch.zeros(size, dim))
        self.register_buffer('classes', torch.zeros(size, dtype=torch.long))
        # how many were written, wrapped so that it stays below 2 * size
        self.register_buffer('written', torch.zeros((), dtype=torch.long))

    def extra_repr(self) -> str:
        return (f'{tuple(self.student.shape)}, enqueue={self.enqueue}, '
                f'temperature={self.temperature}')

    def forward(self,
                student: Tensor,
                teacher: Tensor,
                classes: Tensor | None,
                there: Tensor | None = None) -> Tensor:
        if classes is None:  # everyone for himself
            own = numbers(len(student), student.device)
            classes = torch.full_like(own, -1)
        else:
            own = classes
        size = len(self.student)
        if there is None:  # on a CPU, which need not wait for a number
            there = torch.ones_like(own, dtype=torch.bool)
            size = min(size, int(self.written))
        ids = torch.cat((own, self.classes[:size]))
        usable = numbers(size, student.device) < self.written
        usable = torch.cat((there, usable))
        both = torch.stack((student, teacher))
        anchors = both.detach()
        queue = torch.stack((self.teacher[:size], self.student[:size]))
        values, slopes, by_others = (torch.stack(x) for x in zip(
            *(contrast(*side, ids, usable, self.temperature)
              for side in parts(anchors, anchors.flip(0), queue))))
        gradient = slopes.view_as(both) + by_others.view_as(both).flip(0)
        if self.training and len(self.student):
            self.update(*anchors, classes, there)
        return with_gradient(both, values.sum(), gradient)

    @torch.no_grad()
    def update(self,
               student: Tensor,
               teacher: Tensor,
               classes: Tensor,
               there: Tensor | None = None) -> None:
        """Overwrites the oldest rows, with those of all processes.

        As many from each, so that nobody waits for their number: ``used``
        says which are instances.
        """
        size, dim = self.student.shape
        if there is None:
            there = torch.ones_like(classes, dtype=torch.bool)
        rows = torch.cat((student, teacher, classes.unsqueeze(1).to(
            student.dtype), there.unsqueeze(1).to(student.dtype)), 1)
        rows = rows[draw(there, self.enqueue)]
        if len(rows) < self.enqueue:
            rows = F.pad(rows, (0, 0, 0, self.enqueue - len(rows)))
        rows = gather_processes(rows)
        used = rows[:, -1]
        rows = rows[used.argsort(stable=True, descending=True)]  # those first
        count = used.sum(dtype=torch.long)
        newest = count.clamp(max=size)  # which stay
        place = (numbers(size, rows.device) - self.written) % size
        new = place < newest
        rows = rows[(place + (count - newest)).clamp(max=len(rows) - 1)]
        vectors = rows[:, :dim], rows[:, dim:-2]
        for buffer, written in zip((self.student, self.teacher), vectors):
            torch.where(new.unsqueeze(1), written, buffer, out=buffer)
        torch.where(new, rows[:, -2].long(), self.classes, out=self.classes)
        end = self.written + newest
        torch.where(end < 2 * size, end, size + end % size, out=self.written)


def draw(there: Tensor, most: int) -> Tensor:
    """Numbers of at most ``most`` of those that are there, at random."""
    if there.device.type == 'cpu':  # where all are
        return torch.randperm(len(there))[:most]
    return choose(there, most)


def contrast(anchors: Tensor, others: Tensor, queue: Tensor, ids: Tensor,
             usable: Tensor,
             temperature: float) -> tuple[Tensor, Tensor, Tensor]:
    """Cross entropy of finding anchor i's own, row i of the others.

    Rows of equal ``ids`` are not compared, but for one's own, nor are those
    that are not usable.

    Shape:
        ``(..., M, D), (..., M, D), (..., Q, D), (M + Q,), (M + Q,)`` to
        ``(...,), (..., M, D), (..., M, D)``: the mean, and its gradients with
        respect to anchors and others.
    """
    count = anchors.shape[-2]
    share = number_of(usable[:count]).reciprocal()
    keys = torch.cat((others, queue), -2)
    value = anchors.new_zeros(anchors.shape[:-2], dtype=torch.double)
    by_anchors, by_others = torch.empty_like(anchors), torch.zeros_like(others)
    for tile in tiles(max(1, keys[..., 0].numel()), count, anchors.device):
        some = anchors[..., tile, :]
        logits = some @ keys.mT / temperature
        hidden = ids[:count][tile].unsqueeze(1) == ids
        hidden |= ~(usable[:count][tile].unsqueeze(1) & usable)
        hidden.diagonal(tile.start).fill_(False)
        logits.masked_fill_(hidden, -math.inf)
        own = logits.diagonal(tile.start, -2, -1)
        value += (logits.logsumexp(-1) - own).sum(-1, dtype=torch.double)
        slope = logits.softmax(-1) * (share / temperature)
        slope.diagonal(tile.start, -2, -1).sub_(share / temperature)
        by_anchors[..., tile, :] = slope @ keys
        by_others += slope[..., :count].mT @ some
    return (value * share).to(anchors.dtype), by_anchors, by_others


def gathered(index: Tensor, there: Tensor | None, *vectors:
             Tensor) -> list[Tensor | None]:
    """The same of all processes, in one collective where all have as many.

    That is the case with ``there``. Numbers of images travel as floats, of
    which float32 has each up to 2**24.

    Shape:
        ``(B,) long, (B,) bool or None, (B, D)...``, and the same with the B
        of all.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return [index, there, *vectors]
    kind, dim = vectors[0].dtype, vectors[0].shape[1]
    columns = [
        x.unsqueeze(1).to(kind) for x in (index, there) if x is not None
    ]
    gather = all_gather_rows if there is None else gather_processes
    rows = gather(torch.cat((*vectors, *columns), 1))
    *found, index = rows[:, :dim * len(vectors) + 1].split(dim, 1)
    there = None if there is None else rows[:, -1] > 0
    return [index.squeeze(1).long(), there, *found]


def all_gather_rows(rows: Tensor) -> Tensor:
    """The rows of all processes, in their order; counts may differ."""
    if not (dist.is_available() and dist.is_initialized()):
        return rows
    count = torch.tensor(len(rows), device=rows.device)
    counts = [torch.empty_like(count) for _ in range(dist.get_world_size())]
    dist.all_gather(counts, count)
    padded = rows.new_zeros(int(max(counts)), *rows.shape[1:])
    padded[:len(rows)] = rows
    found = [torch.empty_like(padded) for _ in counts]
    if len(padded):
        dist.all_gather(found, padded)
    return torch.cat([part[:n] for part, n in zip(found, counts)])
