"""Golden numbers of VID, from the code that RepDistiller has of the authors.

HobbitLong/RepDistiller at b84f547c5db6a35318d4671d7d5c4de74c822403,
``distiller_zoo/VID.py``. In float64, with the weights given; on equal grids
that are not square, and on unequal ones that are.

    python vid.py CHECKOUT
"""
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

GRIDS = dict(equal=((4, 7), (4, 7)),
             finer=((6, 6), (3, 3)),
             coarser=((2, 2), (6, 6)))


def main(checkout: str) -> None:
    path = Path(checkout) / 'distiller_zoo/VID.py'
    spec = spec_from_file_location('vid_of_the_authors', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    loss = module.VIDLoss(3, 5, 5).double()
    found = dict(first_scale=loss.log_scale[0].item())
    with torch.no_grad():
        for seed, parameter in enumerate(loss.parameters()):
            parameter.copy_(numbers(10 + seed, *parameter.shape))
    for name, (small, large) in GRIDS.items():
        student = numbers(0, 2, 3, *small).requires_grad_()
        value = loss(student, numbers(1, 2, 5, *large))
        gradients = torch.autograd.grad(value, [student, loss.log_scale])
        found[name] = dict(value=value.item(),
                           student=gradients[0][0, :, 1].tolist(),
                           scale=gradients[1].tolist())
    path = Path(__file__).parents[1] / 'vid.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
