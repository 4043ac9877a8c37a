"""Drawn scenes: reproducible, varied, and street-like where it can be told."""
import hashlib

import numpy as np
import pytest

from seg_kd.datasets.prepare.synthetic import convert
from seg_kd.datasets.synthetic import draw_scene
from seg_kd.datasets.synthetic.classes import (BICYCLE, ROAD, SIDEWALK, SKY,
                                               VEGETATION)


@pytest.fixture(scope='module')
def scenes():
    return [draw_scene(0, 'train', i) for i in range(12)]


def digest(pair):
    return hashlib.sha256(b''.join(a.tobytes() for a in pair)).hexdigest()


def test_a_scene_depends_on_its_arguments_alone(scenes):
    np.random.seed(3)
    assert digest(draw_scene(0, 'train', 5)) == digest(scenes[5])
    others = [(1, 'train', 5), (0, 'val', 5), (0, 'train', 6)]
    found = {digest(draw_scene(*args)) for args in others}
    assert len(found) == 3 and digest(scenes[5]) not in found


def test_shapes_and_types():
    image, label = draw_scene(0, 'val', 0, (97, 61))
    assert image.shape == (61, 97, 3) and label.shape == (61, 97)
    assert image.dtype == label.dtype == np.uint8


def test_most_train_ids_appear_and_no_other_value(scenes):
    values = set(np.unique([label for _, label in scenes]).tolist())
    assert values == {*range(16), BICYCLE, 255}


def test_sky_is_above_road_and_sidewalk_beside_it(scenes):
    labels = np.stack([label for _, label in scenes])

    def mean(label, axis):
        return np.nonzero(labels == label)[axis].mean()

    assert mean(SKY, 1) < mean(VEGETATION, 1) < mean(ROAD, 1)
    middle = labels.shape[2] / 2
    offset = [
        np.abs(np.nonzero(labels == c)[2] - middle).mean()
        for c in (ROAD, SIDEWALK)
    ]
    assert offset[0] < offset[1]


def test_colours_of_classes_overlap(scenes):
    """The mean colour of one pixel does not tell road from building."""
    images = np.stack([image for image, _ in scenes]).astype(float)
    labels = np.stack([label for _, label in scenes])
    road, house = (images[labels == c].mean(-1) for c in (ROAD, 2))
    best = max(np.mean(road < t) - np.mean(house < t) for t in range(256))
    worst = min(np.mean(road < t) - np.mean(house < t) for t in range(256))
    assert max(best, -worst) < 0.5  # 1 would be separable by a threshold


def test_two_draw_what_one_draws(tmp_path):
    for jobs in 1, 2:
        convert(tmp_path / str(jobs), 2, 3, 2, size=(64, 32), jobs=jobs)
    one, two = ({
        path.relative_to(root): path.read_bytes()
        for path in root.rglob('*') if path.is_file()
    } for root in (tmp_path / '1', tmp_path / '2'))
    assert one == two and len(one) == 13  # the labels of five, the manifest
