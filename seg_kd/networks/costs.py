"""What a network costs, but for its time."""
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode


def parameters(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@torch.no_grad()
def flops(network: nn.Module, *inputs: Any, **settings: Any) -> int:
    """Floating-point operations of one forward; a multiply-add is two."""
    with FlopCounterMode(display=False) as counter:
        network(*inputs, **settings)
    return counter.get_total_flops()
