"""Folds each batch norm into the convolution that it follows.

With its running statistics a batch norm only scales and shifts each channel:
a convolution with other weights gives the same map and saves a pass over it.
"""
from collections import Counter

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_eval

from seg_kd.networks.taps import Taps

TOLERANCE = 1e-2  # of the largest value; a wrong pair is off by more than 1


@torch.no_grad()
def fold_batch_norm(taps: Taps, images: Tensor) -> int:
    """Folds in ``taps.model``, which is in eval mode; the number of layers.

    Where a map is read before or behind the batch norm, both layers stay.
    Should a tapped map of ``images`` change all the same, nothing is folded.

    Args:
        taps: Of the network.
        images: Noise, ``(N, 3, H, W)``.
    """
    tapped = set(taps.modules.values())
    chosen = [
        pair for pair in followers(taps, images) if tapped.isdisjoint(pair)
    ]
    new: dict[nn.Module, nn.Module] = {}
    for conv, norm in chosen:
        new[conv], new[norm] = fuse_conv_bn_eval(conv, norm), nn.Identity()
    before = taps.run(images)
    swap(taps.model, new)
    after = taps.run(images)
    if all(alike(after[path], before[path]) for path in before):
        return len(chosen)
    swap(taps.model, {after: before for before, after in new.items()})
    return 0


def followers(taps: Taps, images: Tensor) -> list[tuple[nn.Module, nn.Module]]:
    """Convolutions and the batch norms that receive just what they return.

    Seen in a forward, as names and order of layers promise nothing. Both run
    once, and what passes between them is not tapped; a convolution with
    reparametrized weights does not count.
    """
    calls: Counter = Counter()
    found: list[tuple[nn.Module, nn.Module]] = []
    last: tuple = (None, None, 0)

    def after_conv(conv, args, output):
        nonlocal last
        calls[conv] += 1
        last = conv, output, output._version

    def before_norm(norm, args):
        calls[norm] += 1
        conv, output, version = last
        untouched = args[0] is output and output._version == version
        if untouched and not taps.keeps(output):
            found.append((conv, norm))

    handles = []
    for module in taps.model.modules():
        if isinstance(module, nn.Conv2d) and 'weight' in module._parameters:
            handles.append(module.register_forward_hook(after_conv))
        elif isinstance(module, _BatchNorm):
            handles.append(module.register_forward_pre_hook(before_norm))
    taps.run(images)
    for handle in handles:
        handle.remove()
    return [pair for pair in found if all(calls[m] == 1 for m in pair)]


def swap(network: nn.Module, new: dict[nn.Module, nn.Module]) -> None:
    """Puts modules in the places of others."""
    for name, module in list(network.named_modules()):
        if module in new:
            parent, _, leaf = name.rpartition('.')
            setattr(network.get_submodule(parent), leaf, new[module])


def alike(a: Tensor, b: Tensor) -> bool:
    return bool((a - b).abs().max() <= TOLERANCE * b.abs().max())
