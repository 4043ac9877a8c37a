"""The thorough check of a prepared data set, and what it prints."""
import json
from pathlib import Path
from typing import Dict

from mmengine.config import Config
from mmseg.registry import DATASETS

from seg_kd.datasets.check import check_dataset, dataset_configs
from seg_kd.datasets.sources import SOURCES, split_config
from seg_kd.errors import UserError


def check(what: str, root: str = '') -> None:
    """Check a data set by name, or all that a config file names."""
    if what in SOURCES:
        check_kind(what, root or SOURCES[what].root)
    elif Path(what).is_file():
        for cfg in dataset_configs(Config.fromfile(what)):
            folder = cfg.get('data_prefix', {}).get('img_path', '')
            show(f'{cfg["type"]} {folder}', cfg)
    else:
        raise UserError(f'{what!r} is neither a config file nor one of '
                        f'{", ".join(SOURCES)}')


def check_kind(kind: str, root: str) -> None:
    wrong = []
    for split, expected in expected_counts(kind, root).items():
        if split == 'test' and not Path(root, 'images', split).is_dir():
            continue  # not in all copies of CamVid
        images = show(f'{kind} {split}', split_config(kind, split, root))
        if images != expected:
            wrong.append(f'{split} has {images} images, not {expected}')
    if wrong:
        raise UserError(f'{root}: {"; ".join(wrong)}')


def expected_counts(kind: str, root: str) -> Dict[str, int]:
    counts = SOURCES[kind].counts
    manifest = Path(root, 'synthetic.json')
    if kind == 'synthetic' and manifest.is_file():
        drawn = json.loads(manifest.read_text())
        return {split: drawn[split] for split in counts}
    return counts


def show(title: str, cfg: dict) -> int:
    """Check one split, print a line, return its number of images."""
    report = check_dataset(cfg, full=True)
    sizes, pixels = report['sizes'], report['pixels']
    classes = len(DATASETS.get(cfg['type']).METAINFO['classes'])
    size = f'{"x".join(map(str, next(iter(sizes))))}'
    size = size if len(sizes) == 1 else f'{len(sizes)} sizes'
    print(
        f'{title}: {report["images"]} images, {size}, '
        f'{(pixels[:classes] > 0).sum()} of {classes} classes, '
        f'{pixels[255] / max(pixels.sum(), 1):.1%} ignored',
        flush=True)
    return report['images']
