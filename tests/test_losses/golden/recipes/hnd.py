"""Golden numbers of HND, from the authors' code.

yoshitomo-matsubara/head-network-distillation at
abe11002eb2b1bd14fec75aea2375d0c31dd6513, with its submodule ``src/myutils``
at 7214ef30490088ab322206aac034ee7af2eea282: the criterion of the published
configs, as ``src/mimic_runner.py`` builds it. In float64.

    python hnd.py HEAD-NETWORK-DISTILLATION
"""
import json
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

CONFIG = 'config/official/imagenet/hnd/resnet152_head_mimic-ver2b-12ch.yaml'


def main(checkout: str) -> None:
    sys.path.insert(0, str(Path(checkout) / 'src'))
    from myutils.common import yaml_util
    from myutils.pytorch import func_util
    train = yaml_util.load_yaml_file(str(Path(checkout) / CONFIG))['train']
    criterion = func_util.get_loss(train['criterion']['type'],
                                   train['criterion']['params'])
    student = numbers(0, 2, 5, 4, 7).requires_grad_()
    value = criterion(student, numbers(1, 2, 5, 4, 7))
    gradient, = torch.autograd.grad(value, student)
    found = dict(value=value.item(),
                 gradient=gradient[0, :, 1].tolist(),
                 optimizer=train['optimizer'])
    path = Path(__file__).parents[1] / 'hnd.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(*sys.argv[1:])
