"""Golden numbers of CCKD, from yoshitomo-matsubara/torchdistill.

At 3e4373c45214c5c56eebac481d5bfe8b8735aa05, ``CCKDLoss`` in
``torchdistill/losses/mid_level.py``, without reduction. The authors' own code
is not public. In float64, on vectors as they are, which are not normalized.

    python cckd.py CHECKOUT
"""
import json
import sys
from importlib import import_module
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

STUDENT, TEACHER = (7, 3), (7, 5)  # M, C
KERNELS = dict(bilinear=dict(type='bilinear'),
               gaussian=dict(type='gaussian', gamma=.4, max_p=2),
               gaussian_3=dict(type='gaussian', gamma=.3, max_p=3))


def measure(loss):
    student = numbers(0, *STUDENT).requires_grad_()
    value = loss(dict(linear=dict(output=student)),
                 dict(linear=dict(output=numbers(1, *TEACHER))))
    gradient, = torch.autograd.grad(value, student)
    return dict(value=value.item(), gradient=gradient[1].tolist())


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    module = import_module('torchdistill.losses.mid_level')
    found = {
        name: measure(module.CCKDLoss('linear', 'linear', kernel, 'none'))
        for name, kernel in KERNELS.items()
    }
    path = Path(__file__).parents[1] / 'cckd.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
