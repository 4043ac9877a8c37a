"""Golden numbers of FitNets, from two published codes.

winycg/CIRKD at dab64dbb5e4172141166cf8434a80ce55d9d3aa7,
``losses/fitnet.py``, and HobbitLong/RepDistiller at
b84f547c5db6a35318d4671d7d5c4de74c822403, ``distiller_zoo/FitNet.py``. In
float64, with the regressor's weights given.

    python fitnet.py CIRKD REPDISTILLER
"""
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402


def load(path: Path):
    spec = spec_from_file_location(path.stem, path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(cirkd: str, repdistiller: str) -> None:
    student = numbers(0, 2, 3, 4, 7).requires_grad_()
    teacher = numbers(1, 2, 5, 4, 7)
    loss = load(Path(cirkd) / 'losses/fitnet.py').CriterionFitNet(3,
                                                                  5).double()
    weight = loss.conv.weight
    with torch.no_grad():
        weight.copy_(numbers(2, *weight.shape))
    value = loss(student, teacher)
    gradients = torch.autograd.grad(value, [student, weight])
    hint = load(Path(repdistiller) / 'distiller_zoo/FitNet.py').HintLoss()
    found = dict(cirkd=value.item(),
                 repdistiller=hint(loss.conv(student), teacher).item(),
                 student_gradient=gradients[0][0, :, 1].tolist(),
                 weight_gradient=gradients[1].flatten(1).tolist())
    path = Path(__file__).parents[1] / 'fitnet.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
