"""Checks of the teacher, through the training pipeline.

A teacher that learnt little is no fault: where a result could be chance it is
yellow, or nothing is said.
"""
import time
from collections.abc import Callable, Iterator
from itertools import product
from statistics import mean

import torch
from torch import Tensor, nn

from seg_kd.doctor.agreement import (accuracy, best_shift, better, clearly,
                                     confusion, ious, shift_scan, swapped)
from seg_kd.doctor.experiment import Experiment, predicted
from seg_kd.doctor.finding import Finding, check, green, red, yellow
from seg_kd.networks.normalization import normalization
from seg_kd.teacher.teacher import Teacher

REACH = 16  # pixels that labels are moved by
SCANNED = 2**19  # pixels of the images that are scanned, at least 8 images
PROBED = 8  # images for other normalizations
SECONDS = 15.  # for all of these
IMAGENET = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
NORMALIZATIONS = {  # of RGB pixels from 0 to 255
    "ImageNet's mean and deviation": IMAGENET,
    "ImageNet's mean alone": (IMAGENET[0], (1., 1., 1.)),
    'pixels from 0 to 1': ((0., ) * 3, (255., ) * 3),
    'pixels from -1 to 1': ((127.5, ) * 3, (127.5, ) * 3),
    'pixels from 0 to 255': ((0., ) * 3, (1., ) * 3),
}


@check
def frozen(experiment: Experiment) -> Iterator[Finding]:
    """The teacher is whole, in eval mode, and has no gradients."""
    for name, teacher in experiment.distiller.teachers.items():
        network = teacher.network
        training = [
            n or 'all of it' for n, m in network.named_modules() if m.training
            and teacher.mode == 'eval' and not isinstance(m, nn.Identity)
        ]
        learning = [
            n for n, p in network.named_parameters() if p.requires_grad
        ]
        if training:
            yield red(
                f'{name} is in training mode: {training[0]}',
                'call eval() on it: batch norm and dropout change its maps')
        if learning:
            yield red(f'{name} has parameters that train: {learning[0]}',
                      'call requires_grad_(False) on it')
        if teacher.mode != 'eval':
            yield yellow(
                f'{name}: batch norms take the statistics of each batch '
                f'(teacher_mode={teacher.mode!r})',
                "unless that is wanted, leave teacher_mode at 'eval'")
        if not training and not learning:
            size = sum(p.numel() for p in network.parameters()) / 1e6
            yield green(
                f'{name}: {type(network).__name__}, {size:.2f} M parameters, '
                f'all loaded from {teacher.source}, in {teacher.mode} mode, '
                'frozen')


@check
def teacher_classes(experiment: Experiment) -> Iterator[Finding]:
    """The teacher's classes are those of the data."""
    if experiment.distils:
        for name, teacher in experiment.distiller.teachers.items():
            if not experiment.speaks(teacher.network):
                yield green(f'{name} has other classes than the data, or '
                            'none: nothing is said of its predictions')


class Scored:
    """Predictions of a network next to labels, image by image.

    Images without a pixel that counts are left out.
    """

    def __init__(self, experiment: Experiment,
                 predictions: list[Tensor]) -> None:
        self.ignore = experiment.ignore_index
        self.classes = len(experiment.classes)
        scored = [(p, y, x, turned)
                  for batch in zip(predictions, experiment.labels,
                                   experiment.images, experiment.mirrored)
                  for p, y, x, turned in zip(*batch)
                  if (y != self.ignore).any()]
        self.predicted = [p.cpu() for p, *_ in scored]
        self.labels = [y.cpu() for _, y, *_ in scored]
        self.images = [x for *_, x, _ in scored]
        self.mirrored = [turned for *_, turned in scored]
        self.right = [
            accuracy(p, y, self.ignore)
            for p, y in zip(self.predicted, self.labels)
        ]
        self.confusions = [
            confusion(p, y, self.classes, self.ignore)
            for p, y in zip(self.predicted, self.labels)
        ]

    @property
    def largest(self) -> list[float]:
        """Part of each image that is of the most frequent class."""
        pixels = [c.sum(1) for c in self.confusions]
        return [(p[self.most] / p.sum()).item() for p in pixels]

    @property
    def most(self) -> int:
        """The most frequent class."""
        return int(torch.stack(self.confusions).sum((0, 2)).argmax())

    @property
    def ious(self) -> Tensor:
        """Of each class, over all images."""
        return ious(torch.stack(self.confusions).sum(0))

    @property
    def works(self) -> bool:
        """Whether it clearly says more than one class for all pixels."""
        return clearly([a - b for a, b in zip(self.right, self.largest)])


def each(experiment: Experiment) -> Iterator[tuple[str, Teacher, Scored]]:
    """The teachers that predict the data's classes, with some predictions."""
    if not experiment.labelled:
        return
    for name, found in experiment.predictions.items():
        scored = Scored(experiment, found)
        if scored.labels and experiment.classes:
            yield name, experiment.distiller.teachers[name], scored


@check
def quality(experiment: Experiment) -> Iterator[Finding]:
    """The teacher knows the training images, as the student gets them."""
    for name, _, scored in each(experiment):
        said = (f'{name}: mIoU {100 * scored.ious.nanmean():.1f}, '
                f'{mean(scored.right):.0%} of the pixels right on '
                f'{len(scored.labels)} training crops; the largest class '
                f'alone gives {mean(scored.largest):.0%}')
        if scored.works:
            yield green(said)
        else:
            yield yellow(
                f'{said}: too weak, or too few crops, to tell what is wrong '
                'with it, if anything',
                'train it longer, look at more --batches, and see what '
                'seg-kd test CONFIG CHECKPOINT --teacher gives')


@check
def normalization_of_teacher(experiment: Experiment) -> Iterator[Finding]:
    """The teacher sees images as it was trained on them."""
    for name, teacher, scored in each(experiment):
        if teacher.scale != 1:
            continue  # these images are not what it sees
        yield from probed(
            name,
            scored,
            other_views(teacher.network, experiment),
            lambda x, network=teacher.network: predicted(network, x))


def probed(name: str, scored: Scored, views: dict[str, Callable],
           predict: Callable[[Tensor], Tensor]) -> Iterator[Finding]:
    """Whether another normalization of the images gives better labels."""
    images = torch.stack(scored.images[:PROBED])
    start = time.perf_counter()
    tried: dict[str, list[float]] = {}
    for title, view in views.items():
        if tried and time.perf_counter() - start > SECONDS:
            break
        tried[title] = [
            accuracy(found.cpu(), label, scored.ignore)
            for found, label in zip(predict(view(images)), scored.labels)
        ]
    if not tried:
        return
    best = max(tried, key=lambda title: mean(tried[title]))
    right, largest = scored.right[:PROBED], scored.largest[:PROBED]
    useful = clearly([a - b for a, b in zip(tried[best], largest)])
    if useful and better(tried[best], right):
        yield red(
            f'{name} has {mean(right):.0%} of the pixels right as it is, and '
            f'{mean(tried[best]):.0%} with {best}',
            'its data_preprocessor (mean, std, bgr_to_rgb) is not that of '
            'its training')
    elif scored.works:
        yield green(f'{name}: no other normalization of {len(tried)} suits '
                    'it better')


def other_views(network: nn.Module,
                experiment: Experiment) -> dict[str, Callable]:
    """From the student's images to those of other normalizations."""
    student = normalization(experiment.model.data_preprocessor)
    own = normalization(getattr(network, 'data_preprocessor', None))
    found: dict[str, Callable] = {}
    if experiment.images[0].shape[1] != 3:
        return found
    # the likeliest first: the time is limited
    choices = product(NORMALIZATIONS.items(), (True, False))
    for (title, (center, spread)), other in choices:
        flips = own[2] != other
        wanted = torch.tensor([center, spread]).view(2, 3, 1, 1)
        if not flips:  # it gets BGR
            wanted = wanted.flip(1)
        same = torch.allclose(wanted[0], own[0], atol=.5) and torch.allclose(
            wanted[1], own[1], rtol=.02)
        if same and not other:
            continue  # as it is
        order = 'channels in the other order and ' if other else ''
        found[order + title] = view(student, wanted, flips)
    if len(own[0]) == 3:  # those of the config, swapped
        flips = not own[2]
        swap = torch.stack([own[0], own[1]]).flip(1)
        found = {
            'channels in the other order':
            view(student, swap, flips),
            'its mean and deviation, and channels in the other order':
            view(student, torch.stack([own[0], own[1]]), flips),
            **found
        }
    return found


def view(student: tuple, wanted: Tensor, flips: bool) -> Callable:
    """From the student's images to ones of this mean and deviation."""
    center, spread, student_flips = student

    def made(images: Tensor) -> Tensor:
        raw = images * spread.to(images) + center.to(images)
        raw = raw.flip(1) if flips != student_flips else raw
        return (raw - wanted[0].to(images)) / wanted[1].to(images)

    return made


@check
def swapped_classes(experiment: Experiment) -> Iterator[Finding]:
    """No two classes have each other's number."""
    names = experiment.classes
    for name, _, scored in each(experiment):
        pairs = swapped(scored.confusions)
        if pairs:
            said = ', '.join(f'{names[a]!r} {names[b]!r}' for a, b in pairs)
            yield red(
                f'what the labels call A {name} calls B: {said}',
                'the order of the classes differs between its training and '
                'this data set (classes, reduce_zero_label)')
        elif scored.works:
            yield green(f'{name}: each class has its own number')


@check
def geometry(experiment: Experiment) -> Iterator[Finding]:
    """The teacher's predictions lie where the labels lie."""
    for name, _, scored in each(experiment):
        yield from scanned(name, scored, stride_of(experiment, name))


def scanned(name: str, scored: Scored, stride: float) -> Iterator[Finding]:
    """By moves of the label, and by turning it over.

    Args:
        name: Of the teacher.
        scored: Its predictions.
        stride: Of its coarsest map: half of that may be its own imprecision.
    """
    height, width = scored.labels[0].shape
    count = max(8, SCANNED // (height * width))
    pairs = list(zip(scored.predicted, scored.labels))[:count]
    right = scored.right[:count]
    flipped = [accuracy(p.flip(-1), y, scored.ignore) for p, y in pairs]
    if better(flipped, right):
        yield red(
            f'the labels are what {name} sees, turned over: '
            f'{mean(flipped):.0%} of the pixels are right then, '
            f'{mean(right):.0%} now',
            'a flip of the training pipeline moves the images alone')
        return
    reach = min(REACH, height // 4, width // 4)
    tolerance = max(2., min(stride, 8.) / 2)
    scans = [
        shift_scan(p, y, scored.classes, scored.ignore, reach)
        for p, y in pairs
    ]
    flat = None
    # A move within the files is turned over with those that are.
    for turned in ([False] * len(scans), scored.mirrored):
        kind = [s.flip(1) if t else s for s, t in zip(scans, turned)]
        dy, dx = best_shift(kind)
        there = [s[reach + dy, reach + dx].item() for s in kind]
        if max(abs(dy), abs(dx)) <= tolerance:
            continue
        # a move may cut off what is not of the most frequent class
        blind = [
            share_left(y, scored.most, scored.ignore, dy, -dx if t else dx)
            for (_, y), t in zip(pairs, turned)
        ]
        useful = clearly([a - b for a, b in zip(there, blind)])
        if useful and better(there, right):
            yield red(
                f'the labels lie {moved(dy, dx)} what {name} sees: '
                f'{mean(there):.0%} of the pixels are right there, '
                f'{mean(right):.0%} in place',
                'a transform moves images and labels differently, or '
                'resizing (align_corners, padding) differs from its training')
            return
        flat = f'{moved(dy, dx)} ({mean(there):.1%})'
    if scored.works and flat:
        yield yellow(
            f'{name} fits labels {flat} those in place as well as these '
            f'({mean(right):.1%}): too flat to tell', 'look at more --batches')
    elif scored.works:
        yield green(f'{name}: of all moves of the labels by up to {reach} px '
                    'none fits better')


def share_left(label: Tensor, kind: int, ignore: int, dy: int,
               dx: int) -> float:
    """Share of a class in what a move of the label by ``(dy, dx)`` leaves.

    Of the scored pixels, as :func:`shift_scan` counts them.
    """
    height, width = label.shape
    left = label[max(dy, 0):height + min(dy, 0), max(dx, 0):width + min(dx, 0)]
    return ((left == kind).sum() / (left != ignore).sum().clamp(min=1)).item()


def moved(dy: int, dx: int) -> str:
    """``'8 px right of'``, ``'3 px below and 2 px left of'``."""
    parts = [(dy, 'below', 'above'), (dx, 'right of', 'left of')]
    return ' and '.join(f'{abs(n)} px {plus if n > 0 else minus}'
                        for n, plus, minus in parts if n)


def stride_of(experiment: Experiment, name: str) -> float:
    """Of the map from which a teacher's labels are enlarged."""
    network = experiment.distiller.teachers[name].network
    conv = getattr(getattr(network, 'decode_head', None), 'conv_seg', None)
    if conv is None:
        return 8.
    image = experiment.images[0][:1]
    sizes = []
    handle = conv.register_forward_hook(
        lambda module, args, output: sizes.append(output.shape[2]))
    predicted(network, image)
    handle.remove()
    return image.shape[2] / sizes[-1] if sizes else 8.


@check
def lead(experiment: Experiment) -> Iterator[Finding]:
    """The teacher is better than the trained student."""
    if not experiment.student_checkpoint:
        return
    student = experiment.student
    own = Scored(experiment,
                 [predicted(student, images) for images in experiment.images])
    yield from probed('the student', own, other_views(student, experiment),
                      lambda x: predicted(student, x))
    for name, _, scored in each(experiment):
        ahead = scored.ious - own.ious
        order = ahead.nan_to_num(-1).argsort(descending=True).tolist()
        by_class = ', '.join(f'{experiment.classes[k]} {100 * ahead[k]:+.0f}'
                             for k in order if not ahead[k].isnan())
        said = (f'{name} has mIoU {100 * scored.ious.nanmean():.1f}, the '
                f'student {100 * own.ious.nanmean():.1f}; by class: '
                f'{by_class}')
        differences = [a - b for a, b in zip(scored.right, own.right)]
        if clearly([-d for d in differences]):
            yield red(
                f'the student is better already: {said}',
                'a teacher that knows less teaches nothing: train it '
                'longer, or take a stronger one')
        elif clearly(differences):
            yield green(said)
        else:
            yield yellow(f'no clear lead: {said}',
                         'look at more --batches, or take a stronger teacher')
