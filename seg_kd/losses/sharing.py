"""What several losses ask of the same maps is computed once."""
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, Dict

import torch
from torch import Tensor

_memo: Dict | None = None


@contextmanager
def sharing(memo: dict) -> Iterator[None]:
    """Functions marked :func:`once` look their results up in ``memo``.

    One dict serves one step: hand the same one to all losses of a step, and
    an empty one to the next.
    """
    global _memo
    outer, _memo = _memo, memo
    try:
        yield
    finally:
        _memo = outer


def once(function: Callable) -> Callable:
    """Marks a function whose result for the same arguments can be shared.

    Without :func:`sharing` it is called each time. A result that a loss has
    written into is not shared any further.
    """

    @wraps(function)
    def shared(*args: Any) -> Any:
        if _memo is None or torch.compiler.is_compiling():
            return function(*args)
        key = (function, torch.is_grad_enabled(), *map(_identity, args))
        if key in _memo:
            _, result, versions = _memo[key]
            if versions == _versions(result):
                return result
        result = function(*args)
        # the arguments are kept: their addresses stay theirs
        _memo[key] = args, result, _versions(result)
        return result

    return shared


def _identity(value: Any) -> Any:
    """Equal for the same numbers with the same past.

    Without a gradient a tensor has no past: ``detach()`` gives another object
    at the same place.
    """
    if not isinstance(value, Tensor):
        return value
    if value.requires_grad:
        return id(value), value._version
    return (value.data_ptr(), value.shape, value.stride(), value.dtype,
            value.device, value._version)


def _versions(result: Any) -> tuple:
    tensors = result if isinstance(result, tuple) else (result, )
    return tuple(x._version for x in tensors)
