"""A surface seen from above: height, colour and gloss over a square grid."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import FrameError

__all__ = ["FloatImage", "Relief", "float_image", "smooth_field", "white_field"]

FloatImage = npt.NDArray[np.float32]
"""(H, W) or (H, W, 3)."""


# The middles of 256 equally likely slices of a normal distribution, scaled to unit variance.
_QUANTILES = np.array([NormalDist().inv_cdf((k + 0.5) / 256) for k in range(256)])
_NORMAL = (_QUANTILES / _QUANTILES.std()).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Relief:
    """A part as a height field over the plane on which it lies.

    `height_m` float32 (h, w), metres above the plane, 0 where there is no part; `solid` bool (h, w), True
    where there is one; `albedo` float32 (h, w, 3), linear light, red first, 0 to 1, defined outside the
    part too (its flanks take the colour of the nearest cell); `gloss` float32 (h, w), the strength of the
    highlight; `cell_m` the edge of a cell. The grid may be a product's own plane, or the pixels of a real
    frame (`cell_m` = distance / focal length).

    Raises `FrameError` where the arrays don't fit together.
    """

    height_m: FloatImage
    solid: npt.NDArray[np.bool_]
    albedo: FloatImage
    gloss: FloatImage
    cell_m: float

    def __post_init__(self) -> None:
        shape = self.height_m.shape
        shapes = (self.solid.shape, self.albedo.shape[:2], self.gloss.shape)
        if len(shape) != 2 or any(s != shape for s in shapes) or self.albedo.shape[2:] != (3,):
            raise FrameError(
                f"relief of height {shape}, solid {shapes[0]}, albedo {self.albedo.shape}, "
                f"gloss {shapes[2]}; "
                "all must cover one (h, w) grid, albedo with three channels"
            )
        if not self.cell_m > 0:
            raise FrameError(f"relief with cells of {self.cell_m} m; cell_m must be positive")


def float_image(image: npt.ArrayLike) -> FloatImage:
    """`image` as float32, without a copy where it is one already; OpenCV's results carry no dtype."""
    return np.asarray(image, dtype=np.float32)


def white_field(rng: np.random.Generator, shape: tuple[int, ...]) -> FloatImage:
    """White noise of unit variance, normal in 256 steps (at most ±2.9), float32 `shape`.

    A byte per value and a table: four times faster than normals drawn one by one, and every frame needs
    more than a million of them.
    """
    drawn = rng.integers(0, 256, size=shape, dtype=np.uint8)
    return float_image(_NORMAL[drawn])


def smooth_field(rng: np.random.Generator, shape: tuple[int, int], knots: int) -> FloatImage:
    """A smooth random field: unit normals on `knots` × `knots` points, cubic in between; float32 `shape`."""
    coarse = rng.standard_normal((knots, knots), dtype=np.float32)
    return float_image(cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_CUBIC))
