"""The model itself, whatever the runner has wrapped around it."""
from mmengine.model import is_model_wrapper
from torch import nn


def unwrap_model(model: nn.Module) -> nn.Module:
    """Without DDP or its like."""
    return model.module if is_model_wrapper(model) else model
