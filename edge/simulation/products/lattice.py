"""A lattice: a perforated grid in a frame, its crossing bars of different heights."""

from __future__ import annotations

from typing import ClassVar

import cv2
import numpy as np

from edge.simulation.products.product import CELL_M, GRID, Grid, Material, Product, bevel, finish, rounded_box
from edge.simulation.relief import FloatImage, Relief, float_image, white_field

__all__ = ["Lattice"]

_PITCH_M = 12e-3
_BAR_M = 4.0e-3
_MATERIAL = Material(
    rgb=(0.42, 0.66, 0.52),
    rgb_spread=0.012,
    gloss=0.08,
    speckle=0.02,
    grain_m=0.03e-3,
    warp_m=0.12e-3,
    height_spread=0.01,
)


class Lattice(Product):
    """A moulded grid of 76 × 76 mm with 6 × 6 openings of 8 mm; bars 5 and 6.5 mm, frame 7.5 mm high."""

    name: ClassVar[str] = "lattice"
    radius_m: ClassVar[float] = 54e-3

    def __init__(self) -> None:
        grid = Grid()
        outline = rounded_box(grid, 38e-3, 38e-3, 4e-3)

        def bars(axis_m: FloatImage) -> FloatImage:
            # Distance from the nearest bar's middle line, bars at 0, ±pitch, ±2 pitch, …
            distance: FloatImage = np.abs(axis_m - _PITCH_M * np.round(axis_m / np.float32(_PITCH_M)))
            return distance

        along_y, along_x = bars(grid.x_m), bars(grid.y_m)
        frame = (outline < 0) & (outline > -4.5e-3)
        opening = np.hypot(
            np.maximum(np.float32(_PITCH_M / 2) - along_y - np.float32(2.5e-3), 0),
            np.maximum(np.float32(_PITCH_M / 2) - along_x - np.float32(2.5e-3), 0),
        )
        hole = opening < np.float32(_PITCH_M / 2 - _BAR_M / 2 - 2.5e-3)
        self._solid = (outline < 0) & (frame | ~hole)

        height = np.full((GRID, GRID), 5e-3, dtype=np.float32)
        height[along_y < _BAR_M / 2 - 0.4e-3] = 6.5e-3
        height[frame] = 7.5e-3
        height = float_image(cv2.GaussianBlur(height, (0, 0), 0.35e-3 / CELL_M))
        self._height_m: FloatImage = bevel(height, self._solid, 0.9e-3, 0.9e-3)

    def part(self, rng: np.random.Generator) -> Relief:
        white = white_field(rng, (GRID, GRID))
        grain = float_image(cv2.blur(white, (3, 3))) * np.float32(3)
        return finish(rng, _MATERIAL, height_m=self._height_m, solid=self._solid, grain=grain)
