"""What the streets of one city have in common, and those of another have not.

A network that has seen one city meets other materials, plants, light and
habits of building in the next: what it has learned by heart does not help.
"""
from dataclasses import dataclass

import numpy as np

from seg_kd.datasets.synthetic.colours import FOLIAGE, MASONRY


@dataclass(frozen=True)
class City:
    """The middle of what its scenes vary around.

    Attributes:
        masonry: ``(K, 3)`` colours (RGB) of houses and walls.
        foliage: Colour of its plants.
        light: Factors of red, green and blue.
        fronts: How often each kind of front stands along its streets.
        widths: Metres from the middle of a road to its edge, least and most.
        crowd: Factor of how many people, poles, trees are on the sidewalks.
    """
    masonry: np.ndarray
    foliage: np.ndarray
    light: np.ndarray
    fronts: np.ndarray
    widths: tuple[float, float]
    crowd: float

    @staticmethod
    def named(name: str) -> 'City':
        """That of a name, always the same."""
        rng = np.random.default_rng(list(name.encode()))
        chosen = rng.choice(len(MASONRY), 3, replace=False)
        width = rng.uniform(3.2, 5.)
        return City(masonry=np.clip(
            MASONRY[chosen] + rng.normal(0, 18, (3, 3)), 25, 230),
                    foliage=np.clip(FOLIAGE + rng.normal(0, 14, 3), 20, 200),
                    light=np.exp(rng.normal(0, .1, 3)),
                    fronts=rng.dirichlet([4.6, 1.4, 1.4, 1.2, 1.4]),
                    widths=(width, width + 2.),
                    crowd=rng.uniform(.5, 1.3))
