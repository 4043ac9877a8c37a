"""Draws the embedded street scenes into Cityscapes' folder layout."""
import json
import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import cv2

from seg_kd.datasets.prepare.files import present, read_text, write
from seg_kd.datasets.progress import progress
from seg_kd.datasets.synthetic import draw_scene
from seg_kd.errors import UserError

CITIES = dict(train='inkstadt', train_extra='inkstadt', val='pixelburg')
UNLABELLED = 'train_extra'
VERSION = 2  # of the drawing code; raise it when scenes change


def convert(out: Path,
            train: int = 24,
            val: int = 64,
            extra: int = 320,
            cities: int = 4,
            seed: int = 0,
            size: tuple[int, int] = (256, 128),
            jobs: int = 1) -> None:
    """Draw street scenes of ``size`` (width, height).

    Those of ``val`` are of other cities than those to train on; ``extra`` are
    of the latter, without labels. Scenes of ``cities`` cities take turns. So
    many ``jobs`` draw at a time: more than one for scripts that may be
    imported.
    """
    out = Path(out)
    counts = dict(train=train, train_extra=extra, val=val)
    if min(train, val, cities) < 1 or min(extra, seed) < 0 or min(size) < 32:
        raise UserError('numbers of scenes and cities must be positive, the '
                        'seed not negative, and the size at least 32x32')
    write_manifest(
        out,
        dict(counts, cities=cities, seed=seed, size=[*size], version=VERSION))
    scenes = [(split, index) for split, count in counts.items()
              for index in range(count)]
    draw = partial(draw_pair, out, cities=cities, seed=seed, size=size)
    if jobs == 1:
        for scene in progress(scenes, 'draw'):
            draw(scene)
        return
    # not of the one fork server, which others start as they need it
    start = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(jobs, start) as pool:
        drawn = pool.map(draw, scenes, chunksize=4)
        for _ in progress(drawn, 'draw', len(scenes)):
            pass


def write_manifest(out: Path, wanted: dict) -> None:
    """Note what is drawn; refuse to mix it with something else."""
    path = out / 'synthetic.json'
    if path.is_file():
        if read_manifest(path) != wanted:
            raise UserError(f'{out} holds other scenes (see {path}); choose '
                            'another --out or delete the folder')
    elif out.is_dir() and any(out.iterdir()):
        raise UserError(f'{out} is not empty and was not drawn by this '
                        'command; choose another --out')
    else:
        write(path, json.dumps(wanted, indent=1).encode())


def read_manifest(path: Path) -> dict:
    try:
        found = json.loads(read_text(path))
        return {**found, **{split: int(found[split]) for split in CITIES}}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is damaged ({error}): delete the folder and '
                        'draw it again') from error


def draw_pair(out: Path, scene: tuple[str, int], cities: int, seed: int,
              size: tuple[int, int]) -> None:
    """Draw one scene, by split and number, if it is not there."""
    split, index = scene
    city = f'{CITIES[split]}{index % cities}'
    stem = f'{split}/{city}/{city}_{index:06d}_000000'
    image = out / 'leftImg8bit' / f'{stem}_leftImg8bit.png'
    label = out / 'gtFine' / f'{stem}_gtFine_labelTrainIds.png'
    labelled = split != UNLABELLED
    if present(image) and (present(label) or not labelled):
        return
    pixels, ids = draw_scene(seed, split, index, size, city)
    if labelled:
        write(label, ids)
    write(image, cv2.imencode('.png', pixels)[1].tobytes())
