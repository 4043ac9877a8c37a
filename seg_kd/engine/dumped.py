"""Configs that came with a run: read as data, without running them.

A config is Python, and runs. What a run has dumped of its own is nothing but
values, and may have been sent by somebody else: of that nothing is run.
"""
import ast
from collections.abc import Iterator
from typing import Any

from mmengine.config import Config
from mmengine.registry import Registry, root
from mmengine.utils import import_modules_from_strings

from seg_kd.errors import UserError


def parse_dumped(text: str, name: str) -> Config:
    """The config in a text that :meth:`Config.dump` has written.

    Modules that it names under ``custom_imports`` are imported, as far as
    they are on this machine. Nothing in it is trusted: ``trust_checkpoint``
    is off.

    Args:
        text: Python, of assignments of plain values.
        name: Of the file, for messages.

    Raises:
        UserError: It holds anything else, or names a type that is not in one
            of MMEngine's registries.
    """
    try:
        body = ast.parse(text).body
        found = dict(map(_assigned, body))
    except (SyntaxError, ValueError, TypeError, RecursionError,
            MemoryError) as error:
        raise UserError(f'{name}: its config is none that a run has dumped '
                        f'({error}); what it holds is not run') from error
    imports = found.get('custom_imports')
    if isinstance(imports, dict):
        try:
            import_modules_from_strings(imports.get('imports'), True)
        except TypeError:
            pass
    _check_types(found, name)
    return Config(found)


def read_dumped(path: str) -> Config:
    """The same of a file.

    Raises:
        UserError: See :func:`parse_dumped`; or it cannot be read.
    """
    try:
        with open(path, encoding='utf-8') as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f'{path} cannot be read: {error}') from error
    found = parse_dumped(text, path)
    return Config(found._cfg_dict, cfg_text=text or ' ', filename=path)


def _assigned(line: ast.stmt) -> tuple[str, Any]:
    if isinstance(line, ast.Assign) and len(line.targets) == 1 and isinstance(
            line.targets[0], ast.Name):
        return line.targets[0].id, _value(line.value)
    raise ValueError(f'line {line.lineno} is no setting')


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_value(node.operand)
    if isinstance(node, (ast.List, ast.Tuple, ast.Set)):
        made = [_value(inner) for inner in node.elts]
        return tuple(made) if isinstance(node, ast.Tuple) else made
    if isinstance(node, ast.Dict) and None not in node.keys:
        return {_value(k): _value(v) for k, v in zip(node.keys, node.values)}
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return float(node.id)
    if isinstance(node, ast.Call) and isinstance(
            node.func, ast.Name) and node.func.id == 'dict':
        first = node.args[0] if len(node.args) == 1 else ast.Dict([], [])
        names = [word.arg for word in node.keywords]
        if isinstance(first, ast.Dict) and None not in names and \
                len(node.args) < 2:
            values = [_value(word.value) for word in node.keywords]
            return {**_value(first), **dict(zip(names, values))}
    raise ValueError(f'line {node.lineno} holds code')


def _check_types(node: Any, name: str) -> None:
    """Of names with a module, those that a registry has; no trust.

    MMEngine imports what another names, and calls it.
    """
    if isinstance(node, dict):
        kind = node.get('type')
        if isinstance(kind, str) and '.' in kind and \
                kind not in set(_registered()):
            raise UserError(f'{name}: its config names the type {kind!r}, '
                            'which is in no registry: it is not run')
        if 'trust_checkpoint' in node:
            node['trust_checkpoint'] = False
    if isinstance(node, (dict, list, tuple)):
        for inner in node.values() if isinstance(node, dict) else node:
            _check_types(inner, name)


def _registered() -> Iterator[str]:
    """How a config may name what is registered, but for the bare name."""
    for registry in vars(root).values():
        if isinstance(registry, Registry):
            for part in (registry, *registry.children.values()):
                for name, kind in part.module_dict.items():
                    yield f'{part.scope}.{name}'
                    yield f'{kind.__module__}.{kind.__qualname__}'
