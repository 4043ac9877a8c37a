"""Archives read as folders, and files that are whole or absent."""
import io
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from seg_kd.errors import UserError

ENDS = {'.png': b'IEND\xaeB`\x82', '.jpg': b'\xff\xd9'}


class Entry(NamedTuple):
    """A file in a folder or archive; ``name`` is relative, with slashes."""
    name: str
    read: Callable[[], bytes]


def entries(source: Path) -> Iterator[Entry]:
    """All files of a folder, zip or tar, in the order that is quick."""
    source = Path(source)
    if source.is_dir():
        for path in sorted(p for p in source.rglob('*') if p.is_file()):
            yield Entry(path.relative_to(source).as_posix(), path.read_bytes)
    elif not source.is_file():
        raise UserError(f'{source} does not exist')
    elif zipfile.is_zipfile(source):
        with zipfile.ZipFile(source) as archive:
            for info in archive.infolist():
                yield Entry(info.filename, lambda i=info: archive.read(i))
    elif tarfile.is_tarfile(source):
        with tarfile.open(source) as archive:
            for member in archive:
                if member.isfile():
                    yield Entry(member.name,
                                lambda m=member: archive.extractfile(m).read())
    else:
        raise UserError(f'{source} is neither a folder nor a zip or tar file '
                        '(or its download was cut off)')


def after(name: str, *anchors: str) -> str:
    """``name`` from the first of the folders ``anchors`` on, or ''."""
    parts = name.split('/')
    if '..' in parts:
        raise UserError(f'an archive entry leaves its folder: {name}')
    for i, part in enumerate(parts):
        if part in anchors:
            return '/'.join(parts[i:])
    return ''


def present(path: Path) -> bool:
    """Whether a file is there; damaged ones are an error."""
    if not path.exists():
        return False
    end = ENDS.get(path.suffix.lower(), b'')
    with open(path, 'rb') as file:
        file.seek(max(path.stat().st_size - 64, 0))
        tail = file.read()
    if not tail or end not in tail:
        raise UserError(f'{path} is damaged; delete it and run again')
    return True


def keep(path: Path, make: Callable[[], bytes | np.ndarray]) -> None:
    """Make a file, see :func:`write`, unless it is there."""
    if not present(path):
        write(path, make())


def write(path: Path, content: bytes | np.ndarray) -> None:
    """Write a file that is never seen half done; arrays become a PNG."""
    if not isinstance(content, bytes):
        buffer = io.BytesIO()
        Image.fromarray(content).save(buffer, 'PNG')
        content = buffer.getvalue()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f'.{path.name}.{os.getpid()}.part')
    try:
        part.write_bytes(content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def read_array(content: bytes, name: Path | str) -> np.ndarray:
    """Decode an image; palette images give their indices."""
    try:
        with Image.open(io.BytesIO(content)) as image:
            return np.array(image)
    except OSError as error:
        raise UserError(f'{name}: not a readable image ({error})') from error


def write_list(path: Path, names: Sequence[str]) -> None:
    """A text file, one name a line; one that differs is not replaced."""
    text = ''.join(f'{name}\n' for name in names)
    if not path.exists():
        write(path, text.encode())
    elif path.read_text().split() != text.split():
        raise UserError(f'{path} lists other images; move it away first')
