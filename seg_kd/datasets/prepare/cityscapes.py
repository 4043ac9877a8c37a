"""Cityscapes: official zips or folders to images and train id maps."""
import contextlib
import io
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from seg_kd.datasets.prepare.files import after, entries, keep, read_array
from seg_kd.datasets.progress import progress
from seg_kd.errors import UserError

try:
    from cityscapesscripts.helpers.annotation import Annotation
    from cityscapesscripts.helpers.labels import labels, name2label
    from cityscapesscripts.preparation.json2labelImg import createLabelImage
except ImportError as error:
    raise UserError(f'Cityscapes needs its own scripts ({error}): '
                    'pip install cityscapesscripts') from error

LABEL = re.compile(r'(.*_gtFine)_(labelIds\.png|polygons\.json)$')

LONGEST = 2**14  # pixels of a side of an image
TRAIN_IDS = np.full(256, 255, np.uint8)  # of each label id
for label in labels:
    if 0 <= label.trainId < 255:
        TRAIN_IDS[label.id] = label.trainId


def from_ids(content: bytes, name: str) -> np.ndarray:
    array = read_array(content, name)
    if array.ndim != 2 or array.dtype != np.uint8:
        raise UserError(f'{name}: not a map of label ids')
    if array.max() >= len(name2label):
        raise UserError(f'{name}: label id {array.max()} is not one of '
                        "Cityscapes'")
    return TRAIN_IDS[array]


def from_polygons(content: bytes, name: str) -> np.ndarray:
    try:
        annotation = Annotation()
        annotation.fromJsonText(content.decode())
        known = {o.label for o in annotation.objects} - set(name2label)
        size = int(annotation.imgWidth), int(annotation.imgHeight)
    except Exception as error:  # of whatever is in it
        raise UserError(f'{name}: not a polygon file ({error})') from error
    known -= {f'{label}group' for label in name2label}
    if known:  # the library would end the program
        raise UserError(
            f'{name}: unknown label {sorted(map(str, known))[0]!r}')
    if not 0 < min(size) <= max(size) <= LONGEST:
        raise UserError(f'{name}: an image of {size[0]}x{size[1]} pixels')
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # what it would print
            return np.array(createLabelImage(annotation, 'trainIds'))
    except (Exception, SystemExit) as error:
        raise UserError(f'{name}: a polygon cannot be drawn '
                        f'({error})') from error


def convert(sources: Sequence[Path], out: Path) -> None:
    """Fill ``out`` with ``leftImg8bit`` and ``gtFine`` of train and val.

    Args:
        sources: Zips or folders; none: ``out`` itself, where they are
            extracted there already.
        out: The data root.
    """
    out, found = Path(out), 0
    sources = sources or [out]
    for source in sources:
        bar = progress(entries(source), Path(source).name or 'cityscapes')
        for entry in bar:
            name = after(entry.name, 'leftImg8bit', 'gtFine')
            if name.split('/')[1:2] in (['train'], ['val']):
                found += convert_entry(name, entry.read, out)
    if not found:
        raise UserError(
            f'no leftImg8bit/train or gtFine/train in '
            f'{", ".join(map(str, sources))}; give the two official zips, or '
            'the folder that they were extracted to')


def convert_entry(name: str, read, out: Path) -> bool:
    """Handle one file; whether it is one that belongs to the data set."""
    match = LABEL.match(name)
    if match:
        maker = from_ids if match[2].endswith('.png') else from_polygons
        keep(out / f'{match[1]}_labelTrainIds.png',
             lambda: maker(read(), name))
    elif name.endswith('_leftImg8bit.png'):
        keep(out / name, read)
    else:
        return False
    return True
