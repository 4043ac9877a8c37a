"""What has made a batch go bad, when it did: a look that may take its time."""
import copy
from typing import Any

import torch
from torch import Tensor, nn

from seg_kd.networks.finite import finite, tensors
from seg_kd.networks.unwrap import unwrap_model

STATISTICS = 'running_mean', 'running_var'  # of a normalization layer


def bad_weights(model: nn.Module) -> list[str]:
    """Names of parameters, and of running statistics, that are not finite.

    Other buffers may be NaN for as long as they have not been measured, such
    as the constant of CRD. It waits once for a GPU.
    """
    model = unwrap_model(model)
    named = dict(model.named_parameters())
    named.update((name, buffer) for name, buffer in model.named_buffers()
                 if name.rpartition('.')[2] in STATISTICS)
    named = {k: t.detach() for k, t in named.items() if t.numel()}
    if not named:
        return []
    # the largest: squares of large numbers would be infinite
    largest = torch._foreach_norm(list(named.values()), ord=torch.inf)
    found = torch.stack([n.float() for n in largest]).isfinite().tolist()
    return [name for name, good in zip(named, found) if not good]


def bad_teacher(runner, batch: Any) -> tuple[str, str] | None:
    """The teacher that is not finite in a batch: what is wrong, what to do.
    """
    distiller = getattr(runner, 'distiller', None)
    if distiller is None:
        return None
    with runner.optim_wrapper.optim_context(runner.model):
        data = _preprocessed(runner, batch)
        for name, teacher in distiller.teachers.items():
            images = data['inputs']
            if teacher.cache is None:
                images = teacher.seen(images, data['data_samples'])
            found = teacher.not_finite(images)
            if found is not None:
                wrong, help_ = found
                return wrong.replace('the teacher', f'the teacher {name!r}') \
                    if len(distiller.teachers) > 1 else wrong, help_
    return None


def overflowing(runner, batch: Any) -> list[str]:
    """The losses of a batch whose gradients are not finite, by name.

    As they are scaled: see ``AmpOptimWrapper``.
    """
    model, wrapper = unwrap_model(runner.model), runner.optim_wrapper
    learned = [p for p in model.parameters() if p.requires_grad]
    with wrapper.optim_context(runner.model):
        losses = model(**_preprocessed(runner, batch), mode='loss')
    found = []
    for name, value in losses.items():
        value = sum((t.mean() for t in tensors(value)), torch.zeros(()))
        if 'loss' not in name or not value.requires_grad:
            continue
        gradients = torch.autograd.grad(wrapper.loss_scaler.scale(value),
                                        learned,
                                        retain_graph=True,
                                        allow_unused=True)
        if not all(finite(g) for g in gradients if isinstance(g, Tensor)):
            found.append(name)
    return found


def _preprocessed(runner, batch: Any) -> dict[str, Any]:
    """A copy: labels are padded in place."""
    return unwrap_model(runner.model).data_preprocessor(
        copy.deepcopy(batch), True)
