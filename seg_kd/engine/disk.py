"""What to free, where there is no room: one line instead of a traceback."""
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

from seg_kd.errors import UserError

MIB = 2**20
FULL = {
    errno.ENOSPC: 'no space is left',
    errno.EDQUOT: 'the quota is used up',
    errno.EFBIG: 'a file is larger than is allowed (ulimit -f, or the quota)',
}
FILES = errno.EMFILE, errno.ENFILE
WRITING = {
    errno.EROFS: 'is on a file system that is read-only',
    errno.EACCES: 'may not be written',
    errno.EPERM: 'may not be written',
    errno.ENOENT: 'is not there (any more?)',
    errno.ENOTDIR: 'lies in what is no folder',
    errno.EEXIST: 'is there, and is no folder',
    errno.EISDIR: 'is a folder',
    errno.EIO: 'cannot be read or written: the disk itself fails',
    errno.ENAMETOOLONG: 'has too long a name',
    errno.ESTALE: 'is on a network disk that has gone',
}


@contextmanager
def explained(folder: str) -> Iterator[None]:
    """Errors of the file system become a UserError that says what to do.

    Args:
        folder: Of the run. What lies elsewhere is not explained, unless it
            is a matter of room.
    """
    try:
        yield
    except (OSError, RuntimeError) as error:
        message = explain(error, folder)
        if message is None:
            raise
        raise UserError(message) from error


def explain(error: Exception, folder: str) -> str | None:
    """The line, or None for an error of another kind."""
    number = error.errno if isinstance(error, OSError) else _number(error)
    path = getattr(error, 'filename', None)
    if number in FULL:
        return (f'{FULL[number]}: {error}; {_room(folder)}; make room and go '
                'on with --resume')
    if number in FILES:
        return (f'too many open files{_limit()}: raise it with `ulimit -n '
                '65536`, or take fewer train_dataloader.num_workers; then go '
                'on with --resume')
    inside = isinstance(path, str) and _within(path, folder)
    if number in WRITING and inside:
        return (f'{path} {WRITING[number]} ({os.strerror(number)}); see to '
                'it, or choose another --work-dir')
    return None


def _number(error: Exception) -> int | None:
    """Of what torch raises in C++, as text alone."""
    for number in (*FULL, *FILES):
        if os.strerror(number) in str(error):
            return number
    if 'unable to allocate shared memory' in str(error):
        return errno.ENOSPC
    return None


def _limit() -> str:
    try:
        import resource
    except ImportError:  # on Windows
        return ''
    return f' ({resource.getrlimit(resource.RLIMIT_NOFILE)[0]} are allowed)'


def _within(path: str, folder: str) -> bool:
    """Is it in the folder, the folder itself, or one that it is in?"""
    path, folder = os.path.abspath(path), os.path.abspath(folder)
    return f'{path}{os.sep}'.startswith(folder + os.sep) or \
        f'{folder}{os.sep}'.startswith(path + os.sep)


def _room(folder: str) -> str:
    """Where little is free that a run writes to, and what takes most of it."""
    places = [(folder, ''), ('/dev/shm', ', which loader workers use'),
              (tempfile.gettempdir(), '')]
    free = [(shutil.disk_usage(place).free / MIB, f'{place}{use}')
            for place, use in places if os.path.isdir(place)]
    short = [found for found in free if found[0] < 1024] or free[:1]
    shown = ', '.join(f'{size:.0f} MiB in {place}' for size, place in short)
    largest = sorted(_sizes(folder), reverse=True)[:3]
    taken = ', '.join(f'{path} {size / MIB:.0f} MiB' for size, path in largest
                      if size >= MIB / 2)
    return f'free are {shown}{"; most take " if taken else ""}{taken}'


def _sizes(folder: str) -> Iterator[tuple[int, str]]:
    """Bytes of each entry of the folder, and of the stages in it."""
    for place, _, names in os.walk(folder):
        sizes = [os.path.getsize(os.path.join(place, name)) for name in names
                 if os.path.isfile(os.path.join(place, name))]  # yapf: disable
        if sum(sizes):
            yield sum(sizes), place
