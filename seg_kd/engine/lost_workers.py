"""Which image a loader worker had in hand when it died."""
import multiprocessing.queues
import os
import re
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import RawArray
from typing import Any, TypeVar

from torch.utils.data import DataLoader, get_worker_info

from seg_kd.errors import UserError

Result = TypeVar('Result')

LENGTH = 1024  # bytes of a note
_boards: list[Any] = []


class Noting:
    """Starts the workers of a loader, each with a place for a note.

    A note is the image that it loads, or why it had to end: the main process
    can read that when the worker is gone.

    Args:
        workers: How many there are.
        start: What the loader would start them with.
    """

    def __init__(self, workers: int, start: Callable | None) -> None:
        self.start = start
        self.notes = [RawArray('c', LENGTH) for _ in range(workers)]

    def __call__(self, number: int) -> None:
        if self.start is not None:
            self.start(number)
        note = self.notes[number]
        _note_images(get_worker_info().dataset, os.getpid(), note)

        def lost(error: Exception, item: Any) -> None:
            """A batch cannot be handed over: the main process would wait."""
            _write(note, os.getpid(), f'error {error}')
            os._exit(1)

        multiprocessing.queues.Queue._on_queue_feeder_error = staticmethod(
            lost)


def watched(loader: DataLoader) -> DataLoader:
    """The loader, whose workers note what they load."""
    if loader.num_workers:
        noting = Noting(loader.num_workers, loader.worker_init_fn)
        loader.worker_init_fn = noting
        _boards.append(noting.notes)
    return loader


def _note_images(dataset: Any, process: int, note: Any) -> None:
    held = [*getattr(dataset, 'datasets', ())]
    for inner in (*held, vars(dataset).get('dataset')):
        if inner is not None:
            _note_images(inner, process, note)
    if 'get_data_info' not in dir(type(dataset)):
        return
    of = dataset.get_data_info

    def noted(index: int) -> dict:
        info = of(index)
        _write(note, process, f'image {info.get("img_path")}')
        return info

    dataset.get_data_info = noted


def _write(note: Any, process: int, text: str) -> None:
    note.value = f'{process} {text}'.encode()[:LENGTH - 1]


def reported(train: Callable[[], Result]) -> Result:
    """Calls it; the end of a worker becomes a UserError with its last note.

    A function and no context manager: the signal of the end may raise at any
    call, and leaving a ``with`` is one, outside of any ``try``.
    """
    try:
        return train()
    except (ConnectionError, EOFError):  # a queue without a sender
        try:
            _wait_for_an_end()
        except RuntimeError as end:
            _name(end)
        raise
    except RuntimeError as error:
        _name(error)
        raise
    finally:
        _boards.clear()


def _wait_for_an_end() -> None:
    """Until torch's signal handler raises; or else looks for itself.

    What the handler raises is lost where it interrupts a destructor.

    Raises:
        RuntimeError: The end of a worker, in torch's words.
    """
    time.sleep(5)  # the signal is under way
    for process, *_ in _notes():
        how = _how_ended(int(process))
        if how:
            raise RuntimeError(f'DataLoader worker (pid {process}) {how}')


def _how_ended(process: int) -> str:
    """Of a child that nobody has waited for; '' if it runs or ended well."""
    if not hasattr(os, 'waitid'):  # macOS before Python 3.13
        return ''
    with suppress(ChildProcessError):
        end = os.waitid(os.P_PID, process,
                        os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if end and end.si_code != os.CLD_EXITED:
            return f'is killed by signal: {signal.strsignal(end.si_status)}'
        if end and end.si_status:
            return f'has exit code {end.si_status}'
    return ''


def _name(error: RuntimeError) -> None:
    """Raises what there is to say of it, if it is the end of a worker."""
    said = _chain(error)
    found = re.search(r'DataLoader worker \(pid(?:\(s\))? ([\d, ]+)\)', said)
    if found:
        gone = re.findall(r'\d+', found[1])
        raise UserError(_line(said, gone, _notes_of(gone))) from error


def _chain(error: BaseException | None) -> str:
    """What an error says, and those that it comes from."""
    return f'{error} {_chain(error.__cause__)}' if error is not None else ''


def _notes() -> list[list[str]]:
    """Process, kind and text of each that has been written."""
    said = (note.value.decode(errors='replace').split(' ', 2)
            for board in _boards for note in board)
    return [note for note in said if len(note) == 3]


def _notes_of(gone: list[str]) -> list[tuple[str, str]]:
    return [(kind, text) for process, kind, text in _notes()
            if process in gone]


def _line(error: str, gone: list[str], said: list[tuple[str, str]]) -> str:
    how = re.search('killed by signal: [^.]*|exit code[^.]*', error)
    line = f'loader worker {", ".join(gone)} has ended'
    line += f' ({how[0]})' if how else ''
    errors = [text for kind, text in said if kind == 'error']
    images = [text for kind, text in said if kind == 'image']
    if errors:
        line += f': it could not hand over a batch, {errors[0]}'
    elif images:
        line += f', at or just after the image {", ".join(images)}'
    return (f'{line}; was it killed for want of memory (see the system log) '
            'or of shared memory (df /dev/shm; docker --shm-size)? Take fewer '
            'train_dataloader.num_workers, or 0, and go on with --resume')
