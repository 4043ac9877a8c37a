"""Losses as one writes them from their formulas: plain torch, autograd.

Of those whose code in the package is something else.

Each is called as ``naive(loss, student, teacher)`` and has the value of
``loss(student, teacher)``: the settings and the trained parts are that loss's.
Relations are matrices with a row and a column for each instance.
"""
import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from seg_kd.losses.instances import subset

Maps = Sequence[Tensor]

# -- logits ----------------------------------------------------------------


def kd(loss: nn.Module,
       student: Tensor,
       teacher: Tensor,
       mask: Tensor | None = None) -> Tensor:
    tau = loss.temperature
    s, t = (x / tau for x in on_grid(student, teacher, mask))
    each = F.kl_div(s.log_softmax(1), t.softmax(1), reduction='none')
    return tau**2 * each.sum(1).mean()


def on_grid(student: Tensor, teacher: Tensor,
            mask: Tensor | None) -> tuple[Tensor, Tensor]:
    """Both as large as the mask."""
    if mask is None:
        return student, teacher
    return tuple(
        F.interpolate(x, mask.shape[1:], mode='bilinear', align_corners=False)
        for x in (student, teacher))


def logit_std(loss: nn.Module,
              student: Tensor,
              teacher: Tensor,
              mask: Tensor | None = None) -> Tensor:
    s, t = ((x - x.mean(1, keepdim=True)) / (1e-7 + x.std(1, keepdim=True))
            for x in on_grid(student, teacher, mask))
    return kd(loss, s, t)


def dist(loss: nn.Module,
         student: Tensor,
         teacher: Tensor,
         mask: Tensor | None = None) -> Tensor:
    tau = loss.temperature
    s, t = (rows_of(x / tau).softmax(1)
            for x in on_grid(student, teacher, mask))
    return tau**2 * (loss.beta * (1 - pearson(s, t).mean()) + loss.gamma *
                     (1 - pearson(s.T, t.T).mean()))


def rows_of(features: Tensor) -> Tensor:
    """``(N, C, H, W) -> (N * H * W, C)``."""
    return features.permute(0, 2, 3, 1).flatten(0, 2)


def pearson(a: Tensor, b: Tensor) -> Tensor:
    """The correlation of each row of ``a`` with that of ``b``."""
    a, b = (x - x.mean(1, keepdim=True) for x in (a, b))
    return F.cosine_similarity(a, b)


# -- maps ------------------------------------------------------------------


def ab(loss: nn.Module, student: Maps, teacher: Maps) -> Tensor:
    total = 0.
    for i, connect in enumerate(reversed(loss.connectors), 1):
        side = 2. * (teacher[-i] > 0) - 1
        short = (loss.margin - side * connect(student[-i])).relu()
        total = total + short.square().mean() / 2**(i - 1)
    return total


def adaptation(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (F.normalize(x, loss.q) for x in (student, teacher))
    return (s - t).norm(loss.p, dim=1).mean()


def at(loss: nn.Module, student: Maps, teacher: Maps) -> Tensor:
    total = 0.
    for s, t in zip(student, teacher):
        s, t = (F.normalize(x.abs().pow(loss.p).mean(1).flatten(1))
                for x in (s, t))
        total = total + (s - t).square().sum(1).mean()
    return total


def hcl(loss: nn.Module, student: Maps, teacher: Maps) -> Tensor:
    return sum(level(loss.grids, *pair) for pair in zip(student, teacher))


def level(grids: Sequence[int], student: Tensor, teacher: Tensor) -> Tensor:
    total, weights = F.mse_loss(student, teacher), 1.
    coarser = [g for g in grids if g < min(teacher.shape[2:])]
    for k, g in enumerate(coarser, 1):
        s, t = (F.adaptive_avg_pool2d(x, g) for x in (student, teacher))
        total = total + F.mse_loss(s, t) / 2**k
        weights += 1 / 2**k
    return total / weights


def reviewkd(loss: nn.Module, student: Maps, teacher: Maps) -> Tensor:
    return hcl(loss.hcl, reviewed(loss, student, teacher), teacher)


def reviewed(loss: nn.Module, student: Maps, teacher: Maps) -> Maps:
    """What is compared with the teacher's maps, level by level."""
    outputs, deeper = [], None
    for part, s, t in reversed(list(zip(loss.levels, student, teacher))):
        fused = part.reduce(s)
        if deeper is not None:
            deeper = F.interpolate(deeper, fused.shape[2:])
            both = torch.cat([fused, deeper], 1)
            gates = part.attention(both).sigmoid()
            fused = fused * gates[:, :1] + deeper * gates[:, 1:]
        deeper = F.interpolate(fused, t.shape[2:])
        outputs.insert(0, part.expand(deeper))
    return outputs


# -- relations -------------------------------------------------------------


def affinity(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (F.normalize(x.flatten(2)) for x in (student, teacher))
    difference = s.mT @ s - t.mT @ t
    return (difference / s.shape[2]).norm(dim=2).sum(1).mean()


def ka(loss: nn.Module, student: Tensor, teacher: Tensor) -> dict[str, Tensor]:
    with torch.no_grad():
        teacher = loss.translator(teacher)
    return {
        name: weight * form(getattr(loss, name), adapter(student), teacher)
        for (name, weight), form, adapter in zip(loss.weights.items(), (
            adaptation, affinity), (loss.adapter_feature,
                                    loss.adapter_affinity))
    }


def cckd(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (kernel(loss, F.normalize(x))
            for x in loss.instances(student, teacher))
    return (s - t).square().mean()


def kernel(loss: nn.Module, x: Tensor) -> Tensor:
    product = x @ x.T
    if loss.kernel == 'bilinear':
        return product
    g = 2 * loss.gamma
    return math.exp(-g) * sum(g**p / math.factorial(p) * product**p
                              for p in range(loss.order + 1))


def pkt(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (near(x) for x in loss.instances(student, teacher))
    eps = 1e-7 / len(s)
    return (t * ((t + eps) / (s + eps)).log()).sum() / len(s)


def near(x: Tensor) -> Tensor:
    x = F.normalize(x)
    chance = (1 + x @ x.T) / 2
    return chance / chance.sum(1, keepdim=True)


def rkd(loss: nn.Module, student: Tensor,
        teacher: Tensor) -> dict[str, Tensor]:
    s, t = loss.instances(student, teacher)
    chosen = subset(len(s), loss.angle_instances).to(s.device)
    distance = F.smooth_l1_loss(distances(s), distances(t))
    angle = F.smooth_l1_loss(angles(s[chosen]), angles(t[chosen]))
    return dict(distance=loss.weights['distance'] * distance,
                angle=loss.weights['angle'] * angle)


def distances(x: Tensor) -> Tensor:
    square = x.square().sum(1)
    square = square.unsqueeze(1) + square - 2 * x @ x.T
    same = torch.eye(len(x), dtype=torch.bool, device=x.device)
    distance = square.clamp(min=1e-12).sqrt().masked_fill(same, 0.)
    return distance / distance[distance > 0].mean()


def angles(x: Tensor) -> Tensor:
    arms = F.normalize(x - x.unsqueeze(1), dim=2)
    return arms @ arms.mT


def sp(loss: nn.Module, student: Tensor, teacher: Tensor) -> Tensor:
    s, t = (F.normalize(x @ x.T) for x in loss.instances(student, teacher))
    return (s - t).square().sum() / len(s)


def crd(loss: nn.Module, student: Tensor, teacher: Tensor,
        labels: Tensor) -> Tensor:
    chosen = subset(labels.numel(),
                    loss.instances.max_instances).to(labels.device)
    s = F.normalize(loss.student_head(rows_of(student)[chosen]))
    t = F.normalize(loss.teacher_head(rows_of(teacher)[chosen]))
    own, queue = torch.arange(len(s), device=s.device), loss.contrast
    classes = labels.flatten()[chosen]
    same = classes.unsqueeze(1) == torch.cat([classes, queue.classes])
    same[own, own] = False
    total = 0.
    for a, b, earlier in (s, t, queue.teacher), (t, s, queue.student):
        scores = a @ torch.cat([b, earlier]).T / queue.temperature
        scores = scores.masked_fill(same, -math.inf)
        total = total + F.cross_entropy(scores, own)
    return total


def crd_image(loss: nn.Module, student: Tensor, teacher: Tensor,
              index: Tensor) -> Tensor:
    s, t = image_vectors(loss, student, teacher)
    drawn = drawn_images(loss, index)
    count = len(loss.contrast.student)
    noise, total = loss.contrast.k / count, 0.
    for x, bank in (s, loss.contrast.teacher), (t, loss.contrast.student):
        score = (bank[drawn] @ x.unsqueeze(2)).squeeze(2)
        score = (score / loss.contrast.temperature).exp()
        p = score / (score.detach().mean() * count)
        log = torch.cat([p[:, :1], torch.full_like(p[:, 1:], noise)], 1).log()
        total = total - (log - (p + noise + 1e-7).log()).sum() / len(p)
    return total


def image_vectors(loss: nn.Module, student: Tensor,
                  teacher: Tensor) -> tuple[Tensor, Tensor]:
    return (F.normalize(loss.student_head(student.mean(
        (2, 3)))), F.normalize(loss.teacher_head(teacher.mean((2, 3)))))


def drawn_images(loss: nn.Module, index: Tensor) -> Tensor:
    """Of each row of the batch, its own image and then the negatives."""
    size = len(index), loss.contrast.k
    picks = torch.randint(len(loss.contrast.student),
                          size,
                          device=index.device)
    return torch.cat([index.unsqueeze(1), picks], 1)
