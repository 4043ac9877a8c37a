"""What two networks make of the same images: CKA, affinity, attention.

CKA compares how two layers tell places of images apart, whatever their
channels are: Kornblith et al., "Similarity of Neural Network Representations
Revisited" (ICML 2019).
"""
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.utils import is_list_of
from torch import Tensor, nn

from seg_kd.networks.taps import in_eval_mode

MOST = 12  # layers of a network


@torch.no_grad()
def layers(model: nn.Module, image: Tensor, most: int = MOST) -> list[str]:
    """Paths of layers to look at, in the order in which they run.

    They are the children of the backbone, of a neck and of the decode head,
    and of a list of modules its items; they have weights, are no
    normalization, and give one map ``(N, C, H, W)`` with more than one
    position.

    Args:
        model: A segmentor.
        image: ``(1, 3, H, W)``, normalized.
        most: Of more, so many are taken, evenly, with the first and the last.
    """
    found: dict[str, tuple[Tensor, int]] = {}
    handles = [
        module.register_forward_hook(_note(path, found))
        for path, module in _parts(model)
    ]
    with in_eval_mode(model):
        model(image)
    for handle in handles:
        handle.remove()
    names = [  # a map that the next layer overwrites cannot be tapped
        path for path, (map_, version) in found.items()
        if map_._version == version
    ]
    if len(names) <= most:
        return names
    picked = np.linspace(0, len(names) - 1, most).round().astype(int)
    return [names[i] for i in picked]


def _note(path: str, found: dict[str, tuple[Tensor, int]]):

    def hook(module, args, output):
        if is_list_of(output, Tensor) and len(output) == 1:
            output = output[0]
        if isinstance(output, Tensor) and output.dim() == 4 and (
                output.shape[2] * output.shape[3] > 1):
            found[path] = output, output._version

    return hook


def _parts(model: nn.Module) -> list[tuple[str, nn.Module]]:
    found = []
    for top in ('backbone', 'neck', 'decode_head'):
        stack = [(top, getattr(model, top, None))]
        while stack:
            path, module = stack.pop()
            children = module.named_children() if module is not None else ()
            for name, child in children:
                if isinstance(child, nn.ModuleList):
                    stack.append((f'{path}.{name}', child))
                elif _has_weights(child):
                    found.append((f'{path}.{name}', child))
    return found


def _has_weights(module: nn.Module) -> bool:
    norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
    return not isinstance(module, norms) and any(p.dim() > 1
                                                 for p in module.parameters())


def rows(map_: Tensor, grid: tuple[int, int]) -> Tensor:
    """The places of an image as rows: ``(1, C, h, w) -> (places, C)``.

    Maps of all sizes are averaged over the cells of one ``grid``.
    """
    return F.adaptive_avg_pool2d(map_.float(), grid)[0].flatten(1).T.double()


def gram(features: Tensor) -> Tensor:
    """``(n, C) -> (n, n)`` of dot products, with zeros on the diagonal."""
    centred = features - features.mean(0)  # of no effect but on precision
    return (centred @ centred.T).fill_diagonal_(0.)


def hsic(k: Tensor, l: Tensor) -> float:  # noqa: E741, the paper's letter
    r"""The unbiased estimate of HSIC (Song et al., JMLR 2012, equation 5).

    .. math::
        \frac{1}{n (n - 3)} \Bigl(\operatorname{tr} KL +
        \frac{1'K1 \; 1'L1}{(n - 1)(n - 2)} - \frac{2}{n - 2} 1'KL1\Bigr)

    Args:
        k: ``(n, n)`` of :func:`gram`, n > 3.
        l: The same of other features.
    """
    n = len(k)
    a, b = k.sum(0), l.sum(0)
    value = (k * l).sum() - 2 / (n - 2) * (a @ b)
    value = value + a.sum() * b.sum() / ((n - 1) * (n - 2))
    return float(value) / (n * (n - 3))


def cka(first: Sequence[Tensor], second: Sequence[Tensor]) -> np.ndarray:
    """Linear CKA of each layer of one network with each of another.

    With the unbiased HSIC: 1 for layers that are the same but for a rotation
    and a scale, 0 in the mean for independent ones, however many channels
    they have. It may fall a little below 0.

    Args:
        first: Features ``(n, C)`` of each layer, as :func:`rows` gives them
            for all images; C may differ.
        second: The same, of the same rows.

    Returns:
        ``(len(first), len(second))``; NaN where a layer is constant.
    """
    ks, ls = [gram(x) for x in first], [gram(x) for x in second]
    own = [[hsic(g, g) for g in grams] for grams in (ks, ls)]
    found = np.full((len(ks), len(ls)), np.nan)
    for i, k in enumerate(ks):
        for j, l in enumerate(ls):  # noqa: E741
            scale = own[0][i] * own[1][j]
            if scale > 0:
                found[i, j] = hsic(k, l) / scale**.5
    return found


def affinity(map_: Tensor, points: Sequence[tuple[float, float]]) -> Tensor:
    """Cosine of the features at some points with those at every position.

    The row of the affinity matrix that :class:`~seg_kd.losses.AffinityLoss`
    compares, for each point.

    Args:
        map_: ``(1, C, h, w)``.
        points: y and x, from 0 to 1 of the image.

    Returns:
        ``(points, h, w)``, from -1 to 1.
    """
    _, channels, height, width = map_.shape
    unit = F.normalize(map_[0].float().flatten(1), dim=0)
    index = [
        min(int(y * height), height - 1) * width +
        min(int(x * width), width - 1) for y, x in points
    ]
    return (unit[:, index].T @ unit).view(len(index), height, width)
