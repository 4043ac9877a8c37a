"""Golden numbers of DIST on maps of 3x5, in float64.

hunto/DIST_KD at 2418f18b1fedd7c2646a7b1b9a27d5c674c2170b,
``segmentation/losses/dist_kd.py``.

    python dist.py CHECKOUT
"""
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402


def main(checkout: str) -> None:
    path = Path(checkout) / 'segmentation/losses/dist_kd.py'
    spec = spec_from_file_location('dist_of_the_authors', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    found = {}
    for beta, gamma in ((1., 1.), (1., 0.), (0., 1.)):
        student = (3 * numbers(0, 2, 7, 3, 5)).requires_grad_()
        teacher = 3 * numbers(1, 2, 7, 3, 5)
        value = module.DIST(beta, gamma)(student, teacher)
        value.backward()
        found[f'{beta:g}_{gamma:g}'] = dict(value=value.item(),
                                            gradient=student.grad[0].tolist())
    path = Path(__file__).parents[1] / 'dist.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
