"""Golden numbers of logit standardization on matrices of logits, in float64.

sunshangquan/logit-standardization-KD at
f6e5aa5172bad618e801163c3385322eea673754, ``mdistiller/distillers/KD.py``. Its
rows are the positions of maps of 3x5 here.

    python logit_std.py CHECKOUT
"""
import json
import sys
import types
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402


def load(checkout: str):
    """``KD.py`` alone: the package imports data sets that are not needed."""
    folder = Path(checkout) / 'mdistiller/distillers'
    package = types.ModuleType('distillers')
    package.__path__ = [str(folder)]
    sys.modules['distillers'] = package
    spec = spec_from_file_location('distillers.KD', folder / 'KD.py')
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def main(checkout: str) -> None:
    module = load(checkout)
    found = {}
    for temperature in (2, 4):
        student = (3 * numbers(0, 2, 7, 3, 5)).requires_grad_()
        teacher = 3 * numbers(1, 2, 7, 3, 5)
        rows = [x.movedim(1, 3).flatten(0, 2) for x in (student, teacher)]
        value = module.kd_loss(*rows, temperature, True)
        value.backward()
        found[temperature] = dict(value=value.item(),
                                  gradient=student.grad[0].tolist())
    path = Path(__file__).parents[1] / 'logit_std.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
