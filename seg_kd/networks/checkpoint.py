"""Loads checkpoints as weights only, and completely.

A checkpoint is a pickle, and a pickle can run code. Importing this module
replaces MMEngine's loaders of files and URLs, which fall back to a full
unpickle, so that nothing in the process does: not ``--resume``, not
``load_from``, not ``init_cfg``.
"""
import os
import pickle
import warnings
from typing import Any
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner.checkpoint import CheckpointLoader, get_torch_safe_globals
from torch import nn

from seg_kd.errors import UserError

DISTILL = 'distill.'  # keys of what distillation adds to a student


def _history_method(owner: Any, name: str) -> Any:
    """All that a checkpoint of MMEngine needs of ``getattr``."""
    if owner is HistoryBuffer or isinstance(owner, HistoryBuffer):
        return getattr(owner, name)
    raise pickle.UnpicklingError(f'Unsupported: getattr of {owner!r}')


# MMEngine's own list, but for getattr, which would open a door.
_SAFE = [g for g in get_torch_safe_globals() if g is not getattr]
_SAFE.append((_history_method, 'builtins.getattr'))


def read_checkpoint(path: str,
                    trust: bool = False,
                    map_location: Any = 'cpu') -> dict[str, Any]:
    """Reads a checkpoint from a file or an ``http(s)`` URL.

    Args:
        path: File or URL. A URL is downloaded once, with progress.
        trust: Unpickle everything. Only for files that you made yourself.
        map_location: As in :func:`torch.load`.

    Raises:
        UserError: The file is missing, corrupt, or needs ``trust``.
    """
    if urlparse(path).scheme in ('http', 'https'):
        path = _download(path)
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise UserError(f'checkpoint {path} does not exist; train it first, '
                        'or give the path of one that is there')
    try:
        with torch.serialization.safe_globals(_SAFE), \
                warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Detected pickle protocol')
            checkpoint = torch.load(path,
                                    map_location=map_location,
                                    weights_only=not trust)
    except pickle.UnpicklingError as error:
        if 'Unsupported' in str(error) or 'GLOBAL' in str(error):
            raise UserError(
                f'checkpoint {path} holds more than weights and would have '
                'to be unpickled, which can run any code: '
                f'{_first_line(error)} If you made the file yourself, set '
                'trust_checkpoint=True') from error
        raise UserError(_corrupt(path, error)) from error
    except Exception as error:  # a broken pickle can fail anywhere
        raise UserError(_corrupt(path, error)) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'checkpoint {path} holds a '
                        f'{type(checkpoint).__name__}, not a state dict')
    return checkpoint


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if 'GLOBAL' in line]
    return (lines or str(error).splitlines() or [''])[0].strip()


def _corrupt(path: str, error: Exception) -> str:
    reason = (str(error).splitlines() or [type(error).__name__])[0]
    return (f'checkpoint {path} is not readable (cut off while it was '
            f'written or copied?): {reason}')


def _download(url: str) -> str:
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    path = os.path.join(folder, os.path.basename(urlparse(url).path))
    if get_rank() == 0 and not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, path)
        except OSError as error:
            raise UserError(f'cannot download {url}: {error}; fetch it by '
                            'hand and give its path as checkpoint=') from error
    barrier()
    return path


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict:
    return read_checkpoint(filename, map_location=map_location)


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(filename: str,
                   map_location: Any = None,
                   model_dir: str | None = None) -> dict:
    return read_checkpoint(filename, map_location=map_location)


def weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The network's own weights: no wrapper's prefix, no distillation."""
    state = checkpoint.get('state_dict', checkpoint)
    state = {key.removeprefix('module.'): w for key, w in state.items()}
    return {
        key: w
        for key, w in state.items()
        if isinstance(w, torch.Tensor) and not key.startswith(DISTILL)
    }


def load_weights(model: nn.Module, checkpoint: dict[str, Any],
                 source: str) -> None:
    """Loads every weight of ``model``, or none.

    What ``model`` lacks (an auxiliary head, say) may be in the checkpoint.

    Raises:
        UserError: A weight is missing or has another shape; all are listed.
    """
    state, own = weights(checkpoint), model.state_dict()
    counters = [k for k in own if k.endswith('num_batches_tracked')]
    missing = [k for k in own if k not in state and k not in counters]
    shapes = [
        f'{k} is {tuple(state[k].shape)}, the model has {tuple(w.shape)}'
        for k, w in own.items() if k in state and state[k].shape != w.shape
    ]
    if missing or shapes:
        raise UserError(
            f'{source} does not fit {type(model).__name__}: '
            f'{len(missing)} of {len(own)} weights are missing'
            f'{_listed(missing)}; {len(shapes)} have another shape'
            f'{_listed(shapes)}; give the checkpoint of this very model')
    model.load_state_dict(state, strict=False)


def _listed(names, most: int = 8) -> str:
    if not names:
        return ''
    more = f', and {len(names) - most} more' if len(names) > most else ''
    return f' ({", ".join(names[:most])}{more})'
