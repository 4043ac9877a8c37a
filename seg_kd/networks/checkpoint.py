"""Loads checkpoints as weights only, and completely.

A checkpoint is a pickle, and a pickle can run code. Importing this module
replaces what MMEngine's loaders read with, which falls back to a full
unpickle, so that nothing in the process does: not ``--resume``, not
``load_from``, not ``init_cfg``, whatever the scheme (``mmcls://`` and so on);
nor any other file that MMEngine reads, be it a pickle or YAML.
"""
import io
import os
import pickle
import pickletools
import re
import warnings
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any, BinaryIO, TextIO
from urllib.parse import urlparse

import numpy as np
import torch
import yaml
from mmengine.dist import barrier, get_rank
from mmengine.fileio.handlers import PickleHandler, YamlHandler, file_handlers
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as library
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
# Metrics are NumPy scalars of any type; none of these holds an object.
_SAFE += {type(np.dtype(code)) for code in np.typecodes['All'] if code != 'O'}
# What NumPy 1 wrote.
_SAFE += [(getattr(np._core.multiarray, name), f'numpy.core.multiarray.{name}')
          for name in ('scalar', '_reconstruct')]


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
    return _read(path, path, trust, map_location)


def _read(file: str | BinaryIO, path: str, trust: bool,
          map_location: Any) -> dict[str, Any]:
    """``path`` is what messages call it."""
    if not trust:
        _check_sums(file, path)
    try:
        with torch.serialization.safe_globals(_SAFE), \
                warnings.catch_warnings():
            warnings.filterwarnings('ignore', 'Detected pickle protocol')
            checkpoint = torch.load(file,
                                    map_location=map_location,
                                    weights_only=not trust)
    except Exception as error:  # a broken pickle can fail anywhere
        raise UserError(_refusal(file, path, error)) from error
    if not isinstance(checkpoint, dict):
        raise UserError(f'checkpoint {path} holds a '
                        f'{type(checkpoint).__name__}, not a state dict')
    state = checkpoint.get('state_dict', {})
    if not isinstance(state, dict):
        raise UserError(f'checkpoint {path}: its state_dict is a '
                        f'{type(state).__name__}, not weights by name')
    if not trust:
        _check_content(checkpoint, path)
    return checkpoint


def _check_content(checkpoint: dict[str, Any], path: str) -> None:
    """Raises UserError at what no training saves, and nobody could load."""
    meta = checkpoint.get('meta')
    if not isinstance(meta, (dict, torch.Tensor, type(None))):
        raise UserError(f'checkpoint {path}: its meta is a '
                        f'{type(meta).__name__}, not a dict')
    for name, weight in checkpoint.get('state_dict', checkpoint).items():
        if not isinstance(name, str):
            raise UserError(f'checkpoint {path}: its weights have no names, '
                            f'but {name!r}')
        if isinstance(weight, torch.Tensor) and (weight.layout != torch.strided
                                                 or weight.is_meta
                                                 or weight.is_complex()
                                                 or weight.is_quantized):
            raise UserError(f'checkpoint {path}: {name} is no plain tensor of '
                            'numbers (sparse, complex, quantized, or without '
                            'memory): no network here takes it')


def _check_sums(file: str | BinaryIO, path: str) -> None:
    """Raises UserError where a byte was changed: torch does not look."""
    try:
        if not zipfile.is_zipfile(file):
            return
        with zipfile.ZipFile(file) as archive:
            if any(info.compress_type or info.file_size != info.compress_size
                   for info in archive.infolist()):
                raise zipfile.BadZipFile('torch compresses nothing, this is')
            bad = archive.testzip()
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError,
            EOFError) as error:
        raise UserError(f'checkpoint {path} is damaged: {error}') from error
    finally:
        if not isinstance(file, str):
            file.seek(0)
    if bad:
        raise UserError(f'checkpoint {path} is damaged: the check sum of '
                        f'{bad} in it is wrong; copy it again')


def _refusal(file: str | BinaryIO, path: str, error: Exception) -> str:
    cause = error.__context__ or error  # torch wraps it in advice
    reason = (str(cause).splitlines() or [''])[0].split('. Please ')[0]
    if _is_text(file):
        return (f'checkpoint {path} is a text, no file of weights: was a page '
                'downloaded in its place?')
    if not _whole(file):
        return (f'checkpoint {path} is not readable (cut off while it was '
                f'written or copied?): {reason}')
    if not isinstance(error, pickle.UnpicklingError):
        return (f'checkpoint {path} cannot be loaded: '
                f'{type(error).__name__}: {reason}')
    return (f'checkpoint {path} holds more than weights and would have to be '
            f'unpickled, which can run any code: {reason}; if you made the '
            'file yourself, set trust_checkpoint=True')


def _is_text(file: str | BinaryIO) -> bool:
    if isinstance(file, str):
        with open(file, 'rb') as opened:
            return _is_text(opened)
    file.seek(0)
    start = file.read(256)
    return len(start) > 16 and all(32 <= byte or byte in b'\t\r\n'
                                   for byte in start)


def _whole(file: str | BinaryIO) -> bool:
    """Whether the file has its end; nothing is unpickled to find out."""
    if isinstance(file, str):
        with open(file, 'rb') as opened:
            return _whole(opened)
    if zipfile.is_zipfile(file):  # its directory is at the end
        return True
    file.seek(0)
    try:  # torch's older format: four pickles, a fifth of names, the data
        for _ in range(5):
            for _ in pickletools.genops(file):
                pass
    except Exception:
        return False
    return True


def _download(url: str) -> str:
    folder = os.path.join(torch.hub.get_dir(), 'checkpoints')
    path = os.path.join(folder, os.path.basename(urlparse(url).path))
    if get_rank() == 0 and not os.path.exists(path):
        os.makedirs(folder, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, path, _hash(path))
        except (OSError, RuntimeError) as error:  # the latter: another hash
            raise UserError(f'cannot download {url}: {error}; fetch it by '
                            "hand and put the file's path where the config "
                            "names these weights: a teacher's checkpoint=, or "
                            'pretrained= or init_cfg= of a network that is '
                            'trained (None goes without them)') from error
    barrier()
    return path


def _hash(path: str) -> str | None:
    """What the SHA-256 begins with: ``name-3b2dc3af.pth`` tells it.

    Digits alone are a date rather than a hash.
    """
    match = re.search(r'-([0-9a-f]{8,64})\.\w+$', path)
    return match[1] if match and not match[1].isdigit() else None


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_from_local(filename: str, map_location: Any = None) -> dict:
    return read_checkpoint(filename, map_location=map_location)


@CheckpointLoader.register_scheme(prefixes=('http://', 'https://'), force=True)
def load_from_http(filename: str,
                   map_location: Any = None,
                   model_dir: str | None = None) -> dict:
    return read_checkpoint(filename, map_location=map_location)


def _load(file: str | BinaryIO,
          map_location: Any = None,
          weights_only: bool | None = None) -> dict:
    if isinstance(file, (str, os.PathLike)):
        return read_checkpoint(os.fspath(file), map_location=map_location)
    return _read(file, 'from a storage backend', False, map_location)


# All of MMEngine's other loaders end in one of these two. A version that
# calls them otherwise must not pass unnoticed.
for _name, _safe in dict(load_from_http=load_from_http,
                         _safe_torch_load=_load).items():
    if not hasattr(library, _name):
        raise ImportError(f'this MMEngine has no {_name}: its loaders could '
                          'unpickle any code; install onedl-mmengine==0.10.12')
    setattr(library, _name, _safe)


class _NoPickles(PickleHandler):
    """In the place of MMEngine's: lists of images, say, may be pickles."""

    def load_from_fileobj(self, file: BinaryIO, **_: Any) -> Any:
        raise UserError('a pickle can run any code when it is read, and no '
                        '.pkl or .pickle is: convert the file to JSON or text')


# Many times as fast in C: MMSegmentation's list of models is long.
_PLAIN_YAML = getattr(yaml, 'CSafeLoader', yaml.SafeLoader)


class _PlainYaml(YamlHandler):
    """In the place of MMEngine's, whose loader runs what YAML tags name."""

    def load_from_fileobj(self, file: TextIO, **_: Any) -> Any:
        return yaml.load(file, _PLAIN_YAML)


file_handlers.update(pickle=_NoPickles(),
                     pkl=_NoPickles(),
                     yaml=_PlainYaml(),
                     yml=_PlainYaml())


def weights(checkpoint: dict[str, Any]) -> dict[str, torch.Tensor]:
    """The network's own weights: no wrapper's prefix, no distillation."""
    state = checkpoint.get('state_dict', checkpoint)
    state = {key.removeprefix('module.'): w for key, w in state.items()}
    return {
        key: w
        for key, w in state.items()
        if isinstance(w, torch.Tensor) and not key.startswith(DISTILL)
    }


def student_only(state: Mapping[str, Any], classes: Sequence[str] | None,
                 palette: Any) -> dict[str, Any]:
    """A checkpoint of a network's own weights and its classes, no more."""
    own = {
        key: weight.detach().cpu().contiguous().clone()
        for key, weight in weights(dict(state_dict=state)).items()
    }
    named = dict(classes=classes, palette=palette)
    meta = {key: value for key, value in named.items() if value is not None}
    return dict(meta=dict(dataset_meta=meta), state_dict=own)


@contextmanager
def replacing(path: str) -> Iterator[str]:
    """Gives another name to write to; what is whole then takes ``path``.

    A kill leaves no half file, nor does a machine that loses its power; an
    error leaves nothing at all.
    """
    part = f'{path}.part'
    try:
        yield part
        with open(part, 'rb') as file:
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        with suppress(OSError):
            os.remove(part)
        raise


def write_checkpoint(content: dict[str, Any], path: str) -> None:
    """In one piece: see :func:`replacing`."""
    data = io.BytesIO()  # torch says nothing of a disk that is full
    torch.save(content, data)
    with replacing(path) as part, open(part, 'wb') as file:
        file.write(data.getbuffer())


def load_weights(model: nn.Module, checkpoint: dict[str, Any],
                 source: str) -> None:
    """Loads every weight of ``model``, or none.

    What ``model`` lacks (an auxiliary head, say) may be in the checkpoint.

    Raises:
        UserError: A weight is missing, not finite or has another shape; all
            are listed.
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
            f'{_listed(shapes, 4)}; give the checkpoint of this very model')
    bad = [k for k in own if k in state and not state[k].isfinite().all()]
    if bad:
        raise UserError(f'{source}: {len(bad)} weights are NaN or infinite'
                        f'{_listed(bad)}; take a checkpoint from before the '
                        'training went bad')
    model.load_state_dict(state, strict=False)


def _listed(names, most: int = 8) -> str:
    if not names:
        return ''
    more = f', and {len(names) - most} more' if len(names) > most else ''
    return f' ({", ".join(names[:most])}{more})'
