"""Colours (RGB) of materials; they overlap, so colour alone is no clue."""
import numpy as np

# Grey as asphalt, brick, sandstone, painted plaster, and others.
MASONRY = np.array([(120, 120, 120), (140, 85, 65), (180, 160, 125),
                    (200, 195, 185), (95, 100, 85), (170, 120, 90),
                    (110, 120, 140), (190, 175, 110)], float)
FOLIAGE = np.array([65., 95., 45.])
EARTH = np.array([120., 100., 60.])  # and autumn


def scaled(colour: np.ndarray, factor: float) -> np.ndarray:
    return np.clip(np.asarray(colour, float) * factor, 0, 255)


def masonry(rng: np.random.Generator, kinds: np.ndarray) -> np.ndarray:
    """One of ``(K, 3)`` kinds, lighter or darker."""
    colour = kinds[rng.integers(len(kinds))] * rng.uniform(0.55, 1.2)
    return np.clip(colour + rng.normal(0, 12, 3), 10, 250)


def foliage(rng: np.random.Generator,
            green: np.ndarray,
            dry: float = 0.15) -> np.ndarray:
    """Green; with probability ``dry`` the brown of autumn or earth."""
    base = EARTH if rng.random() < dry else green
    colour = base * rng.uniform(0.6, 1.25)
    return np.clip(colour + rng.normal(0, 10, 3), 5, 250)


def paint(rng: np.random.Generator) -> np.ndarray:
    """Cars, clothes: mostly greys, some saturated."""
    if rng.random() < 0.55:
        return np.clip(rng.uniform(15, 240) + rng.normal(0, 7, 3), 5, 250)
    return rng.uniform(15, 230, 3)


def skin(rng: np.random.Generator) -> np.ndarray:
    return np.array([215, 165, 135]) * rng.uniform(0.35, 1.1)
