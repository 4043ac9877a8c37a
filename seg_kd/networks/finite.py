"""Where a NaN or an infinity comes from."""
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn


def finite(tensor: Tensor) -> bool:
    return bool(tensor.isfinite().all())


def bad_weights(network: nn.Module) -> list[str]:
    """Names of the parameters and buffers that are not finite."""
    return [
        k for k, w in network.state_dict().items()
        if isinstance(w, Tensor) and not finite(w)
    ]


def bad_images(images: Tensor) -> list[int]:
    """Numbers of the images, ``(N, ...)``, that are not finite."""
    return [k for k, image in enumerate(images) if not finite(image)]


def tensors(value: Any) -> Iterator[Tensor]:
    """All of them in what a layer takes or returns."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, (tuple, list)):
        for inner in value:
            yield from tensors(inner)


class FirstBad:
    """The first layer of some networks whose output is not finite.

    Attributes:
        layer: ``'student backbone.layer2'``, or None.
        images: Numbers of the images where its output is not finite.
    """

    def __init__(self) -> None:
        self.layer: str | None = None
        self.images: list[int] = []

    @contextmanager
    def watching(self, **networks: nn.Module) -> Iterator['FirstBad']:
        handles = [
            module.register_forward_hook(self._reader(f'{owner} {path}'))
            for owner, network in networks.items()
            for path, module in network.named_modules()
            if path and not (owner == 'student' and path.startswith('distill'))
        ]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    def _reader(self, name: str):

        def read(module: nn.Module, args: Any, output: Any) -> None:
            bad = [t for t in tensors(output) if not finite(t)]
            if self.layer is None and bad:
                self.layer = name
                if bad[0].dim() > 1:
                    self.images = bad_images(bad[0])

        return read
