"""What stands still and is large: sky, ground, and the two street fronts."""
import numpy as np

from seg_kd.datasets.synthetic.canvas import NEAR, Canvas
from seg_kd.datasets.synthetic.city import City
from seg_kd.datasets.synthetic.classes import (BUILDING, FENCE, ROAD, SIDEWALK,
                                               SKY, TERRAIN, VEGETATION, WALL)
from seg_kd.datasets.synthetic.colours import foliage, masonry, scaled
from seg_kd.datasets.synthetic.objects import Board, box, tree

FAR = 160.  # metres


class Street:
    """One draw of the street's measures (metres) and its sun."""

    def __init__(self, city: City, rng: np.random.Generator) -> None:
        self.shift = rng.uniform(-2.5, 2.5)  # of the road's middle
        self.half = rng.uniform(*city.widths)
        self.walk = {s: rng.uniform(1.4, 4.5) for s in (-1, 1)}
        self.verge = {
            s: rng.uniform(1, 5) * (rng.random() < 0.45)
            for s in (-1, 1)
        }
        self.sun = rng.choice([-1, 1])  # side that the light comes from
        self.shadow = rng.uniform(0.4, 0.95)

    def edge(self, side: int) -> float:
        return self.shift + side * self.half

    def front(self, side: int) -> float:
        return self.edge(side) + side * (self.walk[side] + self.verge[side])


def strip(x0: float, x1: float, z0: float = NEAR, z1: float = FAR):
    """Corners of a rectangle on the ground."""
    return np.array([[x0, 0, z0], [x1, 0, z0], [x1, 0, z1], [x0, 0, z1]])


def upright(x: float, z0: float, z1: float, y0: float, y1: float):
    """Corners of a rectangle in a plane along the street."""
    return np.array([[x, y0, z0], [x, y0, z1], [x, y1, z1], [x, y1, z0]])


def paint_sky(canvas: Canvas, rng: np.random.Generator) -> None:
    height, width = canvas.label.shape
    haze = canvas.haze
    blue = np.array([-35, -5, 30]) * rng.uniform(-.4, 1.2)
    top = haze * rng.uniform(0.5, 1.) + blue
    ramp = np.linspace(0, 1, height)[:, None] / 0.5
    column = top + np.clip(ramp, 0, 1) * (haze - top)
    canvas.image[:] = np.clip(column, 0, 255)[:, None].astype(np.uint8)
    canvas.label[:] = SKY
    for x in np.cumsum(rng.uniform(4, 40, 12)) - 140:  # skyline
        tall, wide = rng.uniform(4, 40), rng.uniform(8, 30)
        if rng.random() < 0.35:
            tree(Board(canvas, x, FAR * 0.7), rng, tall * 0.5)
        else:
            Board(canvas, x, FAR * 0.8).face(box(0, wide, 0, tall),
                                             masonry(rng, canvas.city.masonry),
                                             BUILDING)


def paint_ground(canvas: Canvas, street: Street,
                 rng: np.random.Generator) -> None:
    grey = rng.uniform(70, 150)
    asphalt = grey + rng.normal(0, 3, 3)
    paving = grey * rng.uniform(0.85, 1.35) + rng.normal(0, 6, 3)
    canvas.face(strip(-FAR, FAR), foliage(rng, canvas.city.foliage, dry=0.4),
                TERRAIN)
    for side in (-1, 1):
        inner, outer = street.edge(side), street.front(side)
        walk = inner + side * street.walk[side]
        canvas.face(strip(inner, walk), paving, SIDEWALK)
        if street.verge[side] < 0.1:
            canvas.face(strip(walk, outer + side * 3), paving, SIDEWALK)
        canvas.face(strip(inner, inner + side * 0.25), scaled(paving, 1.2),
                    SIDEWALK)
    canvas.face(strip(street.edge(-1), street.edge(1)), asphalt, ROAD)
    paint_markings(canvas, street, asphalt, rng)
    front = street.front(street.sun)  # the fronts on the sun's side
    reach = front - street.sun * rng.uniform(1, 9)
    for z in np.arange(2., 70., 12.):
        if rng.random() < 0.7:
            far = z + rng.uniform(5, 14)
            canvas.shade(strip(front, reach, z, far), street.shadow)


def paint_markings(canvas: Canvas, street: Street, asphalt: np.ndarray,
                   rng: np.random.Generator) -> None:
    for _ in range(rng.integers(0, 5)):  # patches of other asphalt
        x = rng.uniform(street.edge(-1), street.edge(1) - 1)
        z = rng.uniform(3, 30)
        right = min(x + rng.uniform(0.5, 4), street.edge(1))
        canvas.face(strip(x, right, z, z + rng.uniform(1, 9)),
                    asphalt * rng.uniform(0.75, 1.2))
    white = rng.uniform(150, 245, 3)
    for x in np.linspace(street.edge(-1), street.edge(1),
                         rng.integers(2, 5))[1:-1]:
        starts = np.arange(NEAR + rng.uniform(0, 4), 60, 6.)
        canvas.face([strip(x - .08, x + .08, z, z + 3) for z in starts], white)
    if rng.random() < 0.3:
        z = rng.uniform(6, 22)
        bars = np.arange(street.edge(-1) + 0.4, street.edge(1) - 0.5, 1.)
        canvas.face([strip(x, x + 0.5, z, z + 3) for x in bars], white)


def building(canvas, rng, side, x, z0, z1) -> None:
    tall = rng.uniform(4, 22)
    colour = masonry(rng, canvas.city.masonry)
    lit = rng.uniform(0.65, 1.1, 2)
    Board(canvas, x, z0).face(box(0, side * 14, 0, tall), colour * lit[0],
                              BUILDING)
    canvas.face(upright(x, z0, z1, 0, tall), colour * lit[1], BUILDING)
    storey, bay = rng.uniform(2.6, 3.8), rng.uniform(1.6, 3.5)
    floors = np.arange(rng.uniform(0.7, 1.3), tall - 1.6, storey)
    bays = np.arange(z0 + 0.5, z1 - 1., bay)
    if rng.random() < 0.25:  # a blank wall: only its place tells its class
        floors = floors[:0]
    tall_window, wide = rng.uniform(1, storey - 1), bay * rng.uniform(.35, .7)
    panes = np.array([
        upright(x, z, z + wide, y, y + tall_window) for y in floors
        for z in bays
    ]).reshape(-1, 4, 3)
    bright = rng.random(len(panes)) < 0.25
    glass = rng.uniform(20, 110, 3)
    canvas.face(panes[~bright], glass)
    canvas.face(panes[bright], glass + rng.uniform(30, 120))
    if rng.random() < 0.4:  # shop front
        canvas.face(upright(x, z0 + 0.4, z1 - 0.4, 0.2, rng.uniform(2, 3)),
                    rng.uniform(20, 220, 3))


def wall(canvas, rng, side, x, z0, z1) -> None:
    backdrop(canvas, rng, side, x, z0, z1)
    tall, colour = rng.uniform(1.3, 3.), masonry(rng, canvas.city.masonry)
    Board(canvas, x, z0).face(box(0, side, 0, tall), colour * 0.8, WALL)
    canvas.face(upright(x, z0, z1, 0, tall), colour, WALL)
    canvas.face(upright(x, z0, z1, tall - 0.15, tall), scaled(colour, 1.15),
                WALL)


def fence(canvas, rng, side, x, z0, z1) -> None:
    backdrop(canvas, rng, side, x, z0, z1)
    tall, gap = rng.uniform(0.9, 2.), rng.uniform(0.3, 0.7)
    colour = rng.uniform(30, 200) + rng.normal(0, 12, 3)
    canvas.face(upright(x, z0, z1, 0.05, tall), None, FENCE)
    for y in (0.15, tall - 0.1):
        canvas.face(upright(x, z0, z1, y, y + 0.1), colour)
    bars = np.arange(z0, z1, gap)
    canvas.face([upright(x, z, z + 0.13, 0, tall) for z in bars], colour)


def backdrop(canvas, rng, side, x, z0, z1) -> None:
    """Trees or a house that show above a wall or through a fence."""
    behind = x + side * rng.uniform(4, 9)
    if rng.random() < 0.3:
        building(canvas, rng, side, behind, z0 + 1, z1 + 2)
    for z in np.linspace(z1, z0 + 2, rng.integers(0, 4)):
        tree(Board(canvas, behind, z), rng, rng.uniform(3, 9))


def hedge(canvas, rng, side, x, z0, z1) -> None:
    tall = rng.uniform(1, 2.6)
    colour = foliage(rng, canvas.city.foliage)
    Board(canvas, x, z0).face(box(0, side * 6, 0, tall), colour, VEGETATION)
    canvas.face(upright(x, z0, z1, 0, tall), colour, VEGETATION)
    for z in np.linspace(z1, z0 + 1, 5):
        tree(Board(canvas, x + side * 1.5, z), rng,
             tall * rng.uniform(1.1, 2.2))


def park(canvas, rng, side, x, z0, z1) -> None:
    for z in np.sort(rng.uniform(z0, z1, rng.integers(1, 4)))[::-1]:
        place = Board(canvas, x + side * rng.uniform(1, 6), z)
        tree(place, rng, rng.uniform(4, 11))


FRONTS = building, wall, fence, hedge, park


def paint_fronts(canvas: Canvas, street: Street,
                 rng: np.random.Generator) -> None:
    for side in (-1, 1):
        ends = np.cumsum(rng.uniform(6, 20, 12)) + NEAR
        starts = np.concatenate([[NEAR], ends[:-1]])
        for z0, z1 in zip(starts[::-1], ends[::-1]):
            paint = FRONTS[rng.choice(len(FRONTS), p=canvas.city.fronts)]
            setback = side * rng.uniform(0, 1.5)
            paint(canvas, rng, side, street.front(side) + setback, z0, z1)
