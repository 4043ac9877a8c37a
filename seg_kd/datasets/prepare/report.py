"""The thorough check of a prepared data set, and what it prints."""
from pathlib import Path

import numpy as np
from mmengine.config import Config

from seg_kd.datasets.check import check_dataset, dataset_configs
from seg_kd.datasets.prepare.synthetic import read_manifest
from seg_kd.datasets.sources import SOURCES, split_config
from seg_kd.errors import UserError
from seg_kd.registry import type_name


def check_config(cfg: Config, root: str = '') -> None:
    """Check the data sets of a config; name classes that are in none."""
    datasets, reports = dataset_configs(cfg), []
    if not datasets:
        raise UserError(f'{cfg.filename} names no data set: it has no '
                        'train_dataloader, val_dataloader or test_dataloader')
    for dataset in datasets:
        folder = (dataset.get('data_prefix') or {}).get('img_path', '')
        split = dataset.get('ann_file')
        title = ' '.join(filter(None, (type_name(dataset), folder, split)))
        given = {**dataset, **(dict(data_root=root) if root else {})}
        report = show(title, given)
        reports += [report] if report else []
    pixels = np.sum([report['pixels'] for report in reports], 0)
    names = reports[0]['classes'] if reports else None
    absent = [name for i, name in enumerate(names or ()) if not pixels[i]]
    if absent and pixels.any():
        print(f'warning: no pixel anywhere is {", ".join(absent)}; labels are '
              'class numbers from 0 on, and 255 is not scored')


def check_kind(kind: str, root: str) -> None:
    counts, manifest = SOURCES[kind].counts, Path(root, 'synthetic.json')
    if kind == 'synthetic' and manifest.is_file():
        drawn = read_manifest(manifest)
        counts = {split: drawn[split] for split in counts}
    wrong = []
    for split, expected in counts.items():
        if split == 'test' and not Path(root, 'images', split).is_dir():
            continue  # not in all copies of CamVid
        cfg = split_config(kind, split, root)
        images = show(f'{kind} {split}', cfg)['images']
        if images != expected:
            wrong.append(f'{split} has {images} images, not {expected}')
    if wrong:
        raise UserError(f'{root}: {"; ".join(wrong)}')


def show(title: str, cfg: dict) -> dict:
    """Check one split, print a line, return what was found."""
    report = check_dataset(cfg, full=True)
    if not report:
        print(
            f'{title}: its folders are there; more cannot be said of a '
            "class that is not derived from MMSegmentation's BaseSegDataset",
            flush=True)
        return {}
    sizes, pixels, names = (report[k] for k in ('sizes', 'pixels', 'classes'))
    size = 'x'.join(map(str, next(iter(sizes))))
    size = f'{len(sizes)} sizes' if len(sizes) > 1 else size
    classes = 'no classes named' if names is None else (
        f'{(pixels[:len(names)] > 0).sum()} of {len(names)} classes')
    print(
        f'{title}: {report["images"]} images, {size}, {classes}, '
        f'{pixels[255] / max(pixels.sum(), 1):.1%} ignored',
        flush=True)
    return report
