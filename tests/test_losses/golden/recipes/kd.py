"""Golden numbers of KD, from two repositories.

HobbitLong/RepDistiller at b84f547c5db6a35318d4671d7d5c4de74c822403,
``distiller_zoo/KD.py``, sums over all but the images; winycg/CIRKD at
dab64dbb5e4172141166cf8434a80ce55d9d3aa7, ``losses/kd.py``, is a mean over
positions. In float64, each on vectors and on maps of 3x5.

    python kd.py REPDISTILLER CIRKD
"""
import json
import sys
import warnings
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402


def load(path: Path):
    spec = spec_from_file_location('of_the_authors', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measure(loss, *shape: int) -> dict:
    student = (3 * numbers(0, *shape)).requires_grad_()
    value = loss(student, 3 * numbers(1, *shape))
    value.backward()
    return dict(value=value.item(), gradient=student.grad[0].tolist())


def main(repdistiller: str, cirkd: str) -> None:
    warnings.filterwarnings('ignore', message='size_average')
    paper = load(Path(repdistiller) / 'distiller_zoo/KD.py').DistillKL
    dense = load(Path(cirkd) / 'losses/kd.py').CriterionKD
    found = {
        'paper_vectors': measure(paper(4.), 2, 7, 1, 1),
        'paper_maps': measure(paper(4.), 2, 7, 3, 5),
        'dense_maps': measure(dense(4.), 2, 7, 3, 5),
        'dense_maps_1': measure(dense(), 2, 7, 3, 5)
    }
    path = Path(__file__).parents[1] / 'kd.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
