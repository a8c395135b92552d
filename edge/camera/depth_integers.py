"""Between the 16-bit integers in which a depth camera counts, and metres."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edge.errors import FrameError
from edge.frame import DepthImage

__all__ = ["Z16Image", "depth_m_from_z16", "exact_unit", "z16_from_depth_m"]

Z16Image = npt.NDArray[np.uint16]
"""(H, W), depth in multiples of the camera's depth unit, 0 = invalid."""

_OFF_GRID = 0.01
"""By how many units a depth may lie off the grid of the unit: float32 rounding, no more."""


def exact_unit(unit_m: float) -> float:
    """The number that was meant: librealsense hands out 0.0001 as the float32 9.999999747e-05."""
    return float(str(np.float32(unit_m)))


def depth_m_from_z16(z16: Z16Image, depth_unit_m: float) -> DepthImage:
    """Metres, float32, one multiplication in float32; the same integers give the same metres everywhere."""
    return np.asarray(z16.astype(np.float32) * np.float32(depth_unit_m))


def z16_from_depth_m(depth_m: DepthImage, depth_unit_m: float) -> Z16Image:
    """The camera's integers; `depth_m_from_z16` of the result is `depth_m` again, up to float32 rounding.

    Raises `FrameError` where a depth is no multiple of the unit, or too large for 16 bits.
    """
    steps = depth_m.astype(np.float64) / depth_unit_m
    z = np.rint(steps)
    off = float(np.abs(steps - z).max(initial=0.0))
    if not off <= _OFF_GRID:
        raise FrameError(
            f"depth lies {off:.3f} units off the grid of {depth_unit_m} m; 16-bit integers can't hold it: "
            "quantise it to the depth unit first"
        )
    if z.max(initial=0.0) > np.iinfo(np.uint16).max or z.min(initial=0.0) < 0:
        raise FrameError(
            f"depth reaches from {depth_m.min()} to {depth_m.max()} m, 16 bits of {depth_unit_m} m hold "
            f"0 to {np.iinfo(np.uint16).max * depth_unit_m:g} m"
        )
    return z.astype(np.uint16)
