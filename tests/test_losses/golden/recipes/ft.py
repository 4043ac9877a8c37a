"""Golden numbers of FT, from the authors' own code.

Jangho-Kim/Factor-Transfer-pytorch at
19cce265ebe51c751481041e223a13be2e684322: ``Models/FeatureProjection.py`` and
``utils.FT``, combined as ``train_Paraphraser.py`` and ``train_student.py`` do.
On the CPU in float64; torchvision, which ``utils`` imports, is not needed.

    python ft.py CHECKOUT
"""
import json
import sys
from pathlib import Path
from unittest.mock import MagicMock

import torch
from torch import nn

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

C, CODE = 6, 3  # of the student's map, too: the authors have one width


def main(checkout: str) -> None:
    sys.path.insert(0, checkout)
    for name in ('torchvision', 'torchvision.transforms'):
        sys.modules[name] = MagicMock()
    import utils
    from Models.FeatureProjection import Paraphraser, Translator
    paraphraser = filled(Paraphraser(C, CODE), 0)
    translator = filled(Translator(C, CODE), 100)
    teacher = numbers(1, 2, C, 5, 7)
    student = numbers(2, 2, C, 5, 7).requires_grad_()
    back = paraphraser(teacher, 0)
    reconstruction = nn.L1Loss()(back, teacher)
    first, = torch.autograd.grad(reconstruction, paraphraser.conv0.weight)
    factors = translator(student), paraphraser(teacher, 1).detach()
    value = nn.L1Loss()(*map(utils.FT, factors))
    gradients = torch.autograd.grad(
        value, [student, translator.conv0.weight, factors[0]])
    found = dict(reconstruction=reconstruction.item(),
                 first_gradient=first[0, 1].tolist(),
                 value=value.item(),
                 gradients=[g[0, 1].tolist() for g in gradients])
    path = Path(__file__).parents[1] / 'ft.json'
    path.write_text(json.dumps(found) + '\n')


def filled(module: nn.Module, seed: int) -> nn.Module:
    """In float64, with weights that a test can make again."""
    for i, parameter in enumerate(module.double().parameters()):
        parameter.data = .3 * numbers(seed + i, *parameter.shape)
    return module


if __name__ == '__main__':
    main(*sys.argv[1:])
