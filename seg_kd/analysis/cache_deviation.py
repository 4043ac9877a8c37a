"""How far the maps of a teacher's cache are from those of augmented images."""
import random
from collections import defaultdict
from collections.abc import Sequence

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from seg_kd.datasets import check_files
from seg_kd.engine.evaluate import last_stage, teacher_of
from seg_kd.errors import UserError
from seg_kd.networks.normalization import Renormalize
from seg_kd.registry import DATASETS, MODELS
from seg_kd.teacher.build import build_teacher
from seg_kd.teacher.cache.replay import replay, show, split
from seg_kd.teacher.cache.whole_images import WholeImages
from seg_kd.teacher.teacher import Teacher, checked_scale

MOVES = {
    'flip': lambda y, x, size: [('flip', -1)],
    'crop': lambda y, x, size: [('crop', y, x, *size)],
    'both': lambda y, x, size: [('flip', -1), ('crop', y, x, *size)]
}


@torch.no_grad()
def deviations(cfg: Config, paths: Sequence[str], crop: tuple[int, int],
               stride: int, images: int) -> dict[tuple[str, str], list[float]]:
    """How far moved maps are from the maps of moved images.

    Args:
        cfg: With a ``TeacherHook``, and a train pipeline that a cache can
            follow.
        paths: Maps to compare.
        crop: Size of crops, in pixels.
        stride: Their corners lie on multiples of it.
        images: How many training images, spread over the set.

    Returns:
        By (move, path): norm of the difference to the norm of the map, and
        the part of positions where the largest channel is the same one;
        means over the images.

    Raises:
        UserError: A cache cannot follow the pipeline, or the crop is too
            large.
    """
    network, whole = teacher_and_images(cfg)
    if crop[0] > whole.size[0] or crop[1] > whole.size[1]:
        raise UserError(f'crops of {show(crop)} pixels do not fit into images '
                        f'of {show(whole.size)}: give a smaller --crop')
    scale = whole.scale
    teacher = Teacher(network,
                      renormalize=Renormalize(whole.preprocessor,
                                              network.data_preprocessor),
                      scale=scale)
    teacher.tap(paths, whole(0))
    draw, found = random.Random(0), defaultdict(list)
    count = len(whole.dataset)
    for index in range(0, count, max(1, count // images)):
        image = whole(index)
        maps = teacher.maps(image)
        y, x = (draw.randrange(0, n - m + 1, stride)
                for n, m in zip(whole.size, crop))
        for move, made in MOVES.items():
            steps = made(y, x, crop)
            finer = made(y * scale, x * scale, [n * scale for n in crop])
            seen = teacher.maps(replay(image[0], finer, 1)[None])
            for path, kept in maps.items():
                replayed = replay(kept[0], steps,
                                  whole.size[0] // kept.shape[2])
                found[move, path].append(compare(replayed, seen[path][0]))
    return {k: torch.tensor(v).mean(0).tolist() for k, v in found.items()}


def teacher_and_images(cfg: Config) -> tuple[nn.Module, WholeImages]:
    init_default_scope('mmseg')
    cfg = last_stage(cfg)
    check_files(cfg.train_dataloader.dataset)
    dataset = DATASETS.build(cfg.train_dataloader.dataset)
    fixed, _ = split(dataset.pipeline.transforms)
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    hook = teacher_of(cfg)
    network, _ = build_teacher(hook['model'], hook.get('checkpoint'),
                               hook.get('trust_checkpoint', False),
                               preprocessor)
    scale = checked_scale(hook.get('scale', 1))
    return network, WholeImages(dataset, fixed, preprocessor, scale)


def compare(replayed: Tensor, seen: Tensor) -> tuple[float, float]:
    same = (replayed.argmax(0) == seen.argmax(0)).float().mean()
    return float((replayed - seen).norm() / seen.norm()), float(same)
