"""Checks of what comes out of the training pipeline."""
from collections.abc import Iterator

import torch

from seg_kd.doctor.experiment import Experiment
from seg_kd.doctor.finding import Finding, check, green, listed, red, yellow
from seg_kd.networks.classes import heads
from seg_kd.networks.normalization import normalization

# Means of the pixels of ImageNet, as networks are fed with them, RGB.
MEAN = torch.tensor([123.675, 116.28, 103.53])
SPREAD = .1, 4.  # the deviation of normalized images
FAR = 3.  # from 0, of their mean


@check
def pixels(experiment: Experiment) -> Iterator[Finding]:
    """The student's normalization fits the images that it gets."""
    raw = torch.cat([
        image.float().flatten() for batch in experiment.batches
        for image in batch['inputs']
    ])
    raw = raw[raw.isfinite()]
    ready = torch.cat([image.flatten() for image in experiment.images])
    ready = ready[ready.isfinite()]
    if not len(raw) or not len(ready):
        return  # check numbers says so
    mean, std, _ = normalization(experiment.model.data_preprocessor)
    center, spread = ready.mean().item(), ready.std().item()
    said = (f'images of {raw.min().item():.3g} to {raw.max().item():.3g} '
            f'reach the student with mean {center:.2g}, deviation '
            f'{spread:.2g}')
    if len(mean) == 1:
        yield yellow(f'{said}: they are not normalized',
                     'set mean and std of model.data_preprocessor')
    elif raw.max() <= 1.5 and mean.max() > 2:
        yield red(
            f'{said}: the mean is one of pixels from 0 to 255',
            'load images as they are, 0 to 255, without to_float or a '
            'division by 255')
    elif raw.max() > 2 and std.max() < 1:
        yield red(f'{said}: mean and std are those of pixels from 0 to 1',
                  'multiply both by 255')
    elif not SPREAD[0] < spread < SPREAD[1] or abs(center) > FAR:
        yield red(
            f'{said}, far from 0 and 1',
            'mean and std of model.data_preprocessor are those of other '
            'images')
    else:
        yield green(said)


@check
def channel_order(experiment: Experiment) -> Iterator[Finding]:
    """The mean of each channel is that of the channel which gets it."""
    networks = {'the student': experiment.model}
    distiller = experiment.runner.distiller
    if distiller is not None:
        networks.update({
            f'the teacher {name!r}': teacher.network
            for name, teacher in distiller.teachers.items()
        })
    for owner, network in networks.items():
        mean, _, flips = normalization(
            getattr(network, 'data_preprocessor', None))
        mean = mean.flatten()
        if len(mean) != 3:
            continue
        order = {True: MEAN, False: MEAN.flip(0)}  # OpenCV loads BGR
        if torch.allclose(mean, order[not flips], atol=1.):
            yield red(
                f'{owner} gets {"RGB" if flips else "BGR"} images, and the '
                f'mean of {"BGR" if flips else "RGB"} ones',
                f'set bgr_to_rgb={not flips} in its data_preprocessor, or '
                'mean and std the other way round')


@check
def ignored(experiment: Experiment) -> Iterator[Finding]:
    """All parts agree on the label that does not count."""
    data, classes = experiment.ignore_index, len(experiment.classes)
    seen = set(torch.cat([x.unique() for x in experiment.labels]).tolist())
    for head in heads(experiment.model):
        mine = getattr(head, 'ignore_index', data)
        if mine == data:
            continue
        name = type(head).__name__
        if data in seen or 0 <= mine < classes:
            yield red(
                f'{name} ignores the label {mine}, the data set ignores '
                f'{data}', f'set ignore_index={data} in the head, or '
                'ignore_index of the data set')
    padded = getattr(experiment.model.data_preprocessor, 'seg_pad_val', data)
    if padded != data and (padded in seen or padded < classes):
        yield red(
            f'labels are padded with {padded}, the data set ignores '
            f'{data}', f'set seg_pad_val={data} in data_preprocessor')
    extra = [v for v in sorted(seen) if v != data and not 0 <= v < classes]
    if extra and classes:
        yield red(
            f'labels of {listed(extra)} come out of the training pipeline, '
            f'the data has {classes} classes and ignores {data}',
            'give each a class, or make it '
            f'{data}; CheckLabels in the pipeline names the file')
    if not experiment.labelled:
        return
    if seen == {data}:
        yield red(
            'no pixel of these batches has a label that counts',
            'these are not the right label files, or a transform loses them')
    elif not extra:
        images = torch.cat([x.flatten(1) for x in experiment.labels])
        empty = int((images == data).all(1).sum())
        share = (images == data).double().mean().item()
        yield green(f'{len(images)} crops of {len(experiment.images)} '
                    f'batches: {share:.1%} of the pixels do not count, '
                    f'{empty} crops have none that does')
