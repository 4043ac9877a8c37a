"""From a config as it is written to the form that MMEngine's runner takes.

What our configs may say besides:

- ``teacher = dict(type='TeacherHook', ...)``: the teacher of all distillation
  hooks; it is put before them.
- ``custom_hooks = dict(KDHook=dict(weight=1.))``: hooks by name, so that a
  config can change one of them. The name is the type, unless ``type`` is
  given. A list of hooks is as good.
- ``stages``, by name as well, or a list of dicts with ``name``: see
  :mod:`seg_kd.engine.stages`.
- ``changes``: what a method changes in the experiment, such as its model.
- ``'config:PATH'``, a string that stands for another setting of the config.
"""
import copy
from collections.abc import Callable
from functools import reduce
from typing import Any

from mmengine.config import Config, ConfigDict

from seg_kd import shipped
from seg_kd.errors import UserError
from seg_kd.hooks import DistillHook, TeacherHook
from seg_kd.registry import HOOKS, class_of, is_kind, type_name

REFERENCE = 'config:'
TEACHER = 'teacher'  # the name of the hook that is put before the others


def plain(node: Any) -> Any:
    """A copy in which nothing is shared, of plain dicts and lists."""
    return ConfigDict(node=copy.deepcopy(node)).to_dict()['node']


def apply_changes(cfg: Config) -> None:
    """Makes the ``changes`` that a method says."""
    changes = cfg.pop('changes', None)
    if changes:
        cfg.merge_from_dict(plain(changes))


# -- hooks -----------------------------------------------------------------


def named_hooks(hooks: Any, teacher: Any) -> dict[str, Any]:
    """The hooks by name, in order; those of a list by their place in it.

    With the teacher before them, if one of them learns from it.
    """
    if isinstance(hooks, dict):
        found = {
            k: _with_type(k, hook)
            for k, hook in hooks.items() if hook is not None
        }
    else:
        found = {str(i): hook for i, hook in enumerate(hooks or [])}
    learn = any(is_kind(hook, HOOKS, DistillHook) for hook in found.values())
    taught = any(is_kind(hook, HOOKS, TeacherHook) for hook in found.values())
    if teacher and learn and not taught:
        found = {TEACHER: teacher, **found}
    return found


def with_stages(cfg: Config) -> list[dict[str, Any]]:
    """The config, and what each of its stages changes in it."""
    stages = cfg.get('stages') or []
    changes = stages.values() if isinstance(stages, dict) else stages
    return [cfg, *filter(None, changes)]


def teachers_of(cfg: Config) -> list[dict[str, Any]]:
    """The teachers that a config or a stage names, to be changed in place.

    They are in ``teacher``, or among ``custom_hooks``. What a stage changes
    in one besides its network and its weights does not make it another.
    """
    found = []
    for part in with_stages(cfg):
        hooks = part.get('custom_hooks') or {}
        named = hooks.items() if isinstance(hooks, dict) else enumerate(hooks)
        own = [part[TEACHER]] if part.get(TEACHER) else []
        own += [
            hook for name, hook in named if isinstance(hook, dict)
            and is_kind(_with_type(name, hook), HOOKS, TeacherHook)
        ]
        found += own if part is cfg else [
            t for t in own if 'model' in t or 'checkpoint' in t
        ]
    return found


def _with_type(name: str, hook: Any) -> Any:
    return ConfigDict(type=name, **hook) if 'type' not in hook else hook


def complete_hooks(hooks: Any, teacher: Any) -> list:
    """``custom_hooks`` as MMEngine takes them: a list."""
    return list(named_hooks(hooks, teacher).values())


def pick(name: str, entries: dict[str, Any], what: str) -> str | None:
    """Key of the entry that is meant by its key, type, term or number.

    Raises:
        UserError: Several are meant, or the number is too high.
    """
    keys = list(entries)
    if name.isdigit():
        if int(name) >= len(keys):
            raise UserError(f'{what} has no number {name}: there are '
                            f'{len(keys)}, counted from 0')
        return keys[int(name)]
    if name in entries:
        return name
    found = [key for key, entry in entries.items() if name in _names(entry)]
    if len(found) > 1:
        raise UserError(f'{what} has {len(found)} of {name!r}: say which by '
                        'its name, or by its number')
    return found[0] if found else None


def _names(entry: Any) -> set[str]:
    """What a hook, a stage or a transform may be called."""
    kind = type_name(entry)
    given = entry.get('name') if isinstance(entry, dict) else None
    return {kind, given or kind.removesuffix('Hook').lower()} - {''}


def known(entries: dict[str, Any]) -> list[str]:
    """How to name them in a message."""
    return [
        key if not key.isdigit() else type_name(entry) or
        (entry.get('name') if isinstance(entry, dict) else '') or key
        for key, entry in entries.items()
    ]


def change_hooks(hooks: dict[str, Any], changes: dict[str, Any]) -> list:
    """Another hook in the place of one, or settings of it; None: without it.

    Where one of the changes is a hook that trains parts of its own alone,
    such as KA's translator, the hooks that are not changed and need the
    student are left out, and so are teachers that only these learn from.

    Raises:
        UserError: It is unclear which one is meant.
    """
    changed, own = dict(hooks), set()
    for name, change in changes.items():
        key = pick(name, hooks, 'custom_hooks')
        if change is None and key is not None:
            del changed[key]
        elif change is None and is_kind(dict(type=name), HOOKS, object):
            continue  # it is not there
        elif key is None and 'type' not in (change or {}):
            if not is_kind(dict(type=name), HOOKS, object):
                raise UserError(f'custom_hooks has no hook {name!r}'
                                f'{shipped.nearest(name, known(hooks))}')
            changed[name] = _with_type(name, change or {})
        elif key is None or 'type' in change:
            changed[key or name] = ConfigDict(change)
        else:
            changed[key] = ConfigDict(
                Config._merge_a_into_b(plain(change), hooks[key]))
        own.add(key or name)
    return list(_needed(changed, own).values())


def _needed(hooks: dict[str, Any], own: set[str]) -> dict[str, Any]:
    """Without what has no part in a stage that needs no student."""
    learn = {
        key: class_of(hook, HOOKS)
        for key, hook in hooks.items() if is_kind(hook, HOOKS, DistillHook)
    }
    if all(learn[key].needs_student for key in own & learn.keys()):
        return hooks
    out = {
        key
        for key, kind in learn.items() if kind.needs_student and key not in own
    }
    used = {hooks[key].get('teacher_name') for key in learn.keys() - out}
    out |= {
        key
        for key, hook in hooks.items() if is_kind(hook, HOOKS, TeacherHook)
        and None not in used and hook.get('name', 'teacher') not in used
    }
    return {key: hook for key, hook in hooks.items() if key not in out}


# -- references ------------------------------------------------------------


def resolve(cfg: Config) -> None:
    """Puts the settings meant into the place of ``'config:PATH'``.

    Raises:
        UserError: There is no such setting.
    """
    found = _resolved(cfg._cfg_dict, cfg)
    for key in list(cfg):
        cfg[key] = found[key]


def _resolved(node: Any, cfg: Config, seen: tuple[str, ...] = ()) -> Any:

    def meant(path: str) -> Any:
        if path in seen:
            raise UserError(f'{REFERENCE + path!r} stands for itself')
        found = _resolved(look_up(cfg, path), cfg, (*seen, path))
        return copy.deepcopy(found)

    return replaced(node, REFERENCE, meant)


def replaced(node: Any, prefix: str, meant: Callable[[str], Any]) -> Any:
    """A copy with what is meant in the place of each ``'prefix...'``."""
    if isinstance(node, dict):
        return ConfigDict({
            key: replaced(v, prefix, meant)
            for key, v in node.items()
        })
    if isinstance(node, (list, tuple)):
        return type(node)(replaced(v, prefix, meant) for v in node)
    if isinstance(node, str) and node.startswith(prefix):
        return meant(node.removeprefix(prefix))
    return node


def look_up(cfg: Config, path: str) -> Any:
    try:
        return reduce(inner, path.split('.'), cfg._cfg_dict)
    except (KeyError, IndexError, TypeError, ValueError):
        raise UserError(f'{REFERENCE + path!r} stands for a setting that the '
                        'config does not have') from None


def look_up_or(cfg: Config, path: str) -> Any:
    """The setting at a path as :func:`locate` gives it; None without one."""
    try:
        return reduce(inner, path.split('.'), cfg._cfg_dict)
    except (KeyError, IndexError, TypeError, ValueError):
        return None


def inner(node: Any, part: str) -> Any:
    """One step of a path: an entry of a dict, or of a list by its number."""
    return node[part if isinstance(node, dict) else int(part)]


# -- the command line ------------------------------------------------------


def locate(cfg: Config, path: str) -> str:
    """``path`` as MMEngine merges it: list entries by number, hooks by key.

    A part of it may be the name of a hook, stage or transform, or its number.

    Raises:
        UserError: With the names that are there.
    """
    parts, done, node = path.split('.'), [], cfg._cfg_dict
    if parts[0] == 'custom_hooks' and len(parts) > 1:
        hooks = named_hooks(cfg.get('custom_hooks'), cfg.get(TEACHER))
        key = pick(parts[1], hooks, 'custom_hooks')
        if key == TEACHER and hooks[TEACHER] is cfg.get(TEACHER):
            parts[:2] = [TEACHER]
        elif key is not None:
            parts[1] = key
        elif len(parts) > 2 and not is_kind(dict(type=parts[1]), HOOKS,
                                            object):
            raise UserError(f'custom_hooks has no hook {parts[1]!r}'
                            f'{shipped.nearest(parts[1], known(hooks))}')
    for k, part in enumerate(parts):
        if isinstance(node, (list, tuple)):
            entries = {str(i): entry for i, entry in enumerate(node)}
            key = pick(part, entries, '.'.join(done))
            if key is None:
                raise UserError(
                    f'{".".join(done)} has nothing that is called {part!r}'
                    f'{shipped.nearest(part, known(entries))}')
            part = key
        elif part.isdigit() and done == ['stages']:
            part = pick(part, node, 'stages') or part
        done.append(part)
        if isinstance(node, dict):
            node = node.get(part)
        else:
            node = node[int(part)] if isinstance(node, (list, tuple)) else None
    return '.'.join(done)


def assign(cfg: Config, path: str, value: Any) -> None:
    """Sets one setting; a dict with ``type`` takes the place of another."""
    if isinstance(value, dict) and 'type' in value:
        *above, last = path.split('.')
        node = reduce(inner, above, cfg._cfg_dict)
        node[int(last) if isinstance(node, list) else last] = ConfigDict(value)
    else:
        cfg.merge_from_dict({path: value})
