"""The processes of a run: how they find each other, and who has ended."""
import os
import platform
import re
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from mmengine.dist import (all_gather_object, broadcast_object_list, init_dist,
                           is_distributed, is_main_process)
from mmengine.utils.dl_utils import set_multi_processing

from seg_kd.errors import UserError

Found = TypeVar('Found')
# What the backends of torch.distributed say when another rank is gone.
_GONE = re.compile('Connection (closed|reset|refused)|Broken pipe|gloo|NCCL',
                   re.IGNORECASE)
_ranks: list[dict[str, Any]] = []


def join(launcher: str, env_cfg: Mapping[str, Any]) -> None:
    """Joins the processes that a launcher has started; once.

    Args:
        launcher: 'none', 'pytorch', 'slurm' or 'mpi'.
        env_cfg: That of a config.
    """
    if launcher == 'none' or is_distributed():
        return
    os.environ.setdefault('OMP_NUM_THREADS', '1')  # as MMEngine, but silently
    os.environ.setdefault('MKL_NUM_THREADS', '1')
    set_multi_processing(**env_cfg.get('mp_cfg', {}), distributed=True)
    if launcher == 'pytorch' and not torch.cuda.is_available():
        torch.distributed.init_process_group(backend='gloo')
    else:
        init_dist(launcher, **env_cfg.get('dist_cfg', {}))
    _ranks[:] = all_gather_object(whoami())


def on_main(work: Callable[[], Found]) -> Found:
    """What the main process finds, on all of them.

    Where that one fails, the others end without a word of their own.
    """
    found: list[Any] = [None, False]
    error = None
    if is_main_process():
        try:
            found[0] = work()
        except Exception as caught:
            error, found[1] = caught, True
    broadcast_object_list(found)
    if error is not None:
        raise error
    if found[1]:
        raise SystemExit(2)
    return found[0]


# -- who lives -------------------------------------------------------------


def whoami() -> dict[str, Any]:
    """Host and number of this process, and when it was started."""
    number = os.getpid()
    return dict(host=socket.gethostname(),
                process=number,
                started=started(number))


def started(process: int) -> str | None:
    """What tells a process of this machine from a later one of its number.

    None where it has ended; '' where the system does not say.
    """
    if platform.system() == 'Linux':
        try:
            with open(f'/proc/{process}/stat', encoding='utf-8') as file:
                state, *rest = file.read().rpartition(')')[2].split()
            with open('/proc/sys/kernel/random/boot_id',
                      encoding='utf-8') as file:
                boot = file.read().strip()
        except OSError:
            return None
        return None if state in 'ZX' else f'{boot} {rest[18]}'
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return None
    except PermissionError:
        pass
    return ''


def has_ended(who: Mapping[str, Any]) -> bool:
    """Whether a process of this machine is gone; of another nobody knows."""
    here = who['host'] == socket.gethostname()
    return here and started(who['process']) != who['started']


@contextmanager
def reported() -> Iterator[None]:
    """What a backend says of another rank's end becomes a UserError."""
    try:
        yield
    except RuntimeError as error:
        if not (is_distributed() and _GONE.search(str(error))):
            raise
        gone = _ended_ranks()
        if not gone:
            raise
        raise UserError(
            f'rank {", ".join(gone)} has ended, so this one does: what that '
            'one says, or the system log (memory?), tells why; --resume goes '
            'on') from error


def _ended_ranks(wait: float = 2.) -> list[str]:
    until = time.monotonic() + wait  # an end may take a moment
    while True:
        gone = [
            f'{rank} (process {who["process"]} on {who["host"]})'
            for rank, who in enumerate(_ranks) if has_ended(who)
        ]
        if gone or time.monotonic() > until:
            return gone
        time.sleep(.1)
