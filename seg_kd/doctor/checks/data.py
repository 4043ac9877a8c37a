"""Checks of the files: found, readable, in range, labelled, apart."""
from collections.abc import Iterator

import numpy as np

from seg_kd.datasets.check import unwrapped
from seg_kd.datasets.unlabelled import unlabelled_files
from seg_kd.doctor.experiment import Experiment, Missing
from seg_kd.doctor.files import Files, same_files
from seg_kd.doctor.finding import Finding, check, green, listed, red, yellow
from seg_kd.errors import UserError

SPLITS = dict(train='trained on', val='validated on')
RARE = 1e-4  # part of the pixels
MUCH_IGNORED = .5  # part of the pixels
COMPARED = 5000  # files of a split, beyond which only names are compared


@check
def files(experiment: Experiment) -> Iterator[Finding]:
    """Images and labels are there and can be read."""
    for split, use in SPLITS.items():
        for found in experiment_files(experiment, split):
            opened = found.opened
            if opened.errors:
                yield red(
                    f'{len(opened.errors)} of {opened.count} images or labels '
                    f'{use} that were opened: {opened.errors[0]}',
                    'mend the files: seg-kd prepare-data check CONFIG names '
                    'them all')
            sizes = [
                f'{width}x{height}'
                for (width, height), _ in opened.sizes.most_common()
            ]
            yield green(f'{len(found)} images {use}, {listed(sizes, 3)}')


@check
def labels(experiment: Experiment) -> Iterator[Finding]:
    """Which classes there are, and how much is ignored."""
    for found in experiment_files(experiment, 'train'):
        opened, ignore = found.opened, found.dataset.ignore_index
        if not opened.pixels.sum():
            if not opened.errors:
                yield yellow(
                    'the training images have no labels',
                    'the student then learns from the teacher alone: is that '
                    'wanted?')
            continue
        part = ('all' if found.whole else
                f'{opened.count} of {len(found)}') + ' labels'
        scored = opened.pixels.copy()
        scored[ignore] = 0
        ignored = 1 - scored.sum() / opened.pixels.sum()
        if not scored.any():
            yield red(
                f'every pixel of {part} is ignored',
                'these are not the right label files, or reduce_zero_label '
                'or ignore_index of the data set is wrong')
            continue
        if ignored > MUCH_IGNORED:
            yield yellow(f'{ignored:.0%} of the pixels of {part} are ignored',
                         'see that the labels are the right ones')
        if opened.ignored:
            yield yellow(
                f'{len(opened.ignored)} of {opened.count} labels are ignored '
                f'altogether: {listed(opened.ignored, 2)}',
                'mend them, or leave these images out')
        yield from classes(found, scored)
        yield green(f'{part}: {histogram(found, scored)}; '
                    f'{ignored:.1%} ignored')


def classes(found: Files, scored: np.ndarray) -> Iterator[Finding]:
    names = found.classes
    absent = [n for n, pixels in zip(names, scored) if not pixels]
    if not absent:
        return
    last = len(names) - 1
    if found.dataset.reduce_zero_label and not scored[last] and not any(
            scored[last:]):
        yield yellow(
            f'with reduce_zero_label no pixel has the last class, '
            f'{names[last]!r}', 'if the labels count from 0 already, set '
            'reduce_zero_label=False: each class is taken for the one before')
    if found.whole:
        yield yellow(
            f'{len(absent)} of {len(names)} classes never appear in the '
            f'training labels: {listed(absent, 8)}',
            'nothing can be learnt of them; if they should be there, look at '
            'the labels and the order of the classes')


def histogram(found: Files, scored: np.ndarray, most: int = 6) -> str:
    shares = scored / scored.sum()
    order = np.argsort(-shares)[:most]
    names = dict(enumerate(found.classes))
    return ', '.join(f'{names.get(int(k), k)} {shares[k]:.1%}' for k in order
                     if shares[k] > RARE)


@check
def overlap(experiment: Experiment) -> Iterator[Finding]:
    """No image is both trained and validated on."""
    trained = paths(experiment, 'train') + unlabelled(experiment)
    validated = paths(experiment, 'val')
    if not validated or not trained:
        return
    small = max(len(trained), len(validated)) <= COMPARED
    if small:
        twice = same_files(trained, validated)
    else:
        twice = [(p, p) for p in sorted({*trained} & {*validated})]
    if twice:
        first = ' = '.join(dict.fromkeys(twice[0]))
        yield red(
            f'{len(twice)} of {len(validated)} images validated on are also '
            f'trained on: {first}',
            'the mIoU would measure memory: take them out of one of the two')
    else:
        yield green('no image is both trained and validated on')


def unlabelled(experiment: Experiment) -> list[str]:
    """The images without labels that the student is distilled on."""
    loader = experiment.cfg.get('train_dataloader') or {}
    options = loader.get('unlabelled')
    if not options:
        return []
    root = next(unwrapped(loader.get('dataset')), {}).get('data_root')
    try:
        return unlabelled_files(options, root)
    except UserError:  # a finding of what builds the loader
        return []


def paths(experiment: Experiment, split: str) -> list[str]:
    return [p for f in experiment_files(experiment, split) for p in f.paths]


def experiment_files(experiment: Experiment, split: str) -> list[Files]:
    """Those of a split, or none where they are not there."""
    try:
        return experiment.files(split)
    except Missing:  # a finding already
        return []
