"""Pictures of the same validation images at every validation."""
import logging
import os

import numpy as np
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log
from PIL import Image

from seg_kd.drawing import side_by_side, some_palette
from seg_kd.errors import UserError
from seg_kd.hooks import TeacherHook
from seg_kd.networks.classes import heads
from seg_kd.registry import HOOKS

FOLDER = 'pictures'


@HOOKS.register_module()
class PicturesHook(Hook):
    """Image, truth, teacher and student side by side, at every validation.

    With the mean IoU of each picture over the classes in it, and a legend of
    the colours: ``pictures/iter_N.png`` in the folder of the stage, and
    ``pictures`` in the visualizer's backends. The student's labels are those
    that the validation finds anyway; the teacher looks at each image once. A
    picture that fails is a warning, not the end of the training. On several
    GPUs the first draws images of its share.

    Args:
        count: Images, evenly spread over the validation set.
        width: Of each picture, in pixels.
    """

    def __init__(self, count: int = 4, width: int = 320) -> None:
        if count < 1 or width < 16:
            raise UserError('PicturesHook: count= is at least 1 and width= '
                            f'16, not {count} and {width}; '
                            'default_hooks.pictures=None draws nothing')
        self.count, self.width = count, width
        self._taught: dict[str, np.ndarray] = {}  # the teachers' labels
        self._rows: list = []
        self._failed = False

    def before_val_epoch(self, runner) -> None:
        self._rows = []

    def after_val_iter(self, runner, batch_idx: int, data_batch,
                       outputs) -> None:
        batches = len(runner.val_dataloader)
        count = min(self.count, batches)
        chosen = {i * batches // count for i in range(count)}
        if batch_idx in chosen and is_main_process() and not self._failed:
            with_care(self, lambda: self._add(runner, data_batch, outputs))

    def after_val_epoch(self, runner, metrics=None) -> None:
        if self._rows:
            with_care(self, lambda: self._write(runner))

    def _add(self, runner, batch: dict, outputs: list) -> None:
        """A row of the first image of a batch."""
        if not outputs or 'pred_sem_seg' not in outputs[0]:
            return  # a stage without a student
        sample, image = outputs[0], batch['inputs'][0]
        image = image[:3].clamp(0, 255).byte().cpu().numpy()
        image = np.repeat(image, 3, 0) if len(image) < 3 else image[::-1]
        name = os.path.basename(sample.metainfo.get('img_path', ''))
        row = [(name or 'image', image.transpose(1, 2, 0).copy())]
        truth = None
        if 'gt_sem_seg' in sample:
            truth = labels(sample.gt_sem_seg)
            row.append(('truth', truth))
        for hook in self._teachers(runner):
            key = f'{hook.name} {sample.metainfo.get("img_path", image.sum())}'
            if key not in self._taught:
                first = {k: list(v)[:1] for k, v in batch.items()}
                self._taught[key] = labels(hook.predict(first)[0].pred_sem_seg)
            row.append(captioned(hook.name, self._taught[key], truth))
        row.append(captioned('student', labels(sample.pred_sem_seg), truth))
        self._rows.append(row)

    def _teachers(self, runner) -> list[TeacherHook]:
        """Those that know the classes of the data."""
        count = len(names(runner)[0])
        return [
            hook for hook in runner.hooks if isinstance(hook, TeacherHook)
            and [h.num_classes for h in heads(hook.network)][:1] == [count]
        ]

    def _write(self, runner) -> None:
        picture = side_by_side(self._rows, *names(runner), self.width)
        folder = os.path.join(runner.work_dir, FOLDER)
        os.makedirs(folder, exist_ok=True)
        Image.fromarray(picture).save(
            os.path.join(folder, f'iter_{runner.iter:06d}.png'))
        runner.visualizer.add_image(FOLDER, picture, step=runner.iter)


def with_care(hook: PicturesHook, work) -> None:
    """Does it; the first error is said, and is the end of the pictures."""
    try:
        work()
    except Exception as error:  # a training of days is worth more
        hook._failed, hook._rows = True, []
        print_log(f'no pictures from here on: {type(error).__name__}: {error}',
                  'current', logging.WARNING)


def names(runner) -> tuple[tuple[str, ...], np.ndarray]:
    """Classes of the validation set, and their colours."""
    info = getattr(runner.val_dataloader.dataset, 'metainfo', None) or {}
    classes = tuple(info.get('classes') or map(str, range(256)))
    palette = info.get('palette') or []
    if len(palette) != len(classes):
        palette = some_palette(len(classes))
    return classes, np.array(palette, np.uint8)


def labels(found) -> np.ndarray:
    """Of a sample's pixel data, ``(H, W)``."""
    return found.data[0].cpu().numpy().astype(np.uint8)


def captioned(name: str, seen: np.ndarray,
              truth: np.ndarray | None) -> tuple[str, np.ndarray]:
    if truth is None or truth.shape != seen.shape:
        return name, seen
    return f'{name}: IoU {mean_iou(seen, truth):.1f} %', seen


def mean_iou(seen: np.ndarray, truth: np.ndarray, ignore: int = 255) -> float:
    """Of one image, in percent, over the classes that it or its truth has."""
    seen, truth = seen[truth != ignore], truth[truth != ignore]
    both = np.bincount(truth[seen == truth], minlength=256)
    union = np.bincount(seen, minlength=256) + np.bincount(
        truth, minlength=256) - both
    return 100 * float((both / union.clip(1))[union > 0].mean() if union.any()
                       else np.nan)  # yapf: disable
