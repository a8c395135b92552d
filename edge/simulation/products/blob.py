"""A smooth organic blob, as if pressed by hand out of clay."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np

from edge.simulation.products.product import GRID, Grid, Material, Product, finish
from edge.simulation.relief import FloatImage, Relief, float_image, white_field

__all__ = ["Blob"]

_RADIUS_M = 33e-3
_HEIGHT_M = 14e-3
# (order, cosine, sine): the outline's lobes, relative to the radius.
_LOBES = ((2, 0.07, -0.03), (3, -0.03, 0.045), (5, 0.015, 0.02))
# (x, y, width, height) in metres: the lumps that make a blob of this kind recognisable.
_LUMPS = ((12e-3, 8e-3, 9e-3, 2.2e-3), (-14e-3, 4e-3, 11e-3, 1.6e-3), (2e-3, -14e-3, 8e-3, -1.8e-3))
_MATERIAL = Material(
    rgb=(0.74, 0.49, 0.37),
    rgb_spread=0.012,
    gloss=0.05,
    speckle=0.03,
    grain_m=0.03e-3,
    warp_m=0.25e-3,
    height_spread=0.015,
)


class Blob(Product):
    """A smooth dome of about 70 mm, 14 mm high, with lobes and lumps; each a little different."""

    name: ClassVar[str] = "blob"
    radius_m: ClassVar[float] = 40e-3
    size_spread: ClassVar[float] = 0.008

    def __init__(self) -> None:
        grid = Grid()
        self._r = grid.r_m / np.float32(_RADIUS_M)
        self._waves = [
            (np.cos(order * grid.theta), np.sin(order * grid.theta), cosine, sine)
            for order, cosine, sine in _LOBES
        ]
        lumps = np.zeros((GRID, GRID), dtype=np.float32)
        for x, y, width, height in _LUMPS:
            squared = (grid.x_m - np.float32(x)) ** 2 + (grid.y_m - np.float32(y)) ** 2
            lumps += np.float32(height) * np.exp(-squared / np.float32(width * width))
        self._lumps: FloatImage = lumps

    def part(self, rng: np.random.Generator) -> Relief:
        outline = np.ones((GRID, GRID), dtype=np.float32)
        for cos, sin, cosine, sine in self._waves:
            a, b = rng.normal((cosine, sine), 0.006)
            outline += np.float32(a) * cos + np.float32(b) * sin
        q = self._r / outline
        inside = np.maximum(1 - q * q * np.sqrt(q), 0)
        dome = np.sqrt(inside)
        height_m = (np.float32(_HEIGHT_M) + self._lumps * np.float32(rng.normal(1.0, 0.05))) * dome
        grain = float_image(cv2.GaussianBlur(white_field(rng, (GRID, GRID)), (0, 0), 1.2)) * np.float32(4)
        return finish(rng, _MATERIAL, height_m=height_m, solid=inside > 0, grain=grain)
