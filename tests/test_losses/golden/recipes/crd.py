"""Golden numbers of CRD, from the authors' own code.

HobbitLong/RepDistiller at b84f547c5db6a35318d4671d7d5c4de74c822403, ``crd/``.
Three iterations in float64 on the CPU, with the negatives given and no
optimizer. Their code moves itself to a GPU, which is made to do nothing.

    python crd.py CHECKOUT
"""
import json
import sys
from pathlib import Path
from types import SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

OPTIONS = SimpleNamespace(s_dim=5,
                          t_dim=7,
                          feat_dim=6,
                          n_data=11,
                          nce_k=40,
                          nce_t=.07,
                          nce_m=.5)
INDEX = [[3, 0, 8, 5], [1, 3, 9, 10], [5, 4, 5, 2]]  # one twice


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    torch.Tensor.cuda = lambda self: self
    from crd.criterion import CRDLoss
    loss = CRDLoss(OPTIONS).double()
    with torch.no_grad():
        for seed, parameter in enumerate(shared(loss)):
            parameter.copy_(.4 * numbers(seed, *parameter.shape))
    found = dict(value=[], gradient=[])
    for step, index in enumerate(INDEX):
        student = numbers(10 + step, 4, OPTIONS.s_dim).requires_grad_()
        teacher = numbers(20 + step, 4, OPTIONS.t_dim)
        negatives = draws(30 + step)
        drawn = torch.cat((torch.tensor(index)[:, None], negatives), 1)
        value = loss(student, teacher, torch.tensor(index), drawn)
        gradients = torch.autograd.grad(value,
                                        [student, loss.embed_t.linear.weight])
        found['value'].append(value.item())
        found['gradient'].append([g.tolist() for g in gradients])
    found['z'] = loss.contrast.params[2:4].tolist()
    found['student'] = loss.contrast.memory_v1.tolist()
    found['teacher'] = loss.contrast.memory_v2.tolist()
    path = Path(__file__).parents[1] / 'crd.json'
    path.write_text(json.dumps(found) + '\n')


def shared(loss) -> list:
    """What both implementations have, in the order of the seeds."""
    return [
        loss.embed_s.linear.weight, loss.embed_s.linear.bias,
        loss.embed_t.linear.weight, loss.embed_t.linear.bias,
        loss.contrast.memory_v1, loss.contrast.memory_v2
    ]


def draws(seed: int):
    """Rows of the banks, uniform as far as it matters here."""
    shape = 4, OPTIONS.nce_k
    return (numbers(seed, *shape).abs() * 1e4).long() % OPTIONS.n_data


if __name__ == '__main__':
    main(sys.argv[1])
