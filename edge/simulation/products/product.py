"""What every simulated product has in common."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import cv2
import numpy as np
import numpy.typing as npt

from edge.simulation.relief import FloatImage, Relief, float_image, smooth_field

__all__ = ["CELL_M", "GRID", "Grid", "Material", "Product", "bevel", "finish", "rounded_box"]

GRID = 512
"""Cells along each edge of a product's plane."""

CELL_M = 0.25e-3
"""Edge of a cell: 128 mm in all, so that a part of 90 mm has room for its shadow."""


@dataclass(frozen=True, slots=True)
class Material:
    """How a product's surface looks, and how much one good part differs from the next.

    `rgb` typical colour (gamma 2, 0 to 1); `rgb_spread` standard deviation of a part's colour around it;
    `gloss`; `speckle` standard deviation of the fine relative changes of colour; `grain_m` of the fine
    relief; `warp_m` of the slow bending; `height_spread` relative, of the height.
    """

    rgb: tuple[float, float, float]
    rgb_spread: float
    gloss: float
    speckle: float
    grain_m: float
    warp_m: float
    height_spread: float


class Grid:
    """Coordinates of the cells' centres in metres: x to the right, y down, 0 in the middle."""

    def __init__(self) -> None:
        axis = ((np.arange(GRID) - (GRID - 1) / 2) * CELL_M).astype(np.float32)
        self.x_m: FloatImage = np.repeat(axis[None, :], GRID, axis=0)
        self.y_m: FloatImage = np.repeat(axis[:, None], GRID, axis=1)
        self.r_m: FloatImage = np.hypot(self.x_m, self.y_m)
        self.theta: FloatImage = np.arctan2(self.y_m, self.x_m)


class Product(ABC):
    """A kind of part; `part(rng)` makes one good example of it.

    `radius_m` bounds every part's reach from the middle of its plane; `size_spread` is the standard
    deviation of a part's relative size.
    """

    name: ClassVar[str]
    radius_m: ClassVar[float]
    size_spread: ClassVar[float] = 0.003

    @abstractmethod
    def part(self, rng: np.random.Generator) -> Relief:
        """A good part, with the natural variation of its kind."""


def rounded_box(grid: Grid, half_x_m: float, half_y_m: float, radius_m: float) -> FloatImage:
    """Signed distance (m) to a rectangle with round corners around the middle; negative inside."""
    x = np.abs(grid.x_m) - np.float32(half_x_m - radius_m)
    y = np.abs(grid.y_m) - np.float32(half_y_m - radius_m)
    outside = np.hypot(np.maximum(x, 0), np.maximum(y, 0))
    distance: FloatImage = outside + np.minimum(np.maximum(x, y), 0) - np.float32(radius_m)
    return distance


def bevel(height_m: FloatImage, solid: npt.NDArray[np.bool_], width_m: float, drop_m: float) -> FloatImage:
    """Round off the edges of a flat part: `drop_m` lower at the rim, nothing `width_m` away from it."""
    distance = float_image(cv2.distanceTransform(solid.astype(np.uint8), cv2.DIST_L2, 5))
    distance = distance * np.float32(CELL_M)
    rim = 1 - np.clip(distance / np.float32(width_m), 0, 1)
    return float_image(np.where(solid, height_m - np.float32(drop_m) * rim * rim, 0))


def finish(
    rng: np.random.Generator,
    material: Material,
    *,
    height_m: FloatImage,
    solid: npt.NDArray[np.bool_],
    grain: FloatImage,
    tone: FloatImage | float = 1.0,
) -> Relief:
    """Make one part of a nominal shape: its own colour, height, slight bend, and the grain of its surface.

    `tone` (H, W) relative brightness of the painted or worn places; `grain` (H, W) of about unit variance.
    """
    base = np.asarray(material.rgb, dtype=np.float32)
    common = rng.normal(0.0, material.rgb_spread)
    tint = rng.normal(0.0, material.rgb_spread / 2, size=3)
    linear = float_image(np.clip(base + common + tint, 0.02, 0.98)) ** 2

    scale = np.float32(1 + np.clip(rng.normal(0.0, material.height_spread), -0.05, 0.05))
    bend = smooth_field(rng, height_m.shape, 5) * np.float32(material.warp_m)
    surface = height_m * scale + bend + grain * np.float32(material.grain_m)
    surface = np.maximum(surface, np.float32(0.4e-3)) * solid

    cloud = smooth_field(rng, height_m.shape, 9) * np.float32(material.speckle / 2)
    relative = tone * (1 + grain * np.float32(material.speckle) + cloud)
    relative = np.maximum(relative, np.float32(0.02))
    albedo = np.dstack([relative * channel for channel in linear])
    np.minimum(albedo, np.float32(1), out=albedo)
    gloss = np.full(height_m.shape, material.gloss, dtype=np.float32)
    return Relief(height_m=surface, solid=solid, albedo=albedo, gloss=gloss, cell_m=CELL_M)
