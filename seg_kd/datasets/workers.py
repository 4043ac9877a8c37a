"""How many processes load images, where the config does not say."""
import os
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import is_distributed

MOST = 16  # of one training process
EVALUATION = 4  # which has the machine to itself, and an image at a time
QUOTA = Path('/sys/fs/cgroup/cpu.max')  # of a container


def with_workers(dataloader: dict[str, Any]) -> dict[str, Any]:
    """The config of a loader with this machine's defaults.

    ``num_workers`` by :func:`default_workers`, ``persistent_workers`` where
    there are any, ``pin_memory`` with a GPU. What the config names stays.
    """
    count = default_workers()
    if (dataloader.get('sampler') or {}).get('shuffle') is False:
        count = min(count, EVALUATION)
    count = dataloader.get('num_workers', count)
    return dict(num_workers=count,
                persistent_workers=count > 0,
                pin_memory=torch.cuda.is_available()) | dataloader


def default_workers() -> int:
    """Loader processes of one training process.

    With a GPU most of its share of the cores, 16 at most. Two without one, as
    training takes the cores itself. As many as ``OMP_NUM_THREADS``, two at
    least, where that confines a run of one process: others may run beside it.
    """
    share = max(1, cores() // local_processes())
    count = min(MOST, share - share // 8)
    if not torch.cuda.is_available():
        return min(count, 2)
    threads = os.environ.get('OMP_NUM_THREADS', '')
    if threads.isdigit() and not is_distributed():
        return min(count, max(2, int(threads)))
    return count


def cores() -> int:
    """Those that this process may use, by its affinity and its quota."""
    found = (len(os.sched_getaffinity(0))
             if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1)
    try:
        quota, period = QUOTA.read_text(encoding='ascii').split()
        return min(found, max(1, int(quota) // int(period)))
    except (OSError, ValueError):  # no such file, or 'max'
        return found


def local_processes() -> int:
    """Training processes on this machine, as torchrun, MPI or Slurm say."""
    for name in ('LOCAL_WORLD_SIZE', 'OMPI_COMM_WORLD_LOCAL_SIZE',
                 'SLURM_NTASKS_PER_NODE'):
        if os.environ.get(name, '').isdigit():
            return max(1, int(os.environ[name]))
    return 1
