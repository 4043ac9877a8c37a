"""Cars, trucks and buses: side profiles that are extruded to solids."""
import math
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from seg_kd.datasets.synthetic.canvas import Canvas, circle
from seg_kd.datasets.synthetic.classes import BUS, CAR, TRUCK
from seg_kd.datasets.synthetic.colours import paint

Profile = tuple[tuple[float, float], ...]


class Shape(NamedTuple):
    """Side view in metres: (along, up) from the middle of the ground line.

    ``glass`` are edges of the profile (its windscreens), ``windows`` quads
    of the side as (from, to, low, high).
    """
    label: int
    width: float
    profile: Profile
    glass: tuple[int, ...]
    windows: tuple[tuple[float, float, float, float], ...]
    wheels: tuple[float, ...]


SEDAN = Shape(CAR, 1.8, ((-2.1, .35), (-2.15, .9), (-1.7, .98), (-1.2, 1.42),
                         (.3, 1.45), (1., .98), (2.05, .82), (2.15, .35)),
              (2, 4), ((-1.25, -.4, .95, 1.33), (-.3, .5, .95, 1.33)),
              (-1.3, 1.35))
HATCH = Shape(CAR, 1.7, ((-1.75, .35), (-1.8, .95), (-1.55, 1.5), (.3, 1.52),
                         (1.1, 1.), (1.85, .85), (1.9, .35)), (1, 3),
              ((-1.4, -.4, 1., 1.4), (-.3, .6, 1., 1.4)), (-1.1, 1.25))
VAN = Shape(CAR, 1.95, ((-2.4, .35), (-2.4, 2.1), (1.3, 2.1), (1.9, 1.2),
                        (2.5, 1.), (2.5, .35)), (2, ),
            ((.3, 1.4, 1.2, 1.9), (-1., .1, 1.2, 1.9)), (-1.5, 1.6))
LORRY = Shape(TRUCK, 2.4, ((-4.2, .6), (-4.2, 3.5), (2., 3.5), (2., 2.7),
                           (3.6, 2.7), (3.9, 1.5), (4., .5)), (4, ),
              ((2.5, 3.5, 1.6, 2.4), ), (-3., -2., 2.9))
COACH = Shape(
    BUS, 2.5, ((-5.2, .4), (-5.2, 3.1), (5.1, 3.1), (5.3, 1.3), (5.3, .4)),
    (2, ), tuple((x, x + 1.35, 1.3, 2.6) for x in np.arange(-4.9, 4.5, 1.6)),
    (-3.2, 3.4))
SHAPES = (SEDAN, HATCH, VAN, LORRY, COACH)
ODDS = (.37, .27, .12, .13, .11)


class Vehicle:
    """A shape of one colour at a place (metres) and heading (radians)."""

    def __init__(self, rng: np.random.Generator, shape: Shape, x: float,
                 z: float, heading: float) -> None:
        self.shape = shape
        self.x, self.z = x, z
        self.sin, self.cos = math.sin(heading), math.cos(heading)
        self.colour = paint(rng)
        self.glass = rng.uniform(25, 100, 3)
        self.lamp = (190, 30, 30) if self.cos > 0 else (250, 250, 220)
        self.lit = rng.uniform(0.6, 1.1, 2)  # end faces, side faces

    def world(self, along: ArrayLike, up: ArrayLike,
              across: ArrayLike) -> np.ndarray:
        along, up, across = np.broadcast_arrays(along, up, across)
        x = self.x + along * self.sin + across * self.cos
        z = self.z + along * self.cos - across * self.sin
        return np.stack([x, up, z], -1)

    def draw(self, canvas: Canvas) -> None:
        half, profile = self.shape.width / 2, np.array(self.shape.profile)
        reach = np.abs(profile[:, 0]).max()
        ground = np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * 1.08
        canvas.shade(self.world(ground[:, 0] * reach, 0., ground[:, 1] * half),
                     0.5)
        near_side = np.sign(self._distance(0, -half) - self._distance(0, half))
        self._wheels(canvas, half * near_side)
        self._edges(canvas, profile, half)
        self._side(canvas, profile, half * near_side)

    def _distance(self, along: float, across: float) -> float:
        x, _, z = self.world(along, 0., across)
        return math.hypot(x, z)

    def _edges(self, canvas: Canvas, profile: np.ndarray, half: float) -> None:
        order = np.argsort([-self._distance(a, 0.) for a, _ in profile])
        for i in order:
            (a0, y0), (a1, y1) = profile[i], profile[(i + 1) % len(profile)]
            quad = self.world([a0, a0, a1, a1], [y0, y0, y1, y1],
                              [-half, half, half, -half])
            centre, rise, run = quad.mean(0), y1 - y0, a1 - a0
            normal = np.array([-rise * self.sin, run, -rise * self.cos])
            if normal @ (centre - [0, canvas.camera.eye, 0]) >= 0:
                continue
            canvas.face(quad, self.colour * self.lit[0], self.shape.label)
            if i in self.shape.glass:
                canvas.face(centre + (quad - centre) * 0.82, self.glass)
            elif abs(run) < 0.3 and y0 < 1 < y1 + 0.6:
                for across in (-half, half - 0.35):
                    sides = np.array([0, .35, .35, 0]) + across
                    lamp = self.world(a0, [.62, .62, .82, .82], sides)
                    canvas.face(lamp, self.lamp)

    def _side(self, canvas: Canvas, profile: np.ndarray,
              across: float) -> None:
        canvas.face(self.world(*profile.T, across), self.colour * self.lit[1],
                    self.shape.label)
        for a0, a1, y0, y1 in self.shape.windows:
            canvas.face(self.world([a0, a1, a1, a0], [y0, y0, y1, y1], across),
                        self.glass)
        self._wheels(canvas, across)

    def _wheels(self, canvas: Canvas, across: float) -> None:
        radius = 0.33 if self.shape.label == CAR else 0.48
        for along in self.shape.wheels:
            for size, grey in ((radius, 22), (radius * .55, 110)):
                rim = circle(size) + (along, radius)
                canvas.face(self.world(*rim.T, across), (grey, ) * 3,
                            self.shape.label)
