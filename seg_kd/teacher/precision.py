"""The precision that the teacher runs in."""
from contextlib import AbstractContextManager

import torch

from seg_kd.errors import UserError

PRECISIONS = 'float32', 'bfloat16', 'float16'


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
