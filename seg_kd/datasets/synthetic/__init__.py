"""Street scenes drawn from a seed, labelled with Cityscapes' train ids.

They are here so that the whole chain runs on a machine without data. Colours
of the classes overlap and light, haze, blur and noise vary, so that a
network has to use shape, texture and place.
"""

import cv2
import numpy as np

from seg_kd.datasets.synthetic.canvas import Camera, Canvas, circle
from seg_kd.datasets.synthetic.city import City
from seg_kd.datasets.synthetic.classes import IGNORE
from seg_kd.datasets.synthetic.objects import (Board, bicycle, bin_, person,
                                               pole, tree)
from seg_kd.datasets.synthetic.photo import exposed, sensed, textured
from seg_kd.datasets.synthetic.street import (Street, paint_fronts,
                                              paint_ground, paint_sky)
from seg_kd.datasets.synthetic.vehicles import ODDS, SHAPES, Vehicle

OVERSAMPLING = 2


def draw_scene(
    seed: int,
    split: str,
    index: int,
    size: tuple[int, int] = (256, 128),
    city: str = 'inkstadt',
) -> tuple[np.ndarray, np.ndarray]:
    """One scene, a function of its arguments alone.

    Args:
        seed: Seed of the whole set.
        split: Any word; splits share no scene.
        index: Number of the scene in its split.
        size: Width and height in pixels.
        city: Name of the city, see :class:`City`; any word is one.

    Shape:
        ``(H, W, 3)`` uint8 image in OpenCV's BGR order and ``(H, W)`` uint8
        train ids, 255 where nothing is scored.
    """
    rng = np.random.default_rng([seed, index, *split.encode()])
    home = City.named(city)
    width, height = (OVERSAMPLING * n for n in size)
    camera = Camera(rng, width, height)
    haze = rng.uniform(120, 245) + rng.normal(0, 8, 3)
    canvas = Canvas(home, camera, haze, rng.uniform(70, 500))
    street = Street(home, rng)
    paint_sky(canvas, rng)
    paint_ground(canvas, street, rng)
    paint_fronts(canvas, street, rng)
    items = [*traffic(street, rng), *pavement(street, home, rng)]
    for _, draw in sorted(items, key=lambda item: -item[0]):  # far ones first
        draw(canvas)
    if rng.random() < .5:
        paint_bonnet(canvas, rng)
    image = textured(canvas.image, canvas.label, rng)
    image = exposed(cv2.resize(image, size, interpolation=cv2.INTER_AREA),
                    home, rng)
    label = canvas.label[::OVERSAMPLING, ::OVERSAMPLING]
    return sensed(image[..., ::-1], rng), np.ascontiguousarray(label)


def traffic(street: Street, rng: np.random.Generator) -> list:
    """(distance, draw) of what is on the road and parked beside it."""
    items = []
    z = rng.uniform(5, 12)
    while z < 75:
        lane = rng.choice([-1, -.4, .4, 1])
        shape = SHAPES[rng.choice(len(SHAPES), p=ODDS)]
        heading = (0 if lane > 0 else np.pi) + rng.normal(0, .06)
        if rng.random() < .1:
            heading += np.pi / 2  # crosses the street
        x = street.shift + lane * (street.half - 1.2)
        reach = abs(shape.profile[0][0])
        vehicle = Vehicle(rng, shape, x, z + reach, heading)
        items.append((z + reach, vehicle.draw))
        z += rng.uniform(1.5, 9)
    for _ in range(rng.integers(0, 4)):
        x, z = street.shift + street.half * rng.uniform(-1, 1), depth(rng)
        draw = bicycle if rng.random() < .75 else person
        items.append((z, figure(draw, rng, x, z, rider=True)))
    return items


def pavement(street: Street, city: City, rng: np.random.Generator) -> list:
    """(distance, draw) of what is on the sidewalks."""
    items = []
    kinds = [(person, 8), (pole, 8), (tree, 3), (bicycle, 3), (bin_, 2)]
    for kind, most in kinds:
        for _ in range(rng.integers(0, round(most * city.crowd) + 1)):
            side, z = rng.choice([-1, 1]), depth(rng)
            step = .4 if kind is pole else rng.uniform(0, street.walk[side])
            x = street.edge(side) + side * step
            items.append((z, figure(kind, rng, x, z, rider=False)))
    return items


def depth(rng: np.random.Generator) -> float:
    """Metres; as many near as far on a logarithmic scale."""
    return float(np.exp(rng.uniform(np.log(4.5), np.log(60))))


def figure(kind, rng: np.random.Generator, x: float, z: float, rider: bool):
    more = {bicycle: (rider, ), tree: (rng.uniform(3, 8), )}.get(kind, ())
    return lambda canvas: kind(Board(canvas, x, z), rng, *more)


def paint_bonnet(canvas: Canvas, rng: np.random.Generator) -> None:
    """The bonnet of the camera's own car, which is not scored."""
    height, width = canvas.label.shape
    arc = circle(height * rng.uniform(.1, .2), width / height * 3, 40)
    canvas.fill(arc + (width / 2, height * 1.06), rng.uniform(10, 90, 3),
                IGNORE)
