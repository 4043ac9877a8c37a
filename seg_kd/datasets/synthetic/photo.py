"""From a flat painting to a photograph: texture, light, lens and sensor."""
import cv2
import numpy as np

from seg_kd.datasets.synthetic.city import City
from seg_kd.datasets.synthetic.classes import (BUILDING, FENCE, IGNORE, ROAD,
                                               SIDEWALK, SKY, TERRAIN,
                                               VEGETATION, WALL)

# Strength of (coarse, fine) texture by class; other classes: DEFAULT.
TEXTURE = {
    ROAD: (.05, .06),
    SIDEWALK: (.06, .09),
    BUILDING: (.06, .07),
    WALL: (.07, .12),
    FENCE: (.05, .06),
    VEGETATION: (.1, .3),
    TERRAIN: (.12, .16),
    SKY: (.04, .0),
    IGNORE: (.05, .03)
}
DEFAULT = (.06, .04)


def noise(rng: np.random.Generator, shape, cell: int) -> np.ndarray:
    """Smooth noise of unit deviation; ``cell`` pixels from bump to bump."""
    small = rng.standard_normal((shape[0] // cell + 2, shape[1] // cell + 2),
                                dtype=np.float32)
    return cv2.resize(small, shape[::-1], interpolation=cv2.INTER_CUBIC)


def textured(image: np.ndarray, label: np.ndarray,
             rng: np.random.Generator) -> np.ndarray:
    """Multiply each class by its own grain; returns float32."""
    table = np.tile(np.float32(DEFAULT), (256, 1))
    table[list(TEXTURE)] = list(TEXTURE.values())
    unit = max(label.shape[0] // 128, 1)
    coarse = noise(rng, label.shape, 24 * unit)
    coarse += .6 * noise(rng, label.shape, 8 * unit)
    fine = noise(rng, label.shape, 2 * unit)
    grain = table[:, 0][label] * coarse + table[:, 1][label] * fine
    return image * np.clip(1 + grain, .3, 1.8)[..., None]


def exposed(image: np.ndarray, city: City,
            rng: np.random.Generator) -> np.ndarray:
    """Colour of the light, brightness falling off to one side, contrast."""
    height, width = image.shape[:2]
    tint = rng.uniform(.55, 1.3) * city.light
    tint *= np.exp(rng.normal(0, .045, 3))
    slope = np.linspace(-1, 1, width, dtype=np.float32) * rng.normal(0, .15)
    light = tint.astype(np.float32) * (1 + slope[:, None]) / 255
    image = 255 * np.clip(image * light, 0, 1)**np.exp(rng.normal(0, .2))
    return (image - 128) * rng.uniform(.8, 1.25) + 128


def sensed(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Blur, noise and JPEG; returns uint8."""
    image = cv2.GaussianBlur(image.astype(np.float32), (0, 0),
                             rng.uniform(.3, 1.1))
    image += rng.uniform(1, 9) * rng.standard_normal(image.shape, np.float32)
    image = np.clip(image, 0, 255).astype(np.uint8)
    quality = [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(55, 95))]
    _, code = cv2.imencode('.jpg', image, quality)
    return cv2.imdecode(code, cv2.IMREAD_COLOR)
