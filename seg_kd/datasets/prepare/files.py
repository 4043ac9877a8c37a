"""Archives read as folders, and files that are whole or absent."""
import io
import lzma
import os
import shutil
import stat
import tarfile
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from seg_kd.errors import UserError

ENDS = {'.png': b'IEND\xaeB`\x82', '.jpg': b'\xff\xd9'}
MOST = 64 * 2**20  # bytes of a file in an archive
WHOLE = 256 * 2**30  # bytes of all of them
MANY = 10**6  # files in an archive


class Entry(NamedTuple):
    """A file in a folder or archive; ``name`` is relative, with slashes."""
    name: str
    read: Callable[[], bytes]


def entries(source: Path) -> Iterator[Entry]:
    """All files of a folder, zip or tar, in the order that is quick.

    Nothing is unpacked: what is wanted of it is read. Links, devices and the
    like are left out.

    Raises:
        UserError: It is missing or damaged, or holds more than a data set
            does; then or when an entry is read.
    """
    source = Path(source)
    if source.is_dir():
        for path in sorted(source.rglob('*')):
            if is_file(path):
                yield Entry(
                    path.relative_to(source).as_posix(), path.read_bytes)
    elif not source.is_file():
        raise UserError(f'{source} does not exist, or is no file')
    elif zipfile.is_zipfile(source):
        with sound(source), zipfile.ZipFile(source) as archive:
            yield from of_zip(archive, source)
    elif tarfile.is_tarfile(source):
        with sound(source), tarfile.open(source) as archive:
            yield from of_tar(archive, source)
    else:
        raise UserError(f'{source} is neither a folder nor a zip or tar file '
                        '(or its download was cut off)')


def of_zip(archive: zipfile.ZipFile, source: Path) -> Iterator[Entry]:
    total, infos = 0, archive.infolist()
    for number, info in enumerate(infos, 1):
        total += info.file_size
        check_size(source, info.filename, info.file_size, total, number)
    for info in infos:
        if info.is_dir() or stat.S_ISLNK(info.external_attr >> 16):
            continue

        def read(info: zipfile.ZipInfo = info) -> bytes:
            with sound(source, info.filename), archive.open(info) as file:
                return file.read(info.file_size)

        yield Entry(info.filename, read)


def of_tar(archive: tarfile.TarFile, source: Path) -> Iterator[Entry]:
    total = 0  # a tar says what it holds only as it is read
    for number, member in enumerate(archive, 1):
        total += member.size
        check_size(source, member.name, member.size, total, number)
        if not member.isreg():
            continue

        def read(member: tarfile.TarInfo = member) -> bytes:
            with sound(source, member.name):
                return archive.extractfile(member).read()

        yield Entry(member.name, read)


def check_size(source: Path, name: str, size: int, total: int,
               number: int) -> None:
    """Raises UserError where an archive says it holds absurdly much."""
    if size > MOST or total > WHOLE or number > MANY:
        raise UserError(
            f'{source} is said to hold {total / 2**30:.3g} GiB in {number} '
            f'files up to {name}, which has {size / 2**30:.3g}: more than '
            'this data set; is it the right archive?')


@contextmanager
def sound(source: Path, name: str = '') -> Iterator[None]:
    """What an archive can be damaged by becomes a UserError."""
    try:
        yield
    except UserError:
        raise
    except (zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError,
            EOFError, RuntimeError, NotImplementedError, ValueError,
            OSError) as error:
        where = f'{source}: {name}' if name else f'{source}'
        raise UserError(f'{where} cannot be read ({error}): the archive is '
                        'damaged or locked; download it again') from error


def after(name: str, *anchors: str) -> str:
    """``name`` from the first of the folders ``anchors`` on, or ''."""
    parts = name.replace('\\', '/').split('/')
    if '..' in parts or '\0' in name:
        raise UserError(f'an archive entry leaves its folder: {name!r}')
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
    """Make a file, see :func:`write`, unless it is there.

    Raises:
        UserError: What is there, or is made of bytes, is no whole image.
    """
    if present(path):
        return
    content = make()
    if isinstance(content, bytes) and path.suffix.lower() in ENDS:
        check_image(content, path.name)
    write(path, content)


def is_file(path: Path) -> bool:
    """Whether it is one.

    Raises:
        UserError: It is named like an image, and is a pipe, or a link to
            nothing.
    """
    if path.is_file():
        return True
    if path.suffix.lower() in ENDS:
        raise UserError(f'{path} is no file'
                        f'{", but a link to nothing" * path.is_symlink()}')
    return False


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


@contextmanager
def whole_folder(path: str) -> Iterator[Path]:
    """A folder to fill, which gets its name at the end.

    Where the work fails, nothing is left. What is at ``path`` before is an
    empty folder at most.
    """
    part = Path(f'{path.rstrip(os.sep)}.part')
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    try:
        yield part
        shutil.rmtree(path, ignore_errors=True)
        os.rename(part, path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def read_array(content: bytes, name: Path | str) -> np.ndarray:
    """Decode an image; palette images give their indices.

    Raises:
        UserError: It is none, damaged, or larger than any of a data set.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('error', Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                return np.array(image)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError,
            Image.DecompressionBombWarning) as error:
        raise UserError(f'{name}: not a readable image ({error})') from error


def check_image(content: bytes, name: str) -> None:
    """Raises UserError where an image is cut off, or its check sum wrong."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as image:
                image.verify()
    except (OSError, SyntaxError, ValueError,
            Image.DecompressionBombError) as error:
        raise UserError(f'{name}: not a readable image ({error})') from error
    if ENDS[os.path.splitext(name)[1].lower()] not in content[-64:]:
        raise UserError(f'{name}: the image is cut off; download it again')


def read_text(path: Path) -> str:
    try:
        return path.read_text(encoding='utf-8')
    except UnicodeDecodeError as error:
        raise UserError(f'{path} is no text: {error}') from error


def write_list(path: Path, names: Sequence[str]) -> None:
    """A text file, one name a line; one that differs is not replaced."""
    text = ''.join(f'{name}\n' for name in names)
    if not path.exists():
        write(path, text.encode())
    elif read_text(path).split() != text.split():
        raise UserError(f'{path} lists other images; move it away first')
