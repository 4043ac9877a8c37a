"""Flat figures that face the camera: trees, poles, signs, people, bicycles."""
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from seg_kd.datasets.synthetic.canvas import (Canvas, Colour, circle,
                                              unit_circle)
from seg_kd.datasets.synthetic.classes import (BICYCLE, IGNORE, LIGHT, PERSON,
                                               POLE, RIDER, SIGN, VEGETATION)
from seg_kd.datasets.synthetic.colours import foliage, paint, scaled, skin


class Board(NamedTuple):
    """A plane that faces the camera, and stands at ``(x, 0, z)`` metres.

    Points on it are ``(right, up)`` of that place, in ``scale`` metres.
    """
    canvas: Canvas
    x: float
    z: float
    scale: tuple[float, float] = (1., 1.)

    def world(self, points: ArrayLike) -> np.ndarray:
        """``(..., 2)`` points as ``(..., 3)`` metres."""
        points = np.asarray(points, float) * self.scale
        world = np.full((*points.shape[:-1], 3), float(self.z))
        world[..., 0] = points[..., 0] + self.x
        world[..., 1] = points[..., 1]
        return world

    def face(self,
             points: ArrayLike,
             colour: Colour | None,
             label: int | None = None) -> None:
        """See :meth:`Canvas.face`."""
        self.canvas.face(self.world(points), colour, label)


def box(x0: float, x1: float, y0: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def limb(start, end, thick: float) -> np.ndarray:
    """A stroke from start to end."""
    start, end = np.asarray(start, float), np.asarray(end, float)
    along = end - start
    across = np.array([-along[1], along[0]]) / (np.hypot(*along) + 1e-9)
    side = across * thick / 2
    return np.array([start - side, end - side, end + side, start + side])


def tree(board: Board, rng: np.random.Generator, tall: float) -> None:
    leaf = foliage(rng, board.canvas.city.foliage)
    trunk = rng.uniform(40, 90) * np.array([1.1, .9, .7])
    board.face(box(-.02 * tall, .02 * tall, 0, tall * .6), trunk, VEGETATION)
    spread = rng.uniform(0.18, 0.3) * tall
    # far ones need fewer blobs
    count = int(np.clip(60 * tall / board.z, 4, 16))
    at = rng.normal(0, 1, (count, 1, 2)) * (spread * .55, tall * .13)
    size = spread * rng.uniform(.35, .75, (count, 1, 1))
    ragged = rng.uniform(.8, 1.2, (count, 9, 1))
    blobs = circle(1., corners=9) * size * ragged + at + (0, tall * .68)
    light = np.linspace(.75, 1.25, count) * rng.uniform(.75, 1.2, count)
    pixels = board.canvas.camera.project(board.world(blobs))
    for blob, shade in zip(pixels, light):
        board.canvas.fill(blob, leaf * shade, VEGETATION, board.z)


def pole(board: Board, rng: np.random.Generator) -> None:
    """A mast that carries nothing, a lamp, signs or a traffic light."""
    tall, thick = rng.uniform(2.6, 7.5), rng.uniform(0.1, 0.22)
    colour = rng.uniform(50, 170) + rng.normal(0, 8, 3)
    board.face(box(-thick / 2, thick / 2, 0, tall), colour, POLE)
    kind = rng.choice(['bare', 'lamp', 'sign', 'light'], p=[.1, .15, .4, .35])
    before = board._replace(z=board.z - .1)
    if kind == 'lamp':
        arm = -np.sign(board.x) * rng.uniform(1, 2.5)
        board.face(limb((0, tall), (arm, tall + .3), thick), colour, POLE)
    elif kind == 'sign':
        for step in range(rng.integers(1, 3)):
            sign(before, rng, min(tall, 3.6) - .3 - step * .9)
    elif kind == 'light':
        beside = before._replace(x=board.x + rng.uniform(-.2, .2))
        traffic_light(beside, rng, min(tall, 4.2))


def sign(board: Board, rng: np.random.Generator, y: float) -> None:
    corners = int(rng.choice([3, 4, 4, 14]))
    size = rng.uniform(.32, .55)
    turn = {3: np.pi / 2, 4: np.pi / 4, 14: 0}[corners]
    outline = size * unit_circle(corners, turn) + (0, y)
    if corners == 4:
        outline = (outline - (0, y)) * rng.uniform(.7, 1.7, 2) + (0, y)
    rims = [(190, 30, 35), (30, 70, 170), (235, 235, 230), (225, 180, 20),
            (40, 120, 60), (130, 130, 130)]
    rim = rims[rng.integers(6)]
    inside = rim if rng.random() < .4 else rng.uniform(60, 240, 3)
    board.face(outline, rim, SIGN)
    board.face((outline - (0, y)) * .7 + (0, y), inside)


def traffic_light(board: Board, rng: np.random.Generator, y: float) -> None:
    board.face(box(-.22, .22, y - 1.05, y), rng.uniform(10, 60, 3), LIGHT)
    lamps = [(230, 40, 30), (230, 170, 30), (40, 210, 120)]
    lit = rng.integers(3)
    for i, colour in enumerate(lamps):
        bulb = circle(.13, corners=8) + (0, y - .2 - .32 * i)
        board.face(bulb, scaled(colour, 1. if i == lit else .22))


def person(board: Board, rng: np.random.Generator) -> None:
    tall, width = rng.uniform(1.2, 1.95), rng.uniform(.85, 1.25)
    stride = rng.uniform(-.2, .2)
    trousers, coat = paint(rng), paint(rng)
    body = board._replace(scale=(width * tall, tall))
    part = partial(body.face, label=PERSON)
    for side in (-1, 1):
        part(limb((0, .48), (side * stride + side * .04, 0), .09), trousers)
        elbow = side * .12 + rng.normal(0, .06), rng.uniform(.42, .6)
        part(limb((side * .08, .78), elbow, .065), coat * .85)
    part([(-.08, .44), (.08, .44), (.115, .8), (.05, .86), (-.05, .86),
          (-.115, .8)], coat)
    if rng.random() < .3:  # bag
        part(circle(.09) + (rng.choice([-.13, .13]), .6), paint(rng))
    head = circle(.065, 1 / width) + (0, .925)
    part(head, skin(rng))
    part(head[1:7] + (0, .012), paint(rng) * .5)


def bicycle(board: Board, rng: np.random.Generator, rider: bool) -> None:
    aspect = rng.uniform(.3, 1)  # how much of its side is seen
    frame, way = paint(rng), rng.choice([-1, 1])
    part = board._replace(scale=(aspect * way, 1)).face
    for at in (-.52, .52):
        wheel = circle(.34) + (at, .34)
        inner = (circle(.28) + (at, .34))[::-1]
        part(wheel, None, BICYCLE)
        ring = np.concatenate([wheel, wheel[:1], inner[-1:], inner])
        part(ring, (25, 25, 25))
    bars = [((-.52, .34), (-.2, .85)), ((-.2, .8), (.4, .85)),
            ((-.1, .35), (.4, .85)), ((.52, .34), (.38, 1.02)),
            ((-.52, .34), (-.1, .35)), ((.28, 1.02), (.45, 1.02))]
    for start, end in bars:
        part(limb(start, end, .07), frame, BICYCLE)
    if rider:
        coat, trousers = paint(rng), paint(rng)
        for knee in (.12, .24):
            part(limb((-.18, .9), (knee, .72), .15), trousers, RIDER)
            part(limb((knee, .72), (knee - .12, .34), .11), trousers, RIDER)
        part([(-.3, .88), (-.02, .9), (.2, 1.38), (.06, 1.5), (-.1, 1.42)],
             coat, RIDER)
        part(limb((.12, 1.36), (.4, 1.05), .1), coat * .85, RIDER)
        head = circle(.13, 1 / aspect) + (.16, 1.62)
        part(head, skin(rng), RIDER)
        part(head[:8] + (0, .03), paint(rng), RIDER)


def bin_(board: Board, rng: np.random.Generator) -> None:
    """Street furniture that Cityscapes does not score."""
    tall, wide = rng.uniform(.6, 1.5), rng.uniform(.25, .6)
    board.face(box(-wide, wide, 0, tall), paint(rng), IGNORE)
    board.face(box(-wide, wide, tall * .85, tall), paint(rng), IGNORE)
