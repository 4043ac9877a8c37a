"""Pascal VOC 2012 with the extra labels of SBD, in mmseg's layout.

VOC's own label maps stay where VOC has them; ``SegmentationClassAug`` gets
those and SBD's for the other images.
"""
import io
from pathlib import Path

import numpy as np
from scipy.io import loadmat

from seg_kd.datasets.prepare.files import (Entry, after, entries, keep,
                                           present, read_array, read_text,
                                           write_list)
from seg_kd.datasets.progress import progress
from seg_kd.errors import UserError

FOLDERS = 'JPEGImages', 'SegmentationClass', 'ImageSets'
LISTS = 'ImageSets/Segmentation'
CLASSES = 21
MOST = 2**20  # bytes of a label file of SBD, which are compressed


def convert(voc: Path, sbd: Path, out: Path) -> None:
    """Write the data root ``out`` (``.../VOCdevkit/VOC2012``).

    Args:
        voc: ``VOCtrainval_11-May-2012.tar`` or the folder in it.
        sbd: ``benchmark.tgz`` or ``benchmark_RELEASE``.
        out: The data root; may be the extracted ``VOC2012`` itself.
    """
    out = Path(out)
    own = take_voc(Path(voc), out)
    val = own['val']
    sbd_names = take_sbd(Path(sbd), out)
    write_list(out / LISTS / 'trainaug.txt',
               sorted((sbd_names | own['train']) - val))
    write_list(out / LISTS / 'aug.txt', sorted(sbd_names - own['train'] - val))


def take_voc(voc: Path, out: Path) -> dict[str, set[str]]:
    """Copy what segmentation needs; the names of train and val."""
    for entry in progress(entries(voc), voc.name):
        name = after(entry.name, *FOLDERS)
        if name.rpartition('/')[0] in (*FOLDERS[:2], LISTS):
            keep(out / name, entry.read)
    own = {split: read_names(out, split) for split in ('train', 'val')}
    for stem in progress(sorted(own['train'] | own['val']), 'VOC labels'):
        source = out / 'SegmentationClass' / f'{stem}.png'
        if not present(source):
            raise UserError(f'{source} is missing; is {voc} complete?')
        keep(out / 'SegmentationClassAug' / source.name,
             lambda: indices(read_array(source.read_bytes(), source), source))
    return own


def read_names(out: Path, split: str) -> set[str]:
    path = out / LISTS / f'{split}.txt'
    if not path.is_file():
        raise UserError(f'{path} is missing; give the archive '
                        'VOCtrainval_11-May-2012.tar or its VOC2012 folder')
    return set(read_text(path).split())


def indices(array: np.ndarray, name: Path | str) -> np.ndarray:
    if array.ndim != 2 or array.dtype.kind not in 'ui':
        raise UserError(f'{name}: not a palette image of class numbers')
    bad = sorted(set(np.unique(array).tolist()) - {*range(CLASSES), 255})
    if bad:
        raise UserError(f'{name}: label values {bad[:8]} are not among 0 to '
                        f'{CLASSES - 1} and 255')
    return array.astype(np.uint8)


def take_sbd(sbd: Path, out: Path) -> set[str]:
    """Convert the labels that VOC lacks; the names of train and val."""
    names: list[str] = []
    labels = 0
    for entry in progress(entries(sbd), sbd.name):
        path = Path(entry.name)
        if path.name in ('train.txt', 'val.txt'):
            names += entry.read().decode(errors='replace').split()
        elif path.parent.name == 'cls' and path.suffix == '.mat':
            labels += 1
            keep(out / 'SegmentationClassAug' / f'{path.stem}.png',
                 lambda: from_mat(entry))
    if not names or not labels:
        raise UserError(f'no lists and cls/*.mat of SBD in {sbd}; give '
                        'benchmark.tgz or the folder benchmark_RELEASE')
    return set(names)


def from_mat(entry: Entry) -> np.ndarray:
    content = entry.read()
    try:
        if len(content) > MOST:
            raise ValueError(f'it has {len(content) / 2**20:.3g} MiB')
        mat = loadmat(io.BytesIO(content), variable_names=['GTcls'])
        array = mat['GTcls']['Segmentation'][0, 0]
    except Exception as error:  # scipy's have no common base
        raise UserError(f'{entry.name}: not a label file of SBD '
                        f'({error})') from error
    return indices(np.asarray(array), entry.name)
