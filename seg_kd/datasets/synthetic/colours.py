"""Colours (RGB) of materials; they overlap, so colour alone is no clue."""
import numpy as np


def scaled(colour: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.asarray(colour, float) * factor, 0, 255)


def masonry(rng: np.random.Generator) -> np.ndarray:
    """Grey as asphalt, brick, sandstone or painted plaster."""
    base = np.array([(120, 120, 120), (140, 85, 65), (180, 160, 125),
                     (200, 195, 185), (95, 100, 85)], float)
    colour = base[rng.integers(len(base))] * rng.uniform(0.55, 1.2)
    return np.clip(colour + rng.normal(0, 12, 3), 10, 250)


def foliage(rng: np.random.Generator, dry: float = 0.15) -> np.ndarray:
    """Green; with probability ``dry`` the brown of autumn or earth."""
    base = (120, 100, 60) if rng.random() < dry else (65, 95, 45)
    colour = np.array(base) * rng.uniform(0.6, 1.25)
    return np.clip(colour + rng.normal(0, 10, 3), 5, 250)


def paint(rng: np.random.Generator) -> np.ndarray:
    """Cars, clothes: mostly greys, some saturated."""
    if rng.random() < 0.55:
        return np.clip(rng.uniform(15, 240) + rng.normal(0, 7, 3), 5, 250)
    return rng.uniform(15, 230, 3)


def skin(rng: np.random.Generator) -> np.ndarray:
    return np.array([215, 165, 135]) * rng.uniform(0.35, 1.1)
