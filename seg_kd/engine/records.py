"""What a folder says of the run in it: its record, and its checkpoints."""
import glob
import json
import os
import re
from collections.abc import Mapping
from typing import Any

from mmengine.dist import is_main_process
from torch import Tensor

from seg_kd.errors import UserError
from seg_kd.networks.checkpoint import read_checkpoint, replacing

RECORD = 'run.json'
COPY = 'run.json.copy'
BROKEN = 'broken_batch.pth'  # of LossGuardHook: no checkpoint
_RESUMED = 'meta', 'state_dict', 'optimizer', 'message_hub'
_said: set[str] = set()

# -- the record ------------------------------------------------------------


def read_record(folder: str) -> dict[str, Any] | None:
    """What a folder says of the run, or the stage, in it: ``run.json``.

    Or else its copy, where it is damaged or missing.

    Raises:
        UserError: Both are damaged.
    """
    found, damaged = None, []
    for name in (RECORD, COPY):
        path = os.path.join(folder, name)
        try:
            with open(path, encoding='utf-8') as file:
                found = json.load(file)
        except FileNotFoundError:
            continue
        except ValueError:
            damaged.append(path)
            continue
        if isinstance(found, dict) and \
                found.keys() >= {'config', 'settings', 'finished'}:
            break
        found = None
        damaged.append(path)
    if damaged and found is None:
        raise UserError(
            f'{" and ".join(damaged)} cannot be read, so nobody knows which '
            'run this is: choose another --work-dir, or remove the folder')
    if found is not None and name == COPY:
        _say_once(f'warning: {os.path.join(folder, RECORD)} is damaged or '
                  f'missing, its copy {COPY} is taken')
    return found


def write_record(folder: str, record: dict[str, Any]) -> None:
    if is_main_process():
        for name in (RECORD, COPY):
            with replacing(os.path.join(folder, name)) as part, \
                    open(part, 'w', encoding='utf-8') as file:
                json.dump(record, file, indent=1)


def _say_once(text: str) -> None:
    if is_main_process() and text not in _said:
        _said.add(text)
        print(text)


# -- the checkpoints -------------------------------------------------------


def checkpoints(folder: str) -> list[str]:
    """All ``iter_N.pth`` or ``epoch_N.pth`` of a run, the newest first.

    They are in its folder, or where ``CheckpointHook(out_dir=)`` writes: that
    is in the record, and in what MMEngine notes of the last one.
    """
    noted = noted_checkpoint(folder)
    elsewhere = (read_record(folder) or {}).get('checkpoints')
    for place in (folder, elsewhere, noted and os.path.dirname(noted)):
        found = []
        for path in weight_files(place) if place else ():
            if _number(path) is not None:
                found.append(path)
        if found:
            return sorted(found, key=_number, reverse=True)
    return [noted] if noted and os.path.isfile(noted) else []


def _number(path: str) -> int | None:
    match = re.fullmatch(r'(iter|epoch)_(\d+)\.pth', os.path.basename(path))
    return int(match[2]) if match else None


def latest_checkpoint(folder: str) -> str | None:
    """The newest of :func:`checkpoints`, if there is one."""
    return next(iter(checkpoints(folder)), None)


def noted_checkpoint(folder: str) -> str | None:
    """The last checkpoint that MMEngine has noted there; it may be gone."""
    try:
        with open(os.path.join(folder, 'last_checkpoint'),
                  encoding='utf-8') as file:
            return file.read().strip() or None
    except (OSError, UnicodeDecodeError):
        return None


def weight_files(folder: str) -> list[str]:
    found = glob.glob(os.path.join(glob.escape(folder), '*.pth'))
    return [path for path in found if os.path.basename(path) != BROKEN]


def newest_whole(folder: str, own: Mapping[str, Tensor]) -> str | None:
    """The newest checkpoint that a run can go on from, if it has any.

    Damaged ones are passed over, and named.

    Args:
        folder: Of the run.
        own: The weights that the model has.

    Raises:
        UserError: All are damaged.
    """
    found, noted = checkpoints(folder), noted_checkpoint(folder)
    damaged = []
    if found and noted and (_number(noted) or 0) > (_number(found[0]) or 0):
        damaged.append(f'checkpoint {noted} is missing')
    for path in found:
        wrong = what_is_wrong(path, own)
        if wrong is None:
            if damaged:
                _say_once(f'warning: {"; ".join(damaged)}; the run goes on '
                          f'from {path}, the one before')
            return path
        damaged.append(wrong)
    if damaged:
        raise UserError(
            f'no checkpoint in {folder} is whole: {"; ".join(damaged)}; '
            'start again in another --work-dir')
    return None


def what_is_wrong(path: str, own: Mapping[str, Tensor]) -> str | None:
    """Why a run cannot go on from a checkpoint, in a line; None if it can."""
    try:
        content = read_checkpoint(path)
    except UserError as error:
        return str(error)
    except OSError as error:
        return f'checkpoint {path} cannot be read: {error}'
    parts = [part for part in _RESUMED if not content.get(part)]
    if parts:
        return f'checkpoint {path} has no {", ".join(parts)}'
    state = content['state_dict']
    names = [
        name for name, weight in own.items()
        if name not in state or state[name].shape != weight.shape
    ]
    if names:
        return (f'checkpoint {path} lacks {len(names)} of {len(own)} weights, '
                f'such as {names[0]}, or has them in another shape')
    return None
