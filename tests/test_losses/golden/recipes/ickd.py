"""Golden numbers of ICKD, from the authors' code.

ADLab-AutoDrive/ICKD at 403b8d3d7c3aaa429e4708870d2be1d4daf92f07:
``Cifar100/distiller_zoo/ICKD.py``, and ``ChSimLoss`` in
``ImageNet/torchdistill/losses/single.py`` behind the 3x3 ``Embed`` of
``models/special.py``. Modules that those files import and do not need here
are left out. In float64, with the weights given, BN in training mode.

    python ickd.py CHECKOUT
"""
import importlib
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

STUDENT, TEACHER = (3, 3, 5, 4), (3, 6, 5, 4)  # N, C, H, W


def measure(compare, embed):
    with torch.no_grad():
        for seed, parameter in enumerate(embed.parameters()):
            parameter.copy_(numbers(10 + seed, *parameter.shape))
    student = numbers(0, *STUDENT).requires_grad_()
    value = compare(student, numbers(1, *TEACHER))
    gradients = torch.autograd.grad(value, [student, embed.conv2d.weight])
    return dict(value=value.item(),
                student=gradients[0][0, 1].flatten().tolist(),
                weight=gradients[1][:, 0, 0, 0].tolist())


def cifar(checkout):
    path = checkout / 'Cifar100/distiller_zoo/ICKD.py'
    spec = spec_from_file_location('ickd_of_the_authors', path)
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    loss = module.ICKDLoss(SimpleNamespace(s_dim=3, feat_dim=6)).double()
    return measure(loss.batch_loss, loss.embed_s)


def imagenet(checkout):
    sys.path.insert(0, str(checkout / 'ImageNet'))
    unneeded = ModuleType('torchdistill.feature_visualization')
    unneeded.FeatureVisualizer = None
    models = ModuleType('torchdistill.models')
    models.__path__ = [str(checkout / 'ImageNet/torchdistill/models')]
    util = ModuleType('torchdistill.models.util')
    for name in ('wrap_if_distributed', 'load_module_ckpt', 'save_module_ckpt',
                 'redesign_model'):
        setattr(util, name, None)
    for module in (unneeded, models, util):
        sys.modules[module.__name__] = module
    single = importlib.import_module('torchdistill.losses.single')
    special = importlib.import_module('torchdistill.models.special')
    embed, loss = special.Embed(3, 6).double(), single.ChSimLoss({})
    return measure(lambda s, t: loss.batch_loss(embed(s), t), embed)


def main(checkout: str) -> None:
    found = dict(cifar=cifar(Path(checkout)),
                 imagenet=imagenet(Path(checkout)))
    path = Path(__file__).parents[1] / 'ickd.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
