"""An embossed plate: raised letters, ribs and a rim, holes for screws."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np

from edge.simulation.products.product import CELL_M, GRID, Grid, Material, Product, bevel, finish, rounded_box
from edge.simulation.relief import FloatImage, Relief, float_image, white_field

__all__ = ["Plate"]

_BASE_M = 5e-3
_RIM_M = 1.6e-3
_LETTER_M = 1.4e-3
_MATERIAL = Material(
    rgb=(0.66, 0.68, 0.70),
    rgb_spread=0.012,
    gloss=0.22,
    speckle=0.025,
    grain_m=0.012e-3,
    warp_m=0.08e-3,
    height_spread=0.008,
)


class Plate(Product):
    """A cast plate of 84 × 56 mm, 5 mm thick, 6.6 mm with its rim, its surface brushed lengthwise."""

    name: ClassVar[str] = "plate"
    radius_m: ClassVar[float] = 51e-3

    def __init__(self) -> None:
        grid = Grid()
        outline = rounded_box(grid, 42e-3, 28e-3, 6e-3)
        solid = outline < 0
        for x, y in ((-35e-3, -21e-3), (35e-3, 21e-3), (-35e-3, 21e-3), (35e-3, -21e-3)):
            solid &= np.hypot(grid.x_m - np.float32(x), grid.y_m - np.float32(y)) > 2.4e-3

        raised = np.where(outline > -2.6e-3, np.float32(_RIM_M), np.float32(0))
        for x, y in ((-35e-3, -21e-3), (35e-3, 21e-3), (-35e-3, 21e-3), (35e-3, -21e-3)):
            boss = np.hypot(grid.x_m - np.float32(x), grid.y_m - np.float32(y)) < 4.6e-3
            raised[boss] = _RIM_M
        for y in (10e-3, 15e-3):  # two ribs under the letters
            rib = (np.abs(grid.y_m - np.float32(y)) < 1.1e-3) & (np.abs(grid.x_m) < 27e-3)
            raised[rib] = _LETTER_M
        dimple = np.hypot(grid.x_m - np.float32(26e-3), grid.y_m + np.float32(8e-3))
        raised[(dimple < 7e-3) & (outline < -2.6e-3)] = -1.2e-3
        raised[dimple < 2.2e-3] = _LETTER_M

        letters = np.zeros((GRID, GRID), dtype=np.uint8)
        cv2.putText(letters, "E-7", (138, 262), cv2.FONT_HERSHEY_SIMPLEX, 2.8, 255, 12, cv2.LINE_AA)
        raised = np.maximum(raised, letters.astype(np.float32) * np.float32(_LETTER_M / 255))

        raised = float_image(cv2.GaussianBlur(raised, (0, 0), 0.35e-3 / CELL_M))  # draft angles of a casting
        self._solid = solid
        self._height_m: FloatImage = bevel(np.float32(_BASE_M) + raised, solid, 0.9e-3, 0.8e-3)
        # Raised faces are polished by handling: a little brighter.
        self._tone: FloatImage = (1 + 0.12 * np.clip(raised / np.float32(_RIM_M), -0.5, 1)).astype(np.float32)

    def part(self, rng: np.random.Generator) -> Relief:
        white = white_field(rng, (GRID, GRID))
        grain = float_image(cv2.blur(white, (25, 1))) * np.float32(5)
        return finish(
            rng, _MATERIAL, height_m=self._height_m, solid=self._solid, grain=grain, tone=self._tone
        )
