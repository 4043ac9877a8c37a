"""Copies between host and GPU that nobody waits for.

A copy from memory that is not pinned, and every number that is read, make the
host wait until the GPU has done all that it was given; then it has nothing to
do until the next kernel comes.
"""
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import torch
from torch import Tensor


def sent(tensor: Tensor, device: torch.device | str) -> Tensor:
    """A tensor on ``device``; no wait where it comes from the host."""
    device = torch.device(device)
    if device.type == 'cuda' and tensor.device.type == 'cpu':
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=device.type != 'cpu')


def stacked(tensors: Sequence[Tensor],
            device: torch.device | str,
            dtype: torch.dtype | None = None) -> Tensor:
    """Tensors of the host as one on ``device``, in one copy without a wait.

    Args:
        tensors: Of one shape ``(...)``.
        device: Where to.
        dtype: In which they travel; their own by default.

    Returns:
        ``(len(tensors), ...)``
    """
    device = torch.device(device)
    if device.type != 'cuda' and dtype in (None, tensors[0].dtype):
        return sent(torch.stack(list(tensors)), device)
    shape = len(tensors), *tensors[0].shape
    held = torch.empty(shape,
                       dtype=dtype or tensors[0].dtype,
                       pin_memory=device.type == 'cuda')
    for place, tensor in zip(held, tensors):
        place.copy_(tensor)
    return held.to(device, non_blocking=device.type != 'cpu')


class Fetched:
    """Numbers that are on their way from a GPU.

    Made while the GPU is at work, all in one copy, and read when it is an
    iteration further. What is on the host is read at once.

    Args:
        values: Numbers, and tensors of one element.

    Attributes:
        late: Whether any of them is on its way.
    """

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.names = list(values)
        values = {
            k: v.detach() if isinstance(v, Tensor) else v
            for k, v in values.items()
        }
        far = {k: v for k, v in values.items() if on_gpu(v)}
        self._near = {k: float(v) for k, v in values.items() if k not in far}
        self._far, self.late = list(far), bool(far)
        self._arrived: torch.cuda.Event | None = None
        if not far:
            return
        found = torch.stack([v.reshape(()) for v in far.values()])
        self._held = torch.empty(found.shape,
                                 dtype=found.dtype,
                                 pin_memory=found.is_cuda)
        self._held.copy_(found, non_blocking=True)
        if found.is_cuda:
            self._arrived = torch.cuda.Event(blocking=True)
            self._arrived.record()

    @cached_property
    def numbers(self) -> dict[str, float]:
        """By name, in order; waits until they are there."""
        found = self._near
        if self.late:
            if self._arrived is not None:
                self._arrived.synchronize()
            found = {**found, **dict(zip(self._far, self._held.tolist()))}
            del self._held, self._arrived
        return {name: found[name] for name in self.names}


def on_gpu(value: Any) -> bool:
    return isinstance(value, Tensor) and value.device.type != 'cpu'
