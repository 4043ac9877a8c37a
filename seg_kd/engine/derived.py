"""A config with changes, as a file that is based on the config's own."""
from typing import Any

from mmengine.config import Config

from seg_kd import shipped
from seg_kd.registry import config_of_file

DELETE = '_delete_'  # MMEngine's: nothing of the base's dict is left
_LEFT_OUT = 'folds', 'launcher', 'changes'  # changes= have been made


def derived(cfg: Config, settings: dict[str, Any]) -> str:
    """The text of a config: ``_base_``, and all that differs from it.

    What differs is what a fold and the command line have changed, and what a
    method has under ``changes``. The folds are left out: one is chosen.

    Args:
        cfg: From a file, before its stages are looked at.
        settings: What the text is to say: ``cfg.to_dict()``, changed further.
    """
    base = config_of_file(cfg.filename).to_dict()
    settings = {k: v for k, v in settings.items() if k not in _LEFT_OUT}
    settings |= dict.fromkeys(base.keys() - settings.keys())
    changed = Config(differences(base, settings)).pretty_text
    return f'_base_ = {shipped.title(cfg.filename)!r}\n\n{changed}'


def differences(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """What makes ``new`` of ``old``, as MMEngine merges it."""
    found = {}
    for key, value in new.items():
        before = old.get(key)
        if key in old and before == value:
            continue
        if isinstance(value, dict) and key in old:
            if isinstance(before, dict) and before.keys() <= value.keys():
                value = differences(before, value)
            else:
                value = {DELETE: True, **value}
        found[key] = value
    return found
