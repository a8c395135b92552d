"""A ring with teeth: a moulded gear."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np

from edge.simulation.products.product import CELL_M, GRID, Grid, Material, Product, bevel, finish
from edge.simulation.relief import FloatImage, Relief, float_image, white_field

__all__ = ["Ring"]

_TEETH = 24
_THICKNESS_M = 9e-3
_MATERIAL = Material(
    rgb=(0.80, 0.60, 0.25),
    rgb_spread=0.012,
    gloss=0.12,
    speckle=0.02,
    grain_m=0.015e-3,
    warp_m=0.10e-3,
    height_spread=0.01,
)


class Ring(Product):
    """A plastic gear of 78 mm with 24 teeth, 9 mm thick, with a recessed web, a bore and a keyway."""

    name: ClassVar[str] = "ring"
    radius_m: ClassVar[float] = 40e-3

    def __init__(self) -> None:
        grid = Grid()
        tooth = np.clip(1.9 * np.cos(_TEETH * grid.theta), -1, 1).astype(np.float32)
        r = grid.r_m
        solid = r < np.float32(36.2e-3) + np.float32(2.6e-3) * tooth
        keyway = (np.abs(grid.y_m) < 2.4e-3) & (grid.x_m > 0) & (r < 15e-3)
        solid &= (r > 11.5e-3) & ~keyway

        height = np.full((GRID, GRID), _THICKNESS_M, dtype=np.float32)
        web = (r > 18e-3) & (r < 29e-3)
        spoke = np.abs(np.sin(3 * grid.theta)) * r < 5e-3
        height[web & ~spoke] -= np.float32(3.4e-3)
        height[web & spoke] -= np.float32(0.8e-3)
        height = float_image(cv2.GaussianBlur(height, (0, 0), 0.4e-3 / CELL_M))
        self._solid = solid
        self._height_m: FloatImage = bevel(height, solid, 1.0e-3, 0.9e-3)
        self._tone: FloatImage = np.where(web & ~spoke, np.float32(0.95), np.float32(1.0))

    def part(self, rng: np.random.Generator) -> Relief:
        grain = float_image(cv2.GaussianBlur(white_field(rng, (GRID, GRID)), (0, 0), 0.9)) * np.float32(3)
        return finish(
            rng, _MATERIAL, height_m=self._height_m, solid=self._solid, grain=grain, tone=self._tone
        )
