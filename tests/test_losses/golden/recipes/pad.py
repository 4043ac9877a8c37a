"""Golden numbers of PAD; its authors published no code.

yoshitomo-matsubara/torchdistill at 3e4373c45214c5c56eebac481d5bfe8b8735aa05:
``PADL2Loss`` of ``torchdistill/losses/mid_level.py`` ("the author's provided
code takes average of losses") on the head of ``VarianceBranch4PAD``. On the
CPU in float64; torchvision, which it imports, is not needed.

    python pad.py CHECKOUT
"""
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

N, C = 7, 5


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    for name in ('torchvision', 'torchvision.transforms',
                 'torchvision.transforms.functional', 'torchvision.models',
                 'torchdistill.models.classification',
                 'torchdistill.models.official'):
        sys.modules[name] = MagicMock()
    from torchdistill.losses.mid_level import PADL2Loss
    from torchdistill.models.wrapper import VarianceBranch4PAD
    branch = VarianceBranch4PAD(nn.Identity(), dict(path='s', io='output'), C,
                                'none.pt', 'cpu', None, False)
    head = branch.var_estimator.double()
    for i, parameter in enumerate(head.parameters()):
        parameter.data = numbers(i, *parameter.shape)
    student = numbers(20, N, C).requires_grad_()
    maps = dict(s=dict(output=student), v=dict(output=head(student)))
    loss = PADL2Loss('s', 't', module_path='v')
    value = loss(maps, dict(t=dict(output=numbers(21, N, C))))
    gradients = torch.autograd.grad(value, [student, *head.parameters()])
    found = dict(value=value.item(), gradients=[g.tolist() for g in gradients])
    path = Path(__file__).parents[1] / 'pad.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
