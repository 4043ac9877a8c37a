"""The precision that the teacher runs in."""
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager

import torch
from torch import Tensor, nn

from seg_kd.errors import UserError

PRECISIONS = 'float32', 'bfloat16', 'float16'
# Forwards in which autocast casts each parameter.
CASTING = {
    kind.forward
    for kind in (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.ConvTranspose2d,
                 nn.Linear)
}


class Precision:
    """Autocast of its own for a forward, whatever the student's step does.

    Args:
        name: ``'bfloat16'`` or ``'float16'`` runs under autocast,
            ``'float32'`` without.
    """

    def __init__(self, name: str) -> None:
        if name not in PRECISIONS:
            raise UserError('the precision of the teacher is None or one of '
                            f'{PRECISIONS}, not {name!r}')
        self.name = name

    def __call__(self, device: torch.device) -> AbstractContextManager:
        if self.name == 'float32':
            return torch.autocast(device.type, enabled=False)
        return torch.autocast(device.type, getattr(torch, self.name))


class CastWeights:
    """A frozen network's weights in the type of autocast, cast once::

        with torch.autocast('cuda', torch.bfloat16), cast():
            network(images)

    Autocast keeps what it has cast only of weights that are trained: those of
    a frozen network it casts in every forward. Inside, the weights of
    convolutions and linear layers are copies in autocast's type, which gives
    the same maps; outside, the network is as it was. The copies take half of
    the memory of the weights, and are made anew where these have changed.

    Args:
        network: Its weights need no gradient.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self._copies: dict[Tensor, tuple[int, Tensor]] = {}

    @contextmanager
    def __call__(self, device: torch.device) -> Iterator[None]:
        """Inside, the copies; without autocast on the device, nothing."""
        if not torch.is_autocast_enabled(device.type):
            yield
            return
        dtype = torch.get_autocast_dtype(device.type)
        swapped = [(module, name, weight) for module in self.network.modules()
                   if type(module).forward in CASTING
                   for name, weight in module._parameters.items()
                   if weight is not None and weight.dtype == torch.float32]
        try:
            for module, name, weight in swapped:
                module._parameters[name] = self._copy(weight, dtype)
            yield
        finally:
            for module, name, weight in swapped:
                module._parameters[name] = weight

    def _copy(self, weight: nn.Parameter, dtype: torch.dtype) -> nn.Parameter:
        version, copy = self._copies.get(weight, (-1, weight))
        if (version, copy.dtype, copy.device) != (weight._version, dtype,
                                                  weight.device):
            copy = nn.Parameter(weight.detach().to(dtype), requires_grad=False)
            self._copies[weight] = weight._version, copy
        return copy
