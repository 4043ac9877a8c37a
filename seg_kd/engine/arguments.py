"""What a class takes: the names, and what its annotations and defaults say."""
import inspect
import numbers
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal, Union

from torch import nn

NAMED = {
    bool: 'True or False',
    int: 'a whole number',
    float: 'a number',
    str: 'a text',
    dict: 'a dict',
    list: 'a list',
    type(None): 'None'
}


@dataclass(frozen=True)
class Arguments:
    """What a constructor takes.

    Attributes:
        known: By name.
        required: Names of those without a default.
        closed: Whether it takes nothing else, for certain.
    """

    known: Mapping[str, inspect.Parameter]
    required: tuple[str, ...]
    closed: bool


@cache
def arguments_of(*kinds: Callable) -> Arguments:
    """What these take together; the first says what is required.

    Where a constructor hands ``**kwargs`` on, those of the classes it derives
    from are taken to be what it is handed on to.
    """
    known: dict[str, inspect.Parameter] = {}
    closed = True
    for kind in kinds:
        for function in _constructors(kind):
            found = list(_signature(function).values())
            if isinstance(kind, type):
                found = found[1:]  # self
            rest = [p.name for p in found if p.kind is p.VAR_KEYWORD]
            for parameter in found:
                if parameter.kind not in (parameter.VAR_KEYWORD,
                                          parameter.VAR_POSITIONAL):
                    known.setdefault(parameter.name, parameter)
            if not rest:
                break
            closed = closed and len(kinds) > 1
    first = _signature(_constructors(kinds[0])[0]).values() if _constructors(
        kinds[0]) else ()
    required = tuple(
        p.name for p in list(first)[isinstance(kinds[0], type):]
        if p.default is p.empty and p.kind in (p.POSITIONAL_OR_KEYWORD,
                                               p.KEYWORD_ONLY))
    return Arguments(known, required, closed)


def _constructors(kind: Callable) -> list[Callable]:
    if not isinstance(kind, type):
        return [kind]
    ends = (object, nn.Module)
    return [
        vars(base)['__init__'] for base in kind.__mro__
        if '__init__' in vars(base) and base not in ends
    ]


def _signature(function: Callable) -> Mapping[str, inspect.Parameter]:
    try:
        found = inspect.signature(function).parameters
    except ValueError:  # written in C
        found = inspect.signature(lambda self, **more: None).parameters
    return {
        name: parameter.replace(annotation=_evaluated(parameter, function))
        for name, parameter in found.items()
    }


def _evaluated(parameter: inspect.Parameter, function: Callable) -> Any:
    """The annotation; ``Any`` where it names what is not there."""
    hint = parameter.annotation
    if not isinstance(hint, str):
        return hint
    try:
        return eval(hint, getattr(function, '__globals__', {}))
    except Exception:  # of code that runs for type checkers only
        return Any


def wanted(value: Any, parameter: inspect.Parameter) -> str | None:
    """What a parameter takes instead of a value; None where it may do."""
    hint = parameter.annotation
    if hint is parameter.empty:
        hint = _like(parameter.default)
    elif value is None and parameter.default is not parameter.empty:
        return None  # many a default of None is annotated without it
    return None if fits(value, hint) else said(hint)


def _like(default: Any) -> Any:
    """What a default that has no annotation lets expect."""
    if isinstance(default, bool):
        return bool | None
    if isinstance(default, (int, float)):
        return float | list | None
    if isinstance(default, (list, tuple)):
        return list | dict | None
    if isinstance(default, dict):
        return dict | list | None
    return Any


def fits(value: Any, hint: Any) -> bool:
    """Whether a value of a config is what an annotation says.

    Only what is certain is told: an annotation that this does not know, or
    an object that is no plain value, fits.
    """
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return any(fits(value, one) for one in inner)
    if origin is Literal:
        return value in inner
    kind = type(None) if hint is None else origin or hint
    if hint is Any:
        return True
    plain = value is None or isinstance(
        value, (bool, int, float, str, list, tuple, dict))
    if not isinstance(kind, type) or not plain:
        return True
    if kind is bool:
        return isinstance(value, bool) or value in (0, 1)
    if kind is int:
        return isinstance(value, int)
    if kind in (float, numbers.Number):
        return isinstance(value, (int, float))
    if issubclass(kind, (str, os.PathLike)):
        return isinstance(value, str)
    if issubclass(kind, Mapping):  # or several, which few annotations say
        many = value if isinstance(value, (list, tuple)) else [value]
        return all(isinstance(one, dict) for one in many)
    if issubclass(kind, Iterable):
        return _fits_all(value, kind, inner)
    if kind is type(None):
        return value is None
    return not isinstance(value, (bool, int, float))


def _fits_all(value: Any, kind: type, inner: tuple) -> bool:
    if isinstance(value, str) and kind not in (list, tuple, set):
        return not inner or fits('', inner[0])
    if not isinstance(value, (list, tuple)):
        return False
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        return len(value) == len(inner) and all(map(fits, value, inner))
    return not inner or all(fits(one, inner[0]) for one in value)


def said(hint: Any) -> str:
    """An annotation in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        words = [said(one) for one in inner if one is not type(None)]
        return ' or '.join(dict.fromkeys(words))
    if origin is Literal:
        return ' or '.join(map(repr, inner))
    kind = origin or hint
    if kind is numbers.Number:
        return 'a number'
    for known, words in NAMED.items():
        if kind is known:
            return words
    if isinstance(kind, type) and issubclass(kind, Mapping):
        return 'a dict'
    if isinstance(kind, type) and issubclass(kind, Iterable):
        return 'a list'
    return getattr(kind, '__name__', str(kind))
