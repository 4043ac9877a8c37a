"""Golden numbers of SP, from HobbitLong/RepDistiller.

At b84f547c5db6a35318d4671d7d5c4de74c822403, ``distiller_zoo/SP.py``, which the
paper's author verified. In float64.

    python sp.py CHECKOUT
"""
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

STUDENT, TEACHER = (6, 3, 2, 5), (6, 7, 2, 5)  # N, C, H, W


def main(checkout: str) -> None:
    path = Path(checkout) / 'distiller_zoo/SP.py'
    spec = spec_from_file_location('sp_of_the_authors', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    student = numbers(0, *STUDENT).requires_grad_()
    value, = module.Similarity()([student], [numbers(1, *TEACHER)])
    gradient, = torch.autograd.grad(value, student)
    found = dict(value=value.item(), gradient=gradient[1, 2].tolist())
    path = Path(__file__).parents[1] / 'sp.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
