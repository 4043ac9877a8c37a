"""Golden numbers of PKT, from the authors' code.

passalis/probabilistic_kt at a58fd1b0c62491f55a78189daf835e3558f96176,
``nn/pkt.py``. In float64.

    python pkt.py CHECKOUT
"""
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

STUDENT, TEACHER = (7, 16), (7, 24)  # M, C


def main(checkout: str) -> None:
    spec = spec_from_file_location('pkt_of_the_authors',
                                   Path(checkout) / 'nn/pkt.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    student = numbers(0, *STUDENT).requires_grad_()
    # their loss writes into what it is given
    value = module.cosine_similarity_loss(student * 1, numbers(1, *TEACHER))
    gradient, = torch.autograd.grad(value, student)
    found = dict(value=value.item(), gradient=gradient[1].tolist())
    path = Path(__file__).parents[1] / 'pkt.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
