"""Golden numbers of RKD, from the authors' code.

lenscloth/RKD at 0a6c3c0c190722d428322bf71703c0ae86c25242, ``metric/loss.py``.
In float64.

    python rkd.py CHECKOUT
"""
import json
import sys
import warnings
from importlib import import_module
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

STUDENT, TEACHER = (7, 3), (7, 5)  # M, C


def measure(loss):
    student = numbers(0, *STUDENT).requires_grad_()
    with warnings.catch_warnings():  # of an old name of reduction='mean'
        warnings.simplefilter('ignore')
        value = loss(student, numbers(1, *TEACHER))
    gradient, = torch.autograd.grad(value, student)
    return dict(value=value.item(), gradient=gradient[1].tolist())


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    module = import_module('metric.loss')
    found = dict(distance=measure(module.RkdDistance()),
                 angle=measure(module.RKdAngle()))
    path = Path(__file__).parents[1] / 'rkd.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
