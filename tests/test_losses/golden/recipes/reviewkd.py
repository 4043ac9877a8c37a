"""Golden numbers of ReviewKD, from the authors' code.

dvlab-research/ReviewKD at cede6ea6387ae9b6127de0e561507177bf19c11e:
``CIFAR-100/model/reviewkd.py`` on squares with unequal strides (its ``.to(
'cuda')`` is left out), ``Detection/model/kd_trans.py`` on maps that are not
square, and ``hcl``, which is the same in both. In float64, with the weights
given, BN in training mode.

    python reviewkd.py CHECKOUT
"""
import importlib
import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[2]))
from reference import numbers  # noqa: E402

STUDENT, TEACHER, MID = [3, 4, 5], [4, 6, 7], 5
SQUARES = dict(student=[9, 5, 3], teacher=[9, 9, 5])
OBLONG = [(12, 20), (6, 10), (3, 5)]
HCL = [(9, 13), (4, 7), (2, 3), (1, 1)]


def maps(seed, channels, sizes):
    return [
        numbers(seed + i, 2, c, *size).requires_grad_()
        for i, (c, size) in enumerate(zip(channels, sizes))
    ]


def measure(hcl, review, student, teacher):
    outputs = review(student)
    if isinstance(outputs, tuple):  # with the network's
        outputs = outputs[0]
    value = hcl(outputs, [t.detach() for t in teacher])
    weight = review.abfs[-1].att_conv[0].weight  # of the first level
    gradients = torch.autograd.grad(value, [*student, weight])
    return dict(value=value.item(),
                student=[g[0, 0, 1].tolist() for g in gradients[:-1]],
                attention=gradients[-1][0].flatten().tolist())


def set_weights(review):
    """Level by level from the first, in the order of ABF's own parameters."""
    with torch.no_grad():
        for level, abf in enumerate(review.double().abfs[::-1]):
            for i, parameter in enumerate(abf.parameters()):
                parameter.copy_(numbers(100 + 10 * level + i,
                                        *parameter.shape))
    return review


def cifar(checkout):
    sys.path.insert(0, f'{checkout}/CIFAR-100')
    module = importlib.import_module('model.reviewkd')
    module.ReviewKD.to = lambda self, device: self
    # It takes the network in: this one hands on what it is given.
    review = module.ReviewKD(lambda x, is_feat: (x, None), STUDENT, TEACHER,
                             SQUARES['student'][::-1],
                             SQUARES['teacher'][::-1])
    student, teacher = (maps(seed, channels, [(x, x) for x in sizes])
                        for seed, channels, sizes in ((0, STUDENT,
                                                       SQUARES['student']),
                                                      (10, TEACHER,
                                                       SQUARES['teacher'])))
    set_weights(review)
    return measure(module.hcl, review, student, teacher)


def main(checkout: str) -> None:
    path = Path(checkout) / 'Detection/model/kd_trans.py'
    spec = spec_from_file_location('kd_trans', path)
    detection = module_from_spec(spec)
    spec.loader.exec_module(detection)
    review = set_weights(detection.ReviewKD(STUDENT, TEACHER, MID))
    found = dict(squares=cifar(checkout),
                 oblong=measure(detection.hcl, review,
                                maps(0, STUDENT, OBLONG),
                                maps(10, TEACHER, OBLONG)),
                 hcl={})
    for h, w in HCL:
        student, = maps(0, [3], [(h, w)])
        value = detection.hcl([student], [numbers(10, 2, 3, h, w)])
        gradient, = torch.autograd.grad(value, student)
        found['hcl'][f'{h}x{w}'] = dict(value=value.item(),
                                        student=gradient[1, 2, 0].tolist())
    path = Path(__file__).parents[1] / 'reviewkd.json'
    path.write_text(json.dumps(found) + '\n')


if __name__ == '__main__':
    main(sys.argv[1])
