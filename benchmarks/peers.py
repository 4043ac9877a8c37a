"""The same losses of torchdistill, where that package is installed.

Each is called as ``peer(td, loss, student, teacher)``, td the module of its
losses. What is trained is that of our loss, so that the two differ in
nothing else. Values may: torchdistill has constants of its own, and it reads
the paper of KA in another way.
"""
from collections.abc import Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any

import torch
import torch.nn.functional as F
from naive import drawn_images, image_vectors, on_grid, reviewed, rows_of
from torch import Tensor, nn

from seg_kd.losses.instances import subset

Maps = Sequence[Tensor]
LAYER = dict(path='x', io='output')


def torchdistill() -> ModuleType | None:
    """Its losses, or None; they need torch only, not torchvision."""
    try:
        from torchdistill.losses import mid_level
    except ImportError:
        return None
    return mid_level


def compare(loss: nn.Module, student: Any, teacher: Any) -> Tensor:
    """A loss on what went out of a layer, here of one that is called x."""
    return loss(*(dict(x=dict(output=out)) for out in (student, teacher)))


def paths(*names: str) -> dict[str, str]:
    """The arguments that say which layer it is."""
    return {
        f'{network}_{name}': 'output' if name.endswith('_io') else 'x'
        for network in ('student', 'teacher')
        for name in names
    }


MODULE = paths('module_path', 'module_io')
OUTPUT = paths('output_path')

# -- logits ----------------------------------------------------------------


def kd(td, loss, student, teacher, mask=None):
    peer = td.KDLoss(**MODULE, temperature=loss.temperature, alpha=0)
    return compare(peer, *on_grid(student, teacher, mask))


def logit_std(td, loss, student, teacher, mask=None):
    peer = td.LogitStdKDLoss(**MODULE, temperature=loss.temperature, alpha=0)
    return compare(peer, *map(rows_of, on_grid(student, teacher, mask)))


def dist(td, loss, student, teacher, mask=None):
    peer = td.DISTLoss(**MODULE,
                       beta=loss.beta,
                       gamma=loss.gamma,
                       tau=loss.temperature)
    return compare(peer, *map(rows_of, on_grid(student, teacher, mask)))


# -- maps ------------------------------------------------------------------


def ab(td, loss, student, teacher):
    student = [connect(s) for connect, s in zip(loss.connectors, student)]
    peer = td.AltActTransferLoss({0: pair()}, loss.margin, 'mean')
    return per_layer(peer, student, teacher)


def per_layer(peer: nn.Module, student: Maps, teacher: Maps) -> Tensor:
    return sum(compare(peer, s, t) for s, t in zip(student, teacher))


def pair() -> dict[str, dict[str, str]]:
    return dict(student=LAYER, teacher=LAYER)


def adaptation(td, loss, student, teacher):
    peer = td.KTALoss(loss.p,
                      loss.q,
                      knowledge_translator_path='x',
                      feature_adapter_path='x')
    return compare(peer, student, teacher)


def at(td, loss, student, teacher):
    return per_layer(td.ATLoss({0: pair()}), student, teacher)


def fsp(td, loss, student, teacher):
    flows = {
        i: {
            f'{network}_{order}': dict(path=k, io='output')
            for network in ('student', 'teacher')
            for order, k in zip(('first', 'second'), layers)
        }
        for i, layers in enumerate(loss.pairs)
    }
    maps = ({
        k: dict(output=x)
        for k, x in enumerate(layers)
    } for layers in (student, teacher))
    return td.FSPLoss(flows)(*maps)


def ft(td, loss, student, teacher):
    with torch.no_grad():
        teacher = loss.paraphraser(teacher)
    peer = td.FTLoss(loss.p, paraphraser_path='x', translator_path='x')
    return compare(peer, loss.translator(student), teacher)


def hcl(td, loss, student, teacher):
    peer = td.HierarchicalContextLoss(**MODULE, output_sizes=loss.grids)
    return per_layer(peer, [(s, None) for s in student], teacher)


def ickd(td, loss, student, teacher):
    peer = td.ChSimLoss({0: pair()})
    return compare(peer, loss.embed(student), teacher)


def pad(td, loss, student, teacher):
    peer = td.PADL2Loss('x', 'x', module_path='v', eps=loss.eps)
    out = dict(x=loss.regressor(student), v=loss.head(student).flatten(1))
    return peer({
        k: dict(output=x)
        for k, x in out.items()
    }, dict(x=dict(output=teacher)))


def reviewkd(td, loss, student, teacher):
    return hcl(td, loss.hcl, reviewed(loss, student, teacher), teacher)


def srd(td, loss, student, teacher):
    """Without its second term, the divergence of the logits."""
    s, t = (F.batch_norm(x, None, None, training=True, eps=loss.eps)
            for x in (loss.projector(student), teacher))
    names = paths('feature_module_path', 'feature_module_io')
    names.update({
        f'{network}_linear_module_{k}': v
        for network in ('student', 'teacher')
        for k, v in (('path', 'logits'), ('io', 'output'))
    })
    logits = dict(output=teacher.new_zeros(1, 2))
    return td.SRDLoss(**names, exponent=loss.alpha)(
        *(dict(x=dict(output=x), logits=logits) for x in (s, t)))


def vid(td, loss, student, teacher):
    variance = F.softplus(loss.raw_variance)[:, None, None] + loss.eps
    return compare(td.VIDLoss({0: pair()}), (loss.mean(student), variance),
                   teacher)


# -- relations -------------------------------------------------------------


def affinity(td, loss, student, teacher):
    return compare(td.AffinityLoss('x', 'x'), student, teacher)


def ka(td, loss, student, teacher):
    with torch.no_grad():
        teacher = loss.translator(teacher)
    near = adaptation(td, loss.adaptation, loss.adapter_feature(student),
                      teacher)
    return near + affinity(td, loss.affinity, loss.adapter_affinity(student),
                           teacher)


def cckd(td, loss, student, teacher):
    kernel = dict(type=loss.kernel, gamma=loss.gamma, max_p=loss.order)
    peer = td.CCKDLoss('x', 'x', kernel, 'batchmean')
    return compare(peer, *map(F.normalize, loss.instances(student, teacher)))


def pkt(td, loss, student, teacher):
    return compare(td.PKTLoss(**MODULE), *loss.instances(student, teacher))


def rkd(td, loss, student, teacher):
    s, t = loss.instances(student, teacher)
    chosen = subset(len(s), loss.angle_instances).to(s.device)
    distance = td.RKDLoss(**OUTPUT,
                          dist_factor=loss.weights['distance'],
                          angle_factor=0,
                          reduction='mean')
    angle = td.RKDLoss(**OUTPUT,
                       dist_factor=0,
                       angle_factor=loss.weights['angle'],
                       reduction='mean')
    return compare(distance, s, t) + compare(angle, s[chosen], t[chosen])


def sp(td, loss, student, teacher):
    peer = td.SPKDLoss(**OUTPUT, reduction='batchmean')
    return compare(peer, *loss.instances(student, teacher))


def crd_image(td, loss, student, teacher, index):
    s, t = image_vectors(loss, student, teacher)
    peer = banks(td, *loss.contrast.student.shape, loss.contrast.k, s.device,
                 s.dtype)
    drawn = dict(pos_idx=index, contrast_idx=drawn_images(loss, index))
    return peer(dict(x=dict(output=s), drawn=dict(input=drawn)),
                dict(x=dict(output=t))).squeeze()


@lru_cache(maxsize=1)
def banks(td, count, dim, k, *where):
    """Made once, as in training: it takes longer than the loss."""
    return td.CRDLoss('x', 'drawn', 'x', dim, count, k, count).to(*where)
