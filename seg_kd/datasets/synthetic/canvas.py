"""A pinhole camera over a flat street, and a canvas that paints what it sees.

World axes in metres: ``x`` to the right, ``y`` up from the ground, ``z`` away
from the camera.
"""
import functools
import math
from collections.abc import Sequence

import cv2
import numpy as np

from seg_kd.datasets.synthetic.city import City

NEAR = 0.6  # metres; nothing is drawn nearer
SHIFT = 4  # sub-pixel bits of the OpenCV drawing calls

Colour = Sequence[float]


class Camera:
    """Where a camera stands; lengths in pixels unless said otherwise."""

    def __init__(self, rng: np.random.Generator, width: int,
                 height: int) -> None:
        self.width, self.height = width, height
        self.focal = height * rng.uniform(0.85, 1.3)
        self.horizon = height * rng.uniform(0.34, 0.5)  # its row
        self.centre = width * rng.uniform(0.38, 0.62)  # of the vanishing point
        self.eye = rng.uniform(1.2, 2.1)  # metres above the ground
        self.roll = rng.normal(0, 0.012)  # radians

    def project(self, points: np.ndarray) -> np.ndarray:
        """``(..., 3)`` metres to ``(..., 2)`` pixels (x, y)."""
        scale = self.focal / np.maximum(points[..., 2], NEAR)
        u = points[..., 0] * scale
        v = (self.eye - points[..., 1]) * scale
        cos, sin = math.cos(self.roll), math.sin(self.roll)
        return np.stack([
            self.centre + cos * u - sin * v, self.horizon + sin * u + cos * v
        ], -1)


class Canvas:
    """Image and label map that are painted together, far things first.

    Args:
        city: Whose streets are painted.
        camera: Projects the faces that are given in metres.
        haze: Colour (RGB) that far things fade to.
        haze_distance: Metres at which 63 % of a colour has faded.
    """

    def __init__(self, city: City, camera: Camera, haze: np.ndarray,
                 haze_distance: float) -> None:
        self.city, self.camera, self.haze = city, camera, haze
        self.haze_distance = haze_distance
        shape = camera.height, camera.width
        self.image = np.zeros((*shape, 3), np.uint8)
        self.label = np.full(shape, 255, np.uint8)

    def faded(self, colour: Colour, depth: float) -> Colour:
        clear = math.exp(-depth / self.haze_distance)
        mixed = clear * np.asarray(colour, float) + (1 - clear) * self.haze
        return np.clip(mixed, 0, 255).tolist()

    def face(self,
             points: np.ndarray,
             colour: Colour | None,
             label: int | None = None) -> None:
        """Fill one ``(P, 3)`` polygon, or ``(N, P, 3)`` disjoint ones.

        ``colour=None`` paints the label alone, ``label=None`` the image.
        """
        points = np.asarray(points, float)
        if points.shape[0]:
            depth = float(points[..., 2].sum()) * 3 / points.size
            self.fill(self.camera.project(points), colour, label, depth)

    def fill(self,
             points: np.ndarray,
             colour: Colour | None,
             label: int | None = None,
             depth: float = 0.) -> None:
        """As :meth:`face`, with points in pixels."""
        fixed = np.rint(points * (1 << SHIFT)).astype(np.int32)
        polygons = list(fixed) if fixed.ndim == 3 else [fixed]
        if colour is not None:
            colour = self.faded(colour, depth)
            cv2.fillPoly(self.image, polygons, colour, shift=SHIFT)
        if label is not None:
            cv2.fillPoly(self.label, polygons, int(label), shift=SHIFT)

    def shade(self, points: np.ndarray, factor: float) -> None:
        """Multiply the image inside a polygon of ``(P, 3)`` metres."""
        pixels = np.rint(self.camera.project(points)).astype(np.int32)
        x, y, w, h = cv2.boundingRect(pixels)
        x0, y0 = max(x, 0), max(y, 0)
        region = self.image[y0:max(y + h, 0), x0:max(x + w, 0)]
        if not region.size:
            return
        mask = np.zeros(region.shape[:2], np.uint8)
        cv2.fillPoly(mask, [pixels - np.int32([x0, y0])], 1)
        table = np.clip(np.arange(256) * factor, 0, 255).astype(np.uint8)
        cv2.copyTo(cv2.LUT(region, table), mask, region)


def circle(radius: float, aspect: float = 1., corners: int = 14) -> np.ndarray:
    """``(corners, 2)`` points of an ellipse around the origin."""
    return unit_circle(corners) * (radius * aspect, radius)


@functools.cache
def unit_circle(corners: int, turn: float = 0.) -> np.ndarray:
    angle = np.linspace(0, 2 * np.pi, corners, endpoint=False) + turn
    return np.stack([np.cos(angle), np.sin(angle)], -1)
