"""Golden numbers of AB, from the authors' own code.

bhheo/AB_distillation at a7701d3506e13da87bda75aba1cee6397408144f: the
criterion of ``models/distillation_module.py``, the same as in
``cifar10_AB_distillation.py``, whose weights and 3/1000 are put around it
here (that file trains as soon as it is imported). On the CPU in float64.

    python ab.py CHECKOUT
"""
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

SHAPES = [(2, 5, 7, 6), (2, 4, 3, 5), (2, 3, 2, 3)]  # first to last
MARGINS = (1., .5)


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    from models.distillation_module import AB_distill_Resnet2mobilenetV2 as AB
    found = dict(value=[], gradient=[])
    for margin in MARGINS:
        students = [
            numbers(i, *s).requires_grad_() for i, s in enumerate(SHAPES)
        ]
        teachers = [numbers(9 + i, *s).relu() for i, s in enumerate(SHAPES)]
        teachers[0] -= .1  # as good as before a ReLU
        value = 0.
        for depth, (s, t) in enumerate(zip(students[::-1], teachers[::-1])):
            term = AB.criterion_active_L2(None, s, t, margin)
            value = value + term / len(s) / 2**depth
        value = value / 1000 * 3
        gradients = torch.autograd.grad(value, students)
        found['value'].append(value.item())
        found['gradient'].append([g[1, :, 1].tolist() for g in gradients])
    path = Path(__file__).parents[1] / 'ab.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
