"""Golden numbers of FSP; its authors published no code.

HobbitLong/RepDistiller at b84f547c5db6a35318d4671d7d5c4de74c822403,
``distiller_zoo/FSP.py`` (average pooling, square maps only), and the matrices
of yoshitomo-matsubara/torchdistill at
3e4373c45214c5c56eebac481d5bfe8b8735aa05, ``FSPLoss.compute_fsp_matrix`` of
``torchdistill/losses/mid_level.py`` (max pooling). On the CPU in float64;
torchvision, which torchdistill imports, is not needed.

    python fsp.py REPDISTILLER TORCHDISTILL
"""
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

SQUARE = [(2, 3, 8, 8), (2, 5, 4, 4), (2, 4, 4, 4)]
FLAT = [(2, 3, 6, 10), (2, 5, 3, 5)]


def main(rep: str, torchdistill: str) -> None:
    sys.path[:0] = [rep, torchdistill]
    for name in ('torchvision', 'torchvision.transforms',
                 'torchvision.transforms.functional', 'torchvision.models'):
        sys.modules[name] = MagicMock()
    from distiller_zoo.FSP import FSP
    from torchdistill.losses.mid_level import FSPLoss
    student, teacher = maps(SQUARE)
    values = FSP(SQUARE, SQUARE)(student, teacher)
    found = dict(avg=[v.item() for v in values],
                 avg_gradients=gradients(sum(values), student))
    student, teacher = maps(FLAT)
    gap = (FSPLoss.compute_fsp_matrix(*student) -
           FSPLoss.compute_fsp_matrix(*teacher))
    found['max_matrix_gap'] = gap.tolist()
    found['max_gradients'] = gradients(gap.square().mean(), student)
    path = Path(__file__).parents[1] / 'fsp.json'
    path.write_text(json.dumps(found) + '\n')


def maps(shapes):
    student = [numbers(i, *s).requires_grad_() for i, s in enumerate(shapes)]
    return student, [numbers(9 + i, *s) for i, s in enumerate(shapes)]


def gradients(value, student):
    found = torch.autograd.grad(value, student)
    return [g[1, :, 1].tolist() for g in found]


if __name__ == '__main__':
    main(*sys.argv[1:])
