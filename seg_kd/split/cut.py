"""Cuts a segmentor in two at a layer of its backbone.

A layer is a split point if everything after it needs its map and nothing else
of what was computed before. That is read off the graph that autograd records
of one forward: without the layer's node no way may lead from the logits back
to the image.
"""
from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from seg_kd.errors import UserError
from seg_kd.networks.finite import tensors
from seg_kd.networks.taps import parse, resolve, select

INSIDE = 'backbone.'


class Source(nn.Module):
    """Stands where the network was cut: returns the map it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.given: Any = None

    def forward(self, *args, **kwargs) -> Tensor:
        return self.given


class Skipped(nn.Module):
    """Stands for a layer before the cut."""

    def forward(self, x, *args, **kwargs):
        return x


class Tail(nn.Module):
    """What is left of a backbone behind the cut, fed with the map there.

    The rest of the backbone's own ``forward`` is kept as it is; it runs on
    one black pixel until it comes to the cut. Maps from before the cut, which
    nobody reads, are that pixel too.
    """

    def __init__(self, backbone: nn.Module, source: Source,
                 channels: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.source = source
        self.channels = channels  # of images

    def forward(self, x: Tensor):
        self.source.given = x
        try:
            return self.backbone(x.new_zeros(len(x), self.channels, 1, 1))
        finally:
            self.source.given = None


class Trace:
    """The calls of one forward, and the graph behind its output.

    Args:
        network: In eval mode, with ``network(image)`` for a forward.
        image: ``(N, C, H, W)``.
    """

    def __init__(self, network: nn.Module, image: Tensor) -> None:
        self.network = network
        self.ends: dict[str, list[int]] = {}
        self.outputs: dict[str, Any] = {}
        self.nodes: dict[str, Any] = {}  # of single maps, as they came out
        self.versions: dict[str, int] = {}
        self._tick = 0
        handles = [
            module.register_forward_hook(partial(self._seen, path))
            for path, module in network.named_modules()
        ]
        self.image = image.clone().requires_grad_()
        try:
            with torch.enable_grad():
                self.logits = list(tensors(network(self.image)))
        finally:
            for handle in handles:
                handle.remove()

    def _seen(self, path: str, module: nn.Module, args, output) -> None:
        self._tick += 1
        self.ends.setdefault(path, []).append(self._tick)
        self.outputs[path] = output
        if isinstance(output, Tensor) and output.dim() == 4:
            self.nodes[path] = output.grad_fn
            self.versions[path] = output._version

    def layer(self, path: str) -> str:
        """The layer that makes the map which ``path`` names.

        ``'backbone[0]'`` becomes the outermost layer whose output that is.

        Raises:
            UserError: There is none, or it is not inside the backbone.
        """
        resolve(self.network, path)
        name, _ = parse(path)
        if name not in self.outputs:
            raise UserError(f'{path!r} cannot be a split point: it does not '
                            'run by itself in the forward of the network; '
                            f'{self.nearest(name)}')
        wanted = select(self.outputs[name], path)
        names = [p for p, out in self.outputs.items() if out is wanted]
        names = [name] if name in names else sorted(names, key=len)
        if not names or not names[0].startswith(INSIDE):
            raise UserError(f'{path!r} cannot be a split point: the map must '
                            'be the output of a layer inside the backbone; '
                            f'{self.nearest(name)}')
        return names[0]

    def check(self, path: str, name: str) -> None:
        """Raises UserError unless layer ``name`` is a split point."""
        reason = self.obstacle(name)
        if reason:
            raise UserError(f'{path!r} cannot be a split point: {reason}; '
                            f'{self.nearest(name)}')

    def obstacle(self, name: str) -> str:
        """Why the layer is no split point; empty if it is one."""
        if len(self.ends[name]) > 1:
            return f'it runs {len(self.ends[name])} times in a forward'
        if not self.separates(name):
            return ('what comes after it also reads maps from before it, '
                    'through a skip connection')
        if self.outputs[name]._version != self.versions[name]:
            return 'the layer after it overwrites its map in place'
        return ''

    def separates(self, name: str) -> bool:
        """Does every way from the image to the logits lead through it?"""
        cut = self.nodes.get(name)
        seen = {cut}
        stack = [x.grad_fn for x in self.logits]
        while stack:
            node = stack.pop()
            if node is None or node in seen:
                continue
            if getattr(node, 'variable', None) is self.image:
                return False
            seen.add(node)
            stack += [following for following, _ in node.next_functions]
        return cut is not None

    def split_points(self) -> list[str]:
        """All of them, in the order of the forward; one name a map."""
        found: dict[Any, str] = {}
        for name in sorted(self.nodes, key=len):
            if (name.startswith(INSIDE) and self.nodes[name] not in found
                    and not self.obstacle(name)):
                found[self.nodes[name]] = name
        return sorted(found.values(), key=lambda name: self.ends[name])

    def nearest(self, name: str, most: int = 4) -> str:
        """For an error message: the split points next to layer ``name``."""
        here = self.ends.get(name, [self._tick])[0]
        near = sorted(self.split_points(),
                      key=lambda point: abs(self.ends[point][0] - here))
        if not near:
            return f'no layer of this {type(self.network).__name__} can be one'
        return f'the nearest that can be: {", ".join(near[:most])}'

    def done_by(self, name: str) -> Iterator[str]:
        """Layers that never run again once ``name`` has run."""
        now = self.ends[name][0]
        for path, ends in self.ends.items():
            if path != name and ends[-1] < now:
                yield path


def split(network: nn.Module, path: str,
          image: Tensor) -> tuple[str, torch.Size, Tail]:
    """Cuts ``network.backbone``, in place.

    Args:
        network: A segmentor in eval mode.
        path: Of the last layer before the cut, ``'backbone.layer1'``, or a
            map of the backbone, ``'backbone[0]'``.
        image: For a dry forward.

    Returns:
        Path of the layer, shape of its map, and what is left of the backbone;
        ``network.backbone`` is that too, so that ``network`` runs on the map.

    Raises:
        UserError: The network cannot be cut there; the nearest layers are
            named where it can be.
    """
    trace = Trace(network, image)
    name = trace.layer(path)
    trace.check(path, name)
    given = trace.outputs[name].detach()
    tail = _cut(network, name, trace)
    try:
        with torch.no_grad():
            logits = list(tensors(network(given)))
    except Exception as error:  # a forward can fail in any way on one pixel
        raise UserError(
            f'{path!r} cannot be a split point: the forward of '
            f'{type(tail.backbone).__name__} does more than to call its '
            f'layers ({type(error).__name__}: {error}); '
            f'{trace.nearest(name)}') from error
    if not all(map(_close, logits, trace.logits)):
        raise UserError(f'{path!r} cannot be a split point: behind it the '
                        'network gives something else than as a whole; '
                        f'{trace.nearest(name)}')
    return name, given.shape, tail


def _cut(network: nn.Module, name: str, trace: Trace) -> Tail:
    source = Source()
    for path in trace.done_by(name):
        if path.startswith(INSIDE):
            _replace(network, path, Skipped())
    _replace(network, name, source)
    network.backbone = Tail(network.backbone, source, trace.image.shape[1])
    return network.backbone


def _replace(network: nn.Module, path: str, module: nn.Module) -> None:
    parent, _, name = path.rpartition('.')
    try:
        network.get_submodule(parent)._modules[name] = module
    except AttributeError:  # the parent itself was replaced before
        pass


def _close(one: Tensor, other: Tensor) -> bool:
    scale = other.abs().max()
    return bool((one - other).abs().max() <= 1e-4 * scale)
