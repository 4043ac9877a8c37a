"""The teacher's maps of each training image, computed once.

With a cache the teacher sees every image whole, as the fixed first part of
the train pipeline leaves it. Its maps are kept on disk, and the flips and
crops of an image are done to them.
"""
import hashlib
import os
from collections.abc import Callable, Sequence
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from torch import Tensor, nn

from seg_kd.datasets import SeededDataset
from seg_kd.errors import UserError
from seg_kd.networks.transfer import stacked
from seg_kd.networks.unwrap import unwrap_model
from seg_kd.teacher.cache.map_store import GIB, MapStore
from seg_kd.teacher.cache.replay import (NotExact, check_moves,
                                         check_preprocessor, replay, split,
                                         strides)
from seg_kd.teacher.cache.whole_images import WholeImages
from seg_kd.teacher.teacher import Maps, Teacher

Forward = Callable[[Tensor], Maps]
DTYPES = 'float16', 'bfloat16', 'float32'
RANDOM = 'Albumentations', 'PhotoMetricDistortion'  # no part of a whole image


class TeacherCache:
    """Gives the maps of a batch, whether they are stored or not.

    Both ways they are rounded to the stored type, so it does not matter for a
    run what was stored before it.

    Args:
        forward: From whole images to maps ``(N, C, h, w)`` by layer path.
        image: From the number of an image to the whole of it.
        strides: By layer path.
        store: Where the maps are kept.
        dtype: What they are rounded to.
        explain: Of an image whose maps are not finite: what is wrong, and
            what to do.
    """

    def __init__(
        self,
        forward: Forward,
        image: Callable[[int], Tensor],
        strides: dict[str, int],
        store: MapStore,
        dtype: torch.dtype,
        explain: Callable[[Tensor], tuple[str, str] | None] = lambda _: None
    ) -> None:
        self.explain = explain
        self.forward, self.image, self.strides = forward, image, strides
        self.store, self.dtype = store, dtype

    def maps(self, data_samples: Sequence[Any]) -> Maps:
        """The maps of augmented images, ``(N, C, h, w)`` by layer path."""
        whole = [self.whole(sample.sample_idx) for sample in data_samples]
        moves = [sample.get('geometry', ()) for sample in data_samples]
        return {
            path:
            stacked([
                replay(maps[path], geometry, stride)
                for maps, geometry in zip(whole, moves)
            ], get_device())
            for path, stride in self.strides.items()
        }

    def whole(self, index: int) -> Maps:
        """The maps of a whole image, ``(C, h, w)`` by layer path, on the CPU.

        The teacher sees one image at a time: the rest of a batch would change
        the last digits.
        """
        if index in self.store:
            return self.store.read(index)
        image = self.image(index)
        found = self.forward(image)
        if not all(kept.isfinite().all() for kept in found.values()):
            wrong, advice = self.explain(image) or ('its maps are not finite',
                                                    'See seg-kd doctor')
            raise UserError(f'image {index} of the training data: {wrong}. '
                            f'{advice}')
        made = {
            path: self._rounded(path, kept[0])
            for path, kept in found.items()
        }
        self.store.write(index, made)
        return made

    def _rounded(self, path: str, kept: Tensor) -> Tensor:
        rounded = kept.to('cpu', self.dtype)
        if not rounded.isfinite().all():
            raise UserError(
                f'the teacher map {path!r} does not fit into {self.dtype}: '
                f'its largest value is {kept.abs().max().item():.3g}; set '
                "TeacherHook(cache=dict(dtype='bfloat16')) or 'float32'")
        return rounded


def open_cache(teacher: Teacher, runner, identity: Sequence[str],
               **options: Any) -> TeacherCache | None:
    """The cache of a teacher that is ready to run.

    None where replaying would not be exact: one line of the log says why.
    See :func:`build`.

    Raises:
        UserError: It would not be, and the teacher needs a finer view: the
            batches bring one where no cache is asked for.
    """
    try:
        cache = build(teacher, runner, identity, **options)
    except NotExact as reason:
        if teacher.scale != 1:
            raise UserError(
                f'{reason}; or set TeacherHook(cache=False): the images of '
                f'scale={teacher.scale} then come with each batch') from reason
        print_log(f'Teacher cache off: {reason}', 'current')
        return None
    print_log(f'Teacher cache: {cache.store}', 'current')
    return cache


def cache_options(cache: bool | dict[str, Any]) -> dict[str, Any] | None:
    """What ``TeacherHook(cache=)`` asks for, with its defaults; or None."""
    found = dict(folder=None,
                 max_gib=4.,
                 dtype='float16',
                 ignore_colours=False)
    if isinstance(cache, bool):
        return found if cache else None
    if not isinstance(cache, dict) or not cache.keys() <= found.keys() or \
            cache.get('dtype', 'float16') not in DTYPES or \
            not isinstance(cache.get('ignore_colours', False), bool):
        raise UserError(
            'TeacherHook(cache=) is True, False or a dict of folder, max_gib, '
            f'dtype (one of {", ".join(DTYPES)}) and ignore_colours (True or '
            f'False), not {cache!r}')
    return {**found, **cache}


def build(teacher: Teacher, runner, identity: Sequence[str],
          folder: str | None, max_gib: float, dtype: str,
          ignore_colours: bool) -> TeacherCache:
    """The cache of a teacher.

    Args:
        teacher: Gives the maps that are not stored.
        runner: Has the data.
        identity: What decides about a map, besides weights and images.
        folder: Of all caches; ``teacher_cache`` next to the run by default.
        max_gib: Largest size of this one.
        dtype: Of the stored maps.
        ignore_colours: See :func:`split`.

    Raises:
        NotExact: Maps cannot follow the augmentation.
    """
    dataset = runner.train_dataloader.dataset
    images, first, shapes, found = plan(teacher, runner, ignore_colours)
    given = getattr(runner.cfg.train_dataloader.dataset, 'pipeline', [])
    steps = [repr(t) for t in given if t['type'] not in RANDOM]
    kind = getattr(torch, dtype)
    parts = [*identity, *steps, str((shapes, str(kind)))]
    name = fingerprint(parts, dataset, first, teacher.network)
    folder = folder or os.path.join(os.path.dirname(runner.work_dir),
                                    'teacher_cache')
    store = MapStore(os.path.join(folder, name), shapes, len(dataset), max_gib,
                     kind)
    return TeacherCache(teacher.maps, images, found, store, kind,
                        teacher.not_finite)


def plan(
    teacher: Teacher, runner, ignore_colours: bool
) -> tuple[WholeImages, Tensor, dict[str, torch.Size], dict[str, int]]:
    """The whole images, the first, its maps' shapes and strides by path.

    Raises:
        NotExact: Maps cannot follow the augmentation.
    """
    dataset = runner.train_dataloader.dataset
    preprocessor = unwrap_model(runner.model).data_preprocessor
    check_teacher(teacher)
    if not isinstance(dataset, SeededDataset) or not hasattr(
            dataset.dataset, 'pipeline'):
        raise NotExact('images need a number; take one data set with a '
                       'pipeline of its own, and an InfiniteSampler')
    fixed, moves = split(dataset.pipeline.transforms, ignore_colours)
    images = WholeImages(dataset, fixed, preprocessor, teacher.scale)
    first = images(0)
    shapes = {p: kept.shape[1:] for p, kept in teacher.maps(first).items()}
    found = strides(images.size, shapes)
    size = check_moves(moves, images.size, found)
    check_preprocessor(preprocessor, size)
    return images, first, shapes, found


def cache_size(teacher: Teacher, runner, cache: bool | dict[str, Any]) -> int:
    """Bytes that a cache will take, with these options of the hook.

    Raises:
        NotExact: There will be none.
    """
    options = cache_options(cache)
    if options is None:
        return 0
    _, _, shapes, _ = plan(teacher, runner, options['ignore_colours'])
    one = sum(shape.numel() for shape in shapes.values())
    one *= getattr(torch, options['dtype']).itemsize
    whole = one * len(runner.train_dataloader.dataset)
    return min(whole, int(options['max_gib'] * GIB))


def check_teacher(teacher: Teacher) -> None:
    """Raises NotExact where the maps of an image do not depend on it alone.
    """
    if teacher.mode != 'eval':
        raise NotExact('in bn_train mode the maps of an image depend on its '
                       "batch; set teacher_mode='eval'")
    if teacher.task_gradients is not None:
        raise NotExact("gradients of the teacher's task are not stored; take "
                       'a hook without teacher_logits (ATHook: '
                       "mode='activation')")


def fingerprint(identity: Sequence[str], dataset: Any, image: Tensor,
                network: nn.Module) -> str:
    """Name of a cache: another one wherever a map could be another.

    It is made of the teacher's config and weights, how it runs, what is
    stored, the fixed part of the pipeline, the image files (path, size, time)
    and the first image, normalized.
    """
    parts = list(identity)
    for index in range(len(dataset)):
        path = dataset.get_data_info(index)['img_path']
        status = os.stat(path)
        parts.append(repr((path, status.st_size, status.st_mtime_ns)))
    digest = hashlib.sha256('\n'.join(parts).encode())
    for tensor in (image, *network.state_dict().values()):
        flat = tensor.detach().cpu().contiguous().flatten()
        digest.update(flat.view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
