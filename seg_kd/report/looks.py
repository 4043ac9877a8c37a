"""What networks see in the same images, beside each other."""
import os
from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd
import torch

from seg_kd.analysis import similarity
from seg_kd.analysis.costs import latencies
from seg_kd.analysis.pictures import colours
from seg_kd.analysis.quality import BINS, EDGE, image_miou
from seg_kd.errors import UserError
from seg_kd.losses.at import attention
from seg_kd.networks.costs import flops, parameters
from seg_kd.report import charts, images
from seg_kd.report.experiments import duration
from seg_kd.report.networks import Networks
from seg_kd.report.page import (Charts, Choice, Note, Picture, Row, Section,
                                Table)

ROWS = 3  # images of each kind
GRID = 9, 12  # points of which the affinity is shown: rows and columns
CKA_IMAGES, CKA_GRID = 16, (8, 8)

INTROS = {  # by key: title, and what the section shows
    'quality':
    ('Edges and interior, calibration',
     f'The band of edges holds the pixels within {100 * EDGE:g} % of the '
     "image's diagonal of another class, the interior the rest; each has "
     f'an IoU of its own. ECE: expected calibration error over {BINS} bins '
     'of the confidence, in percent. NLL: mean negative log-likelihood of '
     'the true class, in nats. Bars under the dashed line: too sure.'),
    'confusion': ('Confusion',
                  'Which class (down) is taken for which (across), as the '
                  'share of the pixels of the true class, in percent.'),
    'agreement':
    ('Agreement with the teacher',
     'Where the teacher is right and where it is wrong: how often a '
     'student says the same. To agree where the teacher is wrong is to '
     'take its error over; "corrects" is to be right there.'),
    'pictures':
    ('Pictures', 'The images with most pixels where the teacher alone is '
     'right, and with most where the student alone is. Under each its '
     'mIoU over the classes in the truth of that image.'),
    'affinity':
    ('Affinity', 'Cosine of the features at one pixel with those at every '
     'other, as Knowledge Adaptation compares them. Click on the image to '
     'choose the pixel. Each network has its own range of colours, which '
     'is under it.'),
    'attention': ('Attention',
                  'Mean over channels of the squared features, as AT '
                  'compares them; each map from its least (blue) to its most '
                  '(yellow).'),
    'cka':
    ('Similarity of layers',
     'Linear CKA between the layers of the teacher (down) and of a student '
     '(across), with the unbiased estimate of HSIC: 100 for layers that '
     'differ by a rotation and a scale, 0 for unrelated ones. Each map is '
     f'averaged over {CKA_GRID[0]} x {CKA_GRID[1]} cells of an image.'),
    'costs':
    ('Costs', 'A multiply-add is two operations. Latency is the median of '
     'one image, in turn, on the CPU of the machine that made this page: '
     'compare it within this table only.')
}


def sections(networks: Networks | None, problem: str,
             say: Callable[[str], None]) -> list[Section]:
    """All that needs networks; where there are none, ``problem`` says why."""
    builders = dict(costs=costs,
                    quality=quality,
                    confusion=confusion,
                    agreement=agreement,
                    pictures=pictures,
                    affinity=affinity,
                    attention=attentions,
                    cka=cka)
    found = {key: Section(key, *INTROS[key]) for key in INTROS}
    if networks is None:
        return [section.missing(problem) for section in found.values()]
    for key, build in builders.items():  # costs first: on the CPU
        say(found[key].title.lower())
        if key == 'quality':
            networks.measure()
        try:
            build(networks, found[key])
        except UserError as error:
            found[key].missing(str(error))
    first = found['quality']
    first.parts[:0] = [
        *(Note(text, missing=True) for text in networks.notes),
        Note(f'Measured on {len(networks.samples)} of '
             f'{len(networks.samples.dataset)} images of the test set, spread '
             'evenly over it.')
    ]
    return list(found.values())


def quality(networks: Networks, section: Section) -> None:
    rows = []
    for network in networks.all:
        found = network.quality
        rows.append({
            'network': network.name,
            'mIoU': f'{found.miou():.2f}',
            'pixels right': f'{found.accuracy:.2f} %',
            'mIoU at edges': f'{found.miou("edges"):.2f}',
            'mIoU in the interior': f'{found.miou("interior"):.2f}',
            'ECE': f'{found.ece:.2f} %',
            'NLL': f'{found.nll:.3f}'
        })
    section.parts.append(Table('By network', pd.DataFrame(rows)))
    parts = 'all', 'edges', 'interior'
    frame = pd.DataFrame({'class': networks.classes})
    for network in networks.all:
        for part in parts:
            frame[f'{network.name}: {part}'] = [
                f'{x:.1f}' if x == x else '-'
                for x in network.quality.iou(part)
            ]
    section.parts.append(Table('IoU by class', frame))
    colour = charts.colours([n.name for n in networks.all])
    section.parts.append(
        Charts('Accuracy by confidence', [
            charts.reliability(n.name, n.quality.bins, colour[n.name])
            for n in networks.all
        ]))


def confusion(networks: Networks, section: Section) -> None:
    drawn, rows = [], []
    names = networks.classes
    for network in networks.all:
        whole = network.quality.confusion.sum(0).astype(float)
        total = whole.sum(1, keepdims=True)
        shares = np.divide(whole,
                           total,
                           np.full_like(whole, np.nan),
                           where=total > 0)
        worst = network.quality.mistakes(5)
        said = '; '.join(f'{names[truth]} taken for {names[guess]}: '
                         f'{share:.0f} %' for truth, guess, share in worst)
        drawn.append(
            charts.matrix(network.name,
                          shares,
                          names,
                          names, ('truth', 'prediction'),
                          f'Confusion of {network.name}; most pixels: {said}',
                          digits=len(names) <= 25))
        rows += [{
            'network': network.name,
            'truth': names[truth],
            'prediction': names[guess],
            'of the class': f'{share:.1f} %'
        } for truth, guess, share in worst]
    section.parts.append(Charts('By network', drawn))
    section.parts.append(Table('Mistakes with most pixels',
                               pd.DataFrame(rows)))


def agreement(networks: Networks, section: Section) -> None:
    if networks.teacher is None:
        section.missing(no_teacher(networks))
        return
    rows = []
    for network in networks.students:
        found = network.agreement.shares()
        rows.append({
            'network': network.name,
            'agrees': f'{found["agrees"]:.2f} %',
            'where the teacher is right': f'{found["follows right"]:.2f} %',
            'where it is wrong': f'{found["follows wrong"]:.2f} %',
            'corrects it there': f'{found["corrects"]:.2f} %'
        })
    section.parts.append(
        Note(f'The teacher is right on {found["teacher right"]:.2f} % of the '
             'pixels.'))
    section.parts.append(Table('By student', pd.DataFrame(rows)))


def pictures(networks: Networks, section: Section) -> None:
    if networks.teacher is None:
        section.missing(no_teacher(networks))
        return
    palette = dict(zip(networks.classes, map(images.hexed, networks.palette)))
    key = {
        f'the teacher alone is right, not {networks.subject.name}':
        images.hexed(images.LOST),
        f'{networks.subject.name} alone is right':
        images.hexed(images.WON)
    }
    shown: set[int] = set()
    most = min(ROWS, -(-len(networks.only) // 2))
    for column, title in enumerate(
        ('the teacher is right and the student wrong',
         'the student is right and the teacher wrong')):
        counts = np.array([only[column] for only in networks.only])
        order = [
            i for i in np.argsort(-counts, kind='stable')
            if counts[i] and i not in shown
        ][:most]
        if not order:
            section.missing(f'an image where {title}.')
        for i in order:
            shown.add(i)
            section.parts.append(
                Row(f'{named(networks, i)}: {counts[i]} pixels where {title}',
                    list(_seen(networks, i)), {
                        **palette,
                        **key
                    } if len(shown) == 1 else key))


def _seen(networks: Networks, index: int) -> Iterable[Picture]:
    sample = networks.samples[index]
    truth = networks.truth(sample)
    palette = np.array(networks.palette, np.uint8)
    guesses = {n.name: n.predict(sample) for n in networks.all}
    name = named(networks, index)
    yield Picture(images.photo(rgb(sample)), name, 'image')
    yield Picture(images.flat(colours(truth, palette)),
                  f'classes of the truth in {name}',
                  'truth (black: not scored)')
    for network, guess in guesses.items():
        miou = image_miou(guess, truth, len(networks.classes))
        yield Picture(images.flat(colours(guess, palette)),
                      f'classes that {network} sees in {name}',
                      f'{network}: mIoU {miou:.1f}')
    made = images.differences(guesses[networks.subject.name],
                              guesses[networks.teacher.name], truth)
    yield Picture(images.flat(made),
                  f'pixels of {name} where one alone is right',
                  'who alone is right')


def rgb(sample: dict) -> np.ndarray:
    """The image of a sample, ``(H, W, 3)``."""
    found = sample['inputs'].permute(1, 2, 0).numpy()[..., ::-1]
    return np.ascontiguousarray(found)


def named(networks: Networks, index: int) -> str:
    """What an image is called: its file, or its number."""
    path = networks.samples[index]['data_samples'].get('img_path')
    return os.path.basename(path) if path else f'image {index + 1}'


def no_teacher(networks: Networks) -> str:
    said = [note for note in networks.notes if note.startswith('a teacher')]
    return said[0] if said else 'a teacher.'


def interesting(networks: Networks) -> int:
    """The image with most pixels where the teacher alone is right."""
    counts = [teacher for teacher, _ in networks.only]
    return int(np.argmax(counts)) if counts else 0


def affinity(networks: Networks, section: Section) -> None:
    sample = networks.samples[interesting(networks)]
    rows, columns = GRID
    points = [((y + .5) / rows, (x + .5) / columns) for y in range(rows)
              for x in range(columns)]
    sprites = []
    layers = networks.tapped()
    for network in networks.all:
        path = layers[network.name]
        map_, = next(network.maps([path], [sample])).values()
        found = similarity.affinity(map_, points).cpu().numpy()
        low = float(np.percentile(found, 1))
        scaled = (found - low) / max(1e-6, 1 - low)
        sprites.append(
            Picture(images.sprite(scaled, GRID),
                    f'affinity of the chosen pixel in {network.name}',
                    f'{network.name}, {path}: {low:.2f} to 1'))
    image = rgb(sample)
    section.parts.append(
        Choice(
            named(networks, interesting(networks)),
            Picture(images.photo(image), 'the image to choose a pixel in',
                    'choose a pixel'), GRID, sprites,
            (rows * 2 // 3, columns // 2), image.shape[1] / image.shape[0]))


def attentions(networks: Networks, section: Section) -> None:
    count = len(networks.samples)
    first = interesting(networks)
    layers = networks.tapped()
    for index in dict.fromkeys((first, (first + count // 2) % count)):
        sample = networks.samples[index]
        image = rgb(sample)
        name = named(networks, index)
        shown = [Picture(images.photo(image), name, 'image')]
        for network in networks.all:
            path = layers[network.name]
            map_, = next(network.maps([path], [sample])).values()
            found = attention(map_)[0, 0].cpu().numpy()
            low, high = float(found.min()), float(found.max())
            shown.append(
                Picture(
                    images.heat((found - low) / max(high - low, 1e-12),
                                image.shape),
                    f'attention of {network.name} in {name}',
                    f'{network.name}, {path}'))
        section.parts.append(Row(name, shown))


def cka(networks: Networks, section: Section) -> None:
    if networks.teacher is None:
        section.missing(no_teacher(networks))
        return
    count = min(CKA_IMAGES, len(networks.samples))
    samples = [
        networks.samples[i * len(networks.samples) // count]
        for i in range(count)
    ]
    features: dict[str, dict[str, torch.Tensor]] = {}
    for network in networks.all:
        paths = similarity.layers(network.model,
                                  network.normalized(samples[0]))
        parts: dict[str, list] = {path: [] for path in paths}
        for maps in network.maps(paths, samples):
            for path, map_ in maps.items():
                parts[path].append(similarity.rows(map_, CKA_GRID).cpu())
        features[network.name] = {k: torch.cat(v) for k, v in parts.items()}
    teacher = features[networks.teacher.name]
    drawn = []
    for network in networks.students:
        own = features[network.name]
        found = similarity.cka(list(teacher.values()), list(own.values()))
        best = [
            f'{path} is most like {list(teacher)[int(np.nanargmax(column))]}, '
            f'{100 * np.nanmax(column):.0f}'
            for path, column in zip(own, found.T) if np.isfinite(column).any()
        ]
        drawn.append(
            charts.matrix(f'teacher and {network.name}',
                          found,
                          list(map(short, teacher)),
                          list(map(short, own)), ('teacher', network.name),
                          f'CKA of {network.name} with the teacher: '
                          f'{"; ".join(best)}',
                          digits=True))
    section.parts.append(Charts(f'On {count} images', drawn))


def short(path: str) -> str:
    return path.replace('backbone.', '').replace('decode_head.', 'head.')


def costs(networks: Networks, section: Section) -> None:
    sample = networks.samples[0]
    height, width = sample['inputs'].shape[-2:]
    image = torch.zeros(1, 3, height, width)
    speed = latencies({n.name: n.model for n in networks.all}, image)
    rows = []
    for network in networks.all:
        taken = duration(sum(
            network.run.seconds.values())) if network.run else '-'
        rows.append({
            'network': network.name,
            'parameters': f'{parameters(network.model) / 1e6:.2f} M',
            'GFLOPs': f'{flops(network.model, image) / 1e9:.2f}',
            'latency': f'{speed[network.name]:.1f} ms',
            'training': taken,
            'weights': os.path.relpath(network.checkpoint)
        })
    section.parts.append(
        Table(
            f'Images of {width} x {height}, one at a time, on '
            f'{torch.get_num_threads()} of the cores', pd.DataFrame(rows)))
