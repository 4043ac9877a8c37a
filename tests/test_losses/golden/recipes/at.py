"""Golden numbers of activation-based AT, from the authors' own code.

szagoruyko/attention-transfer at 893df5488f93691799f082a70e2521a9dc2ddf2d,
``utils.py``, in float64. Two functions of that file are needed, and not the
packages that others in it are written with; those are left empty.

    python at.py CHECKOUT
"""
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402


def main(checkout: str) -> None:
    nested = sys.modules['nested_dict'] = ModuleType('nested_dict')
    nested.nested_dict = None
    path = Path(checkout) / 'utils.py'
    spec = spec_from_file_location('utils_of_the_authors', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    student = numbers(0, 2, 3, 4, 7).requires_grad_()
    value = module.at_loss(student, numbers(1, 2, 5, 4, 7))
    gradient, = torch.autograd.grad(value, student)
    found = dict(value=value.item(), gradient=gradient[1, :, 2].tolist())
    path = Path(__file__).parents[1] / 'at.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
