"""The model itself, whatever has been wrapped around it."""
from torch import nn

# By name: to import FSDP takes as long as to import torch.
WRAPPERS = {
    'DataParallel', 'DistributedDataParallel', 'FullyShardedDataParallel',
    'BaseModelWrapper', 'MMDeepSpeedEngineWrapper'
}


def unwrap_model(model: nn.Module) -> nn.Module:
    """Without DDP or its like, and what is derived from them."""
    kinds = {kind.__name__ for kind in type(model).__mro__}
    return model.module if kinds & WRAPPERS else model
