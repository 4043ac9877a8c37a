"""What to predict on: images and videos, by file or by folder."""
import os
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import cv2
import numpy as np

from seg_kd.datasets.unlabelled import SUFFIXES, check_file, files_in
from seg_kd.errors import UserError

VIDEOS = '.mp4', '.avi', '.mov', '.mkv', '.webm', '.m4v', '.mpg', '.mpeg'


class Source(NamedTuple):
    """A file, and what its results are called: a path without an ending."""
    path: str
    name: str

    @property
    def video(self) -> bool:
        return self.path.lower().endswith(VIDEOS)


def find(inputs: Iterable[str]) -> list[Source]:
    """All images and videos; those of a folder keep their place in it.

    Raises:
        UserError: A file or folder is missing, empty or of another kind, or
            two have results of the same name.
    """
    found: dict[str, Source] = {}
    for source in (s for path in inputs for s in _of(path)):
        if source.name in found:
            raise UserError(f'{found[source.name].path} and {source.path} '
                            'would have results of the same name: predict '
                            'them apart')
        found[source.name] = source
    return list(found.values())


def _of(path: str) -> Iterator[Source]:
    known = (*SUFFIXES, *VIDEOS)
    if os.path.isdir(path):
        files = files_in(path, known)
        if not files:
            raise UserError(f'no image or video in {path}; they end in '
                            f'{", ".join(known)}')
        for file in files:
            yield Source(file,
                         os.path.splitext(os.path.relpath(file, path))[0])
    elif not os.path.exists(path):
        raise UserError(f'{path} does not exist')
    elif not path.lower().endswith(known):
        raise UserError(f'{path} is neither an image nor a video; they end in '
                        f'{", ".join(known)}')
    else:
        yield Source(check_file(path),
                     os.path.splitext(os.path.basename(path))[0])


def read_image(path: str) -> np.ndarray | None:
    """``(H, W, 3)`` BGR; None where it is not readable."""
    with _quiet():
        return cv2.imread(path)


class Video:
    """The frames of a video, one after the other.

    Args:
        path: The file.

    Raises:
        UserError: It has no frame that can be read.
    """

    def __init__(self, path: str) -> None:
        os.environ.setdefault('OPENCV_FFMPEG_LOGLEVEL', '-8')  # nothing
        with _quiet():
            self.file = cv2.VideoCapture(path)
            self.first = self.file.read()[1]
        if self.first is None:
            raise UserError(f'{path}: not a readable video')
        self.rate = self.file.get(cv2.CAP_PROP_FPS) or 25.
        self.count = int(self.file.get(cv2.CAP_PROP_FRAME_COUNT)) or None

    @property
    def size(self) -> tuple[int, int]:
        """Width and height."""
        return self.first.shape[1::-1]

    def __iter__(self) -> Iterator[np.ndarray]:
        frame = self.first
        while frame is not None:
            yield frame
            frame = self.file.read()[1]
        self.file.release()


class _quiet:
    """Without what OpenCV prints about a broken file: we say it in a line."""

    def __enter__(self) -> None:
        log = cv2.utils.logging
        self.level = log.getLogLevel()
        log.setLogLevel(log.LOG_LEVEL_SILENT)

    def __exit__(self, *error: object) -> None:
        cv2.utils.logging.setLogLevel(self.level)
