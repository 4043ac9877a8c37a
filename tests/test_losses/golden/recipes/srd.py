"""Golden numbers of SRD, from the authors' own code.

roymiles/Simple-Recipe-Distillation at
31e8477cfdd6bb6ec7cdc332915fd4496b6de7b6: ``OurDistillationLoss`` of
``imagenet/torchdistill/losses/single.py`` and ``DistillationLoss`` of
``deit/models.py``, on vectors, in float64. The first has its widths written
in and puts itself on a GPU, the second names a class that is not there: their
methods are called on layers that are made as theirs are (torch refuses the
BN eps of 0 of the second by now: 1e-30). What else those files import is left
empty.

    python srd.py CHECKOUT
"""
import json
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402


def layers(eps: float) -> SimpleNamespace:
    embed = nn.Linear(3, 5).double()
    with torch.no_grad():
        embed.weight.copy_(numbers(2, 5, 3))
    bn = [nn.BatchNorm1d(5, eps=eps, affine=False).double() for _ in range(2)]
    return SimpleNamespace(embed=embed, bn_s=bn[0], bn_t=bn[1])


def run(function, eps: float) -> dict:
    given = layers(eps)
    student = numbers(0, 8, 3).requires_grad_()
    value = function(given, student, numbers(1, 8, 5))
    gradients = torch.autograd.grad(value, [student, given.embed.weight])
    return dict(value=value.item(),
                student=gradients[0].tolist(),
                weight=gradients[1].tolist())


def main(checkout: str) -> None:
    sys.path.insert(0, f'{checkout}/imagenet')
    from torchdistill.losses.single import OurDistillationLoss
    found = dict(imagenet=run(OurDistillationLoss.forward_loss, 1e-4))
    for name in ('timm', 'timm.models', 'timm.models.layers',
                 'timm.models.registry', 'timm.models.vision_transformer',
                 'torchmetrics', 'torchvision', 'vision_transformer'):
        sys.modules[name] = MagicMock()
    base = type('VisionTransformer', (nn.Module, ), {})
    sys.modules['timm.models.vision_transformer'].VisionTransformer = base
    sys.path.insert(0, f'{checkout}/deit')
    from models import DistillationLoss
    found['deit'] = run(DistillationLoss.forward, 1e-30)
    path = Path(__file__).parents[1] / 'srd.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
