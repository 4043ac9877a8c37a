"""``torch.compile`` for a network that is tapped and stopped early."""
from typing import Any

import torch
from torch import nn

from seg_kd.errors import UserError
from seg_kd.networks.taps import Taps, parse


def compile_untapped(taps: Taps, options: dict[str, Any]) -> list[str]:
    """Compiles the largest parts inside of which nothing is tapped.

    Taps are hooks that may end the forward, and no compiled graph can hold
    them. So each part is compiled by its ``forward`` alone: its own hooks run
    around that as before, and what lies behind the last tap is never run, nor
    compiled.

    Args:
        taps: Those of the network.
        options: Of ``torch.compile``.

    Returns:
        Names of the parts.

    Raises:
        UserError: ``torch.compile`` refuses the options.
    """
    modules = dict(taps.model.named_modules())
    names = untapped(modules, around(taps))
    try:
        for name in names:
            part = modules[name]
            part.forward = torch.compile(part.forward, **options)
    except (TypeError, RuntimeError) as error:
        raise UserError(f'TeacherHook(compile=): {error}') from error
    return names


def around(taps: Taps) -> set[str]:
    """Names of the modules that hold a tapped one, the network included."""
    found = {''}
    for path in taps.modules:
        parts = parse(path)[0].split('.')
        found |= {'.'.join(parts[:i]) for i in range(1, len(parts))}
    return found


def untapped(modules: dict[str, nn.Module], opened: set[str]) -> list[str]:
    """The outermost modules with weights and a forward, none of ``opened``."""
    found: list[str] = []
    for name, module in modules.items():  # parents before children
        inside = any(name.startswith(f'{other}.') for other in found)
        useful = (type(module).forward is not nn.Module.forward
                  and any(True for _ in module.parameters()))
        if name not in opened and useful and not inside:
            found.append(name)
    return found
