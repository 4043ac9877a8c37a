"""What a run is made of besides its settings: files, data and code."""
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache, lru_cache
from importlib import metadata
from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

import seg_kd
from seg_kd.datasets.check import list_files, unwrapped
from seg_kd.datasets.unlabelled import unlabelled_files
from seg_kd.engine.complete import replaced
from seg_kd.errors import UserError
from seg_kd.registry import class_of

LIBRARIES = ('torch', 'numpy', 'onedl-mmengine', 'onedl-mmcv',
             'onedl-mmsegmentation', 'albumentations')
# What :func:`data_of` finds, in words.
COUNTED = dict(images='training images', unlabelled='images without labels')
WEIGHED = dict(bytes='training data', unlabelled_bytes=COUNTED['unlabelled'])


def made_of(cfg: Mapping[str, Any]) -> dict[str, Any]:
    """``files``, ``data`` and ``code`` of a stage, as JSON has them.

    Args:
        cfg: Its complete config, as far as it decides about the outcome.
    """
    return dict(files=files_of(cfg),
                data=data_of(cfg.get('train_dataloader') or {}),
                code=code())


def files_of(node: Any) -> dict[str, str]:
    """Path and hash of each file that settings name: weights, configs."""
    paths = sorted(set(_strings(node)))
    return {p: _hash(p, os.stat(p).st_mtime_ns) for p in paths
            if os.path.isfile(p)}  # yapf: disable


def _strings(node: Any) -> Iterator[str]:
    if isinstance(node, Mapping):
        node = list(node.values())
    if isinstance(node, (list, tuple)):
        for inner in node:
            yield from _strings(inner)
    elif isinstance(node, str) and 0 < len(node) < 4096:
        yield node


@lru_cache(maxsize=256)
def _hash(path: str, changed: int) -> str:
    with open(path, 'rb') as file:
        digest = hashlib.sha256()
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()[:16]


def data_of(loader: Mapping[str, Any]) -> dict[str, int]:
    """``images`` and ``bytes`` of a loader; {} where nobody can tell.

    With images without labels ``unlabelled`` and ``unlabelled_bytes``, too.
    """
    images = size = 0
    root = None
    for dataset in unwrapped(loader.get('dataset')):
        kind = class_of(dataset, DATASETS)
        if kind is None or not issubclass(kind, BaseSegDataset):
            return {}
        built, infos = list_files(dataset)
        root = built.data_root
        images += len(infos)
        for info in infos:
            for name in ('img_path', 'seg_map_path'):
                if os.path.isfile(info.get(name) or ''):
                    size += os.path.getsize(info[name])
    found = dict(images=images, bytes=size)
    options = loader.get('unlabelled')
    if options is not None:
        more = unlabelled_files(options, root)
        found.update(unlabelled=len(more),
                     unlabelled_bytes=sum(map(os.path.getsize, more)))
    return found


def other_data(old: Mapping[str, int], new: Mapping[str, int]) -> list[str]:
    """What of :func:`data_of` has changed."""
    return [key for key in old if old[key] != new.get(key, old[key])]


def measured_by(cfg: Mapping[str, Any]) -> str | None:
    """A hash of what a run is validated on, and how; None without it."""
    loader = cfg.get('val_dataloader')
    if not loader:
        return None
    said = [loader.get('dataset'), cfg.get('val_evaluator')]
    return hashed([replaced(said, '', _in_one_spelling), data_of(loader)])


def _in_one_spelling(text: str) -> str:
    """A path from here, if there is such a file or folder."""
    there = os.path.exists(text)
    return os.path.relpath(os.path.realpath(text)) if there else text


def hashed(settings: Any) -> str:
    """A short hash of what JSON can say."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


@cache
def code() -> dict[str, str]:
    """A hash of this package's sources; the versions of what it stands on."""
    digest = hashlib.sha256()
    root = Path(seg_kd.__file__).parent
    for path in sorted(root.rglob('*.py')):
        digest.update(path.read_bytes())
    found = {
        'seg_kd': f'{seg_kd.__version__} ({digest.hexdigest()[:8]})',
    }
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


def changed_files(old: Mapping[str, Any], new: Mapping[str, str]) -> list[str]:
    """Files of a run that are still there, with another content.

    Args:
        old: What the run is made of.
        new: :func:`files_of` now.
    """
    files = old.get('files') or {}
    now = {os.path.realpath(path): new[path] for path in new}
    return [path for path in files if now.get(os.path.realpath(path), '')
            not in ('', files[path])]  # yapf: disable


def changed_weights(old: Mapping[str, Any], decisive: Any) -> list[str]:
    """Those of a finished run that would be another today.

    Args:
        old: What the run is made of.
        decisive: Settings that name files.
    """
    return [f'the content of {path}'
            for path in changed_files(old, files_of(decisive))
            if not path.endswith('.py')]  # yapf: disable


def compare(folder: str, old: Mapping[str, Any], new: Mapping[str,
                                                              Any]) -> str:
    """What a run that goes on should know of it; '' where all is as it was.

    Args:
        folder: Of the run.
        old: As it began, :func:`made_of`. {} fits anything.
        new: As it is now.

    Raises:
        UserError: With this it is another run.
    """
    where = f'than when the run in {folder} began'
    rest = 'put back what it began with, or choose another --work-dir'
    files = changed_files(old, new['files'])
    weights = [path for path in files if not path.endswith('.py')]
    if weights:
        raise UserError(f'the content of {", ".join(weights)} is another '
                        f'{where}; {rest}')
    before, now = (made.get('data') or {} for made in (old, new))
    other = other_data(before, now)
    for key, what in COUNTED.items():
        if key in other:
            raise UserError(
                f'there are {now[key]} {what}, not {before[key]} as when the '
                f'run in {folder} began; {rest}')
    said = [f'content of {path}' for path in files]
    said += [
        f'{what} ({before[key]} bytes before, {now[key]} now)'
        for key, what in WEIGHED.items() if key in other
    ]
    libraries, own = (made.get('code') or {} for made in (old, new))
    said += [
        f'{name} ({version} before, {own.get(name)} now)'
        for name, version in libraries.items() if own.get(name) != version
    ]
    return f'other {", ".join(said)} {where}' if said else ''
