"""The tapped pairs as a table, and layers to tap as a list."""
import math
import os
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from seg_kd import shipped
from seg_kd.distiller import Distiller, paths
from seg_kd.doctor.experiment import Experiment
from seg_kd.doctor.finding import Finding, check, green, yellow
from seg_kd.engine.evaluate import teacher_network
from seg_kd.networks.taps import in_eval_mode

FAR_APART = 4.  # strides
DEEPEST = 2  # dots in the paths that are listed

Row = dict[str, Any]


@check
def tapped(experiment: Experiment) -> Iterator[Finding]:
    """The maps that are compared are of like resolution."""
    if experiment.runner.distiller is None and not experiment.taught:
        yield from untapped(experiment)
        return
    rows = pairs(experiment)
    for row in rows:
        if row['student stride'] and row['teacher stride']:
            ratio = row['student stride'] / row['teacher stride']
            if max(ratio, 1 / ratio) > FAR_APART:
                yield yellow(
                    f'{row["term"]}: {row["student"]} has stride '
                    f'{row["student stride"]:g}, {row["teacher"]} '
                    f'{row["teacher stride"]:g}',
                    'tap maps of like strides: --layers lists them')
    yield green(f'{len(rows)} tapped pairs, of images '
                f'{experiment.images[0].shape[2]} pixels high')


def untapped(experiment: Experiment) -> Iterator[Finding]:
    """What to tap, where a config has a teacher and no taps."""
    said = 'nothing is distilled: the student learns alone'
    found = suggested(layers(experiment)) if has_teacher(experiment) else []
    for best in found[:1]:
        said += (f'. To learn from its teacher, tap student='
                 f'{best["student"]!r}, teacher={best["teacher"]!r}, say '
                 '(--layers lists them all)')
    yield green(said)


def pairs(experiment: Experiment) -> list[Row]:
    """Each term's pairs: path, channels, size and stride, and connector."""
    distiller, rows = experiment.distiller, []
    height = experiment.images[0].shape[2]
    for term in distiller.terms:
        shapes = distiller.teacher_shapes[term.teacher_name]
        mine, theirs = paths(term.student), paths(term.teacher)
        count = max(len(mine), len(theirs))
        for one, other in zip(mine + [''] * (count - len(mine)),
                              theirs + [''] * (count - len(theirs))):
            rows.append(
                dict(term=term.name,
                     **described('student', one, distiller.student_shapes,
                                 height),
                     **described('teacher', other, shapes, height),
                     connector=connector(distiller, term.name)))
    return rows


def described(owner: str, path: str, shapes: Mapping[str, torch.Size],
              height: int) -> Row:
    shape = shapes.get(path)
    return {
        owner: path,
        f'{owner} channels': shape and shape[1],
        f'{owner} size': shape and 'x'.join(map(str, shape[2:])),
        f'{owner} stride': shape and round(height / shape[2], 2)
    }


def connector(distiller: Distiller, name: str) -> str:
    """The parts of a loss that train, with their sizes."""
    sizes = {
        child: sum(p.numel() for p in module.parameters() if p.requires_grad)
        for child, module in distiller.parts[name].named_children()
    }
    return ', '.join(f'{child} {size / 1e3:.3g} k'
                     for child, size in sizes.items() if size)


# -- what could be tapped --------------------------------------------------


def layers(experiment: Experiment) -> list[Row]:
    """Layers of both networks by stride, the deepest of each stride first.

    A student's stands beside the teacher's of the same stride.
    """
    image = experiment.images[0][:1]
    student = maps_of(experiment.model, image)
    network = teacher_of(experiment)
    teacher = {} if network is None else maps_of(network, image)
    rows = []
    for stride in sorted({*student, *teacher}):
        mine, theirs = student.get(stride, []), teacher.get(stride, [])
        for k in range(max(len(mine), len(theirs))):
            rows.append(
                dict(stride=stride,
                     **entry('student', mine, k),
                     **entry('teacher', theirs, k)))
    return rows


def entry(owner: str, found: list[tuple[str, int]], k: int) -> Row:
    path, channels = found[k] if k < len(found) else ('', '')
    return {owner: path, f'{owner} channels': channels}


def suggested(rows: list[Row]) -> list[Row]:
    """Pairs of what the two backbones return, of strides as like as can be.

    Of one stride the deepest; deepest pairs first.
    """
    students, teachers = ({
        row['stride']: (row[owner], row[f'{owner} channels'])
        for row in reversed(rows) if row[owner].startswith('backbone[')
    } for owner in ('student', 'teacher'))
    found = []
    for stride, (path, channels) in sorted(students.items(), reverse=True):
        if not teachers:
            break
        nearest = min(teachers, key=lambda s: (abs(math.log(s / stride)), s))
        found.append(
            dict(
                zip(('teacher', 'teacher channels'), teachers[nearest]), **{
                    'student': path,
                    'student channels': channels,
                    'student stride': stride,
                    'teacher stride': nearest
                }))
    return found


def teacher_of(experiment: Experiment) -> nn.Module | None:
    """The first teacher, or the one that the config has for its methods."""
    distiller = experiment.runner.distiller
    if distiller is not None:
        return next(iter(distiller.teachers.values())).network
    if not has_teacher(experiment):
        return None
    network, _ = teacher_network(experiment.cfg)
    return network.to(experiment.images[0].device).eval()


def has_teacher(experiment: Experiment) -> bool:
    hook = experiment.cfg.get('teacher') or {}
    found = shipped.weights(hook.get('model'), hook.get('checkpoint'))
    return os.path.isfile(found or '')


@torch.no_grad()
def maps_of(network: nn.Module,
            image: Tensor) -> dict[float, list[tuple[str, int]]]:
    """(layer path, channels) of the maps in a forward, by their stride.

    The last ones first, of what a backbone or neck returns before the layers
    in it. Blocks and heads, no single convolution inside of a block.
    """
    found: dict[str, tuple[float, int, int]] = {}
    order = iter(range(10**9))

    def note(path: str, output: Any) -> None:
        if isinstance(output, Tensor) and output.dim() == 4:
            stride = round(image.shape[2] / output.shape[2], 2)
            found[path] = stride, next(order), output.shape[1]
        elif isinstance(output, (tuple, list)) and '.' not in path:
            for k, one in enumerate(output):
                note(f'{path}[{k}]', one)

    handles = [
        module.register_forward_hook(
            lambda module, args, output, path=path: note(path, output))
        for path, module in network.named_modules()
        if path and path.count('.') < DEEPEST and not path.startswith(
            ('distill', 'data_preprocessor'))
    ]
    try:
        with in_eval_mode(network):
            network.encode_decode(
                image,
                [dict(img_shape=image.shape[2:], pad_shape=image.shape[2:])])
    finally:
        for handle in handles:
            handle.remove()
    by_stride: dict[float, list[tuple[str, int]]] = {}
    indexed = sorted(found.items(),
                     key=lambda item: ('[' not in item[0], -item[1][1]))
    for path, (stride, _, channels) in indexed:
        by_stride.setdefault(stride, []).append((path, channels))
    return by_stride
