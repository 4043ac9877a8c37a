"""Mixed precision: bfloat16 wherever the device has it."""
from contextlib import contextmanager

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from torch import nn

from seg_kd.engine.stages import named_stages
from seg_kd.registry import OPTIM_WRAPPERS


def use_amp(cfg: Config) -> None:
    """Mixed precision for the config and all of its stages.

    bfloat16, or float16 with a scaled loss on a GPU that only emulates it
    (below compute capability 8.0).
    """
    emulated = (torch.cuda.is_available() and
                not torch.cuda.is_bf16_supported(including_emulation=False))
    for part in (cfg, *named_stages(cfg).values()):
        if 'optim_wrapper' in part:
            part['optim_wrapper']['type'] = ('AmpOptimWrapper' if emulated else
                                             'BFloat16OptimWrapper')


@OPTIM_WRAPPERS.register_module()
class BFloat16OptimWrapper(OptimWrapper):
    """Runs the forward under bfloat16 autocast; needs no loss scaling.

    MMEngine's ``AmpOptimWrapper`` refuses to run without a GPU.
    """

    @contextmanager
    def optim_context(self, model: nn.Module):
        device = next(model.parameters()).device.type
        with super().optim_context(model), \
                torch.autocast(device, dtype=torch.bfloat16):
            yield
