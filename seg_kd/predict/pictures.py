"""Predictions as pictures: painted over the image, or as paletted PNGs."""
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

import cv2
import numpy as np
from PIL import Image

from seg_kd.datasets.progress import progress
from seg_kd.drawing import legend
from seg_kd.errors import UserError
from seg_kd.export.files import written_whole
from seg_kd.predict.predictors import Names, Predictor
from seg_kd.predict.sources import Source, Video, read_image

OVERLAYS, LABELS = 'overlays', 'labels'
OPACITY = 0.5  # of the colours over the image


class Pictures:
    """Writes what a predictor sees into a folder.

    ``overlays/NAME.jpg`` shows the image in the colours of the classes, a
    video as ``overlays/NAME.mp4``; ``labels/NAME.png`` holds the number of
    the class of each pixel, in a palette of the same colours, and each frame
    of a video is one, ``labels/NAME/000000.png``. ``legend.png`` names the
    colours.

    Args:
        out: The folder.
        predict: From an image to its labels.
        names: Of the classes, and their colours.
        kinds: ``'overlays'``, ``'labels'`` or both.
    """

    def __init__(self, out: str, predict: Predictor, names: Names,
                 kinds: Sequence[str]) -> None:
        self.out, self.predict, self.kinds = out, predict, kinds
        self.classes, palette = names
        self.palette = np.array(palette, np.uint8)  # RGB
        if len(self.classes) > 256:
            raise UserError(f'{len(self.classes)} classes: a PNG with a '
                            'palette has room for 256')

    def write(self, sources: Iterable[Source]) -> tuple[int, list[str]]:
        """How many images and frames were predicted, and what went wrong."""
        count, problems = 0, []
        images, videos = [], []
        for source in sources:
            (videos if source.video else images).append(source)
        bar = progress(images, 'images', len(images)) if images else ()
        for source in bar:
            image = read_image(source.path)
            if image is None:
                problems.append(f'{source.path}: not a readable image')
            else:
                self.image(source.name, image)
                count += 1
        for source in videos:
            try:
                count += self.video(source)
            except UserError as error:
                problems.append(str(error))
        if count:
            picture = Image.fromarray(legend(self.classes, self.palette))
            picture.save(self.path('legend.png'))
        return count, problems

    def image(self, name: str, image: np.ndarray) -> None:
        labels = self.predict(image)
        if OVERLAYS in self.kinds:
            cv2.imwrite(self.path(OVERLAYS, f'{name}.jpg'),
                        painted(image, labels, self.palette))
        self.labels(name, labels)

    def labels(self, name: str, labels: np.ndarray) -> None:
        if LABELS in self.kinds:
            picture = Image.fromarray(labels.astype(np.uint8))
            picture.putpalette(self.palette.ravel().tolist())
            picture.save(self.path(LABELS, f'{name}.png'))

    def video(self, source: Source) -> int:
        video = Video(source.path)
        count = 0
        with self.writer(source.name, video) as write:
            frames = progress(video, os.path.basename(source.path),
                              video.count)
            for count, frame in enumerate(frames, 1):
                labels = self.predict(frame)
                write(painted(frame, labels, self.palette))
                self.labels(f'{source.name}/{count - 1:06d}', labels)
        return count

    @contextmanager
    def writer(self, name: str, video: Video) -> Iterator[Callable]:
        if OVERLAYS not in self.kinds:
            yield lambda frame: None
            return
        with written_whole(self.path(OVERLAYS, f'{name}.mp4')) as part:
            codec = cv2.VideoWriter_fourcc(*'mp4v')
            file = cv2.VideoWriter(part, codec, video.rate, video.size)
            if not file.isOpened():
                raise UserError('this OpenCV cannot write MP4 videos: try '
                                '--only labels')
            yield file.write
            file.release()

    def path(self, *parts: str) -> str:
        """A file in the folder, which is made."""
        path = os.path.join(self.out, *parts)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        return path


def painted(image: np.ndarray, labels: np.ndarray,
            palette: np.ndarray) -> np.ndarray:
    """The image with its classes in colour.

    Shape:
        ``(H, W, 3)`` BGR, ``(H, W)``, ``(classes, 3)`` RGB -> as the image.
    """
    colours = palette[labels][..., ::-1]
    return cv2.addWeighted(image, 1 - OPACITY, colours, OPACITY, 0)
