"""One work directory has one owner."""
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from mmengine.dist import is_main_process

from seg_kd.engine.processes import has_ended, on_main, whoami
from seg_kd.errors import UserError

try:
    import fcntl
except ImportError:  # on Windows
    fcntl = None

NAME = 'run.lock'


@contextmanager
def owned(folder: str) -> Iterator[None]:
    """Keeps other trainings out of ``folder`` while the block runs.

    The file ``run.lock`` in it names host, process and time. A lock whose
    process is gone counts no more. A folder that is made here and stays empty
    goes again.

    Raises:
        UserError: Another process has it.
    """
    path = os.path.join(folder, NAME)
    new = on_main(lambda: _take(path))
    try:
        yield
    finally:
        if is_main_process():
            _release(path, new)


def move(folder: str, kept: str) -> None:
    """Renames a folder; its lock, if there is one, guards the old name."""
    os.rename(folder, kept)
    if os.path.exists(os.path.join(kept, NAME)):
        os.makedirs(folder)
        os.rename(os.path.join(kept, NAME), os.path.join(folder, NAME))


def _take(path: str) -> list[str]:
    """Gives the folders that had to be made for it, the innermost last."""
    folder = above = os.path.dirname(os.path.abspath(path))
    new = []
    while not os.path.isdir(above):
        new.insert(0, above)
        above = os.path.dirname(above)
    os.makedirs(folder, exist_ok=True)
    with _alone(folder):
        owner = read(path)
        if owner is not None:
            _refuse(path, owner)
            os.remove(path)
        _create(path)
    return new


def _refuse(path: str, owner: dict[str, Any]) -> None:
    """Raises UserError unless the process of a lock has ended."""
    folder = os.path.dirname(path)
    delete = f'if it runs no more, delete {path}'
    if not owner.keys() >= {'host', 'process', 'started', 'since'}:
        raise UserError(f'{folder} is in use by another training, but its '
                        f'lock cannot be read; {delete}')
    if has_ended(owner):
        return
    who = f'process {owner["process"]} on {owner["host"]}'
    here = owner['host'] == whoami()['host']
    then = 'wait for it, or choose another --work-dir' if here else delete
    raise UserError(f'{folder} is in use: {who} has been training there since '
                    f'{owner["since"]}; {then}')


def read(path: str) -> dict[str, Any] | None:
    """What a lock says; {} where it cannot be read, None without one."""
    try:
        with open(path, encoding='utf-8') as file:
            found = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _create(path: str) -> None:
    """In one piece, and not where another machine has just done so."""
    part = f'{path}.part'
    with open(part, 'w', encoding='utf-8') as file:
        json.dump({
            **whoami(), 'since': time.strftime('%Y-%m-%d %H:%M:%S')
        }, file)
    try:
        os.link(part, path)
    except FileExistsError:
        _refuse(path, read(path) or {})
    except OSError:  # a file system without links
        os.replace(part, path)
    finally:
        with suppress(OSError):
            os.remove(part)


@contextmanager
def _alone(folder: str) -> Iterator[None]:
    """One process of this machine at a time: two may find one stale lock."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without it
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _release(path: str, new: list[str]) -> None:
    me, owner = whoami(), read(path) or {}
    with suppress(OSError):
        if owner.get('process') == me['process'] and \
                owner.get('host') == me['host']:
            os.remove(path)
        for folder in reversed(new):
            os.rmdir(folder)
