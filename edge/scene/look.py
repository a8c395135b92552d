"""One frame looked at for what is not the part: figures, and light and depth in a coarse grid.

The grid is there because parts lie now here, now there, and no light is even: what is compared with the
tray as it was learnt is each cell with itself.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.depth import BackgroundPlane, Mask, height_over_plane
from edge.frame import Frame, Intrinsics
from edge.scene.figures import LightFigures, PlaneFigures, SceneFigures
from edge.scene.tilt import tilt_of

__all__ = ["COLUMNS", "ROWS", "Look", "look_at"]

ROWS, COLUMNS = 12, 16

_ROWS_PX = 240
"""Of a larger frame only every so many rows and columns are looked at: a median needs no more."""

_GROWN_SHARE = 0.033
"""How far around the part nothing is looked at, of the frame's shorter side: stereo's edge, and shadows."""

_LEAST_FREE = 0.05
_LEAST_CELL = 0.5
_CLIPPED = 254

_Float = npt.NDArray[np.float32]

# Nobody knows the tone curve of a camera's ISP; but whatever power it is, with this one a dimmer lamp leaves
# the ratios of the channels as they are (sRGB's own curve, with its straight foot, would not).
_LINEAR = ((np.arange(256) / 255) ** 2.2).astype(np.float32)


@dataclass(frozen=True, slots=True, eq=False)
class Look:
    """What one frame shows beside the part: `light` (rows, columns, 3) linear and `fill` (rows, columns)
    are means of cells, NaN where the part hides more than half of one.
    """

    figures: SceneFigures
    light: _Float
    fill: _Float


def look_at(frame: Frame, plane: BackgroundPlane | None, part: Mask | None) -> Look | None:
    """The figures of a frame outside `part` (H, W); None where the part leaves too little of it.

    `plane` is the tray's where it was found. Takes about 5 ms of one core.
    """
    step = max(1, round(min(frame.height_px, frame.width_px) / _ROWS_PX))
    rgb = np.ascontiguousarray(frame.rgb[::step, ::step])  # (h, w, 3)
    depth_m = np.ascontiguousarray(frame.depth_m[::step, ::step])  # (h, w)
    free = _free(part, step, depth_m.shape)  # (h, w)
    seen = _cell_means(free.astype(np.float32))  # (rows, columns)
    if float(free.mean()) < _LEAST_FREE or not bool((seen >= _LEAST_CELL).any()):
        return None
    valid = (depth_m > 0) & free
    linear = np.asarray(cv2.LUT(rgb, _LINEAR), dtype=np.float32)  # (h, w, 3)
    light = _over_seen(linear * free[..., None], seen)  # (rows, columns, 3)
    figures = SceneFigures(
        plane=None if plane is None else _plane_figures(plane, depth_m, valid, frame.intrinsics, step),
        fill_share=float(valid.sum() / free.sum()),
        light=_light_figures(rgb, free, light),
    )
    return Look(figures, light, _over_seen(valid.astype(np.float32), seen))


def _free(part: Mask | None, step: int, shape: tuple[int, ...]) -> Mask:
    """Where the tray is seen, (h, w)."""
    if part is None or not bool(part.any()):
        return np.ones(shape, dtype=bool)
    reach = max(1, round(_GROWN_SHARE * min(shape)))
    kernel = np.ones((2 * reach + 1, 2 * reach + 1), np.uint8)
    thinned = np.ascontiguousarray(part[::step, ::step], dtype=np.uint8)
    return np.asarray(cv2.dilate(thinned, kernel) == 0)


def _cell_means(values: _Float) -> _Float:
    """(h, w[, c]) → (rows, columns[, c])."""
    return np.asarray(cv2.resize(values, (COLUMNS, ROWS), interpolation=cv2.INTER_AREA), dtype=np.float32)


def _over_seen(values: _Float, seen: _Float) -> _Float:
    """Means of what is free of each cell; `values` are 0 elsewhere."""
    means = _cell_means(values)
    weight = np.where(seen >= _LEAST_CELL, seen, np.float32(np.nan))
    return np.asarray(means / (weight if means.ndim == 2 else weight[..., None]), dtype=np.float32)


def _plane_figures(
    plane: BackgroundPlane, depth_m: _Float, valid: Mask, intrinsics: Intrinsics, step: int
) -> PlaneFigures | None:
    if not bool(valid.any()):
        return None
    height, width = depth_m.shape
    thinned = Intrinsics(
        width,
        height,
        intrinsics.fx_px / step,
        intrinsics.fy_px / step,
        intrinsics.cx_px / step,
        intrinsics.cy_px / step,
    )
    heights_m = height_over_plane(depth_m, plane, thinned)[valid]  # (k,)
    deviation_m = float(np.median(np.abs(heights_m - np.median(heights_m))))
    tilt_x_deg, tilt_y_deg = tilt_of(plane)
    return PlaneFigures(
        tilt_x_deg=tilt_x_deg,
        tilt_y_deg=tilt_y_deg,
        distance_mm=plane.distance_m * 1e3,
        noise_mm=1.4826 * deviation_m * 1e3,  # of a normal distribution that is its standard deviation
    )


def _light_figures(rgb: npt.NDArray[np.uint8], free: Mask, light: _Float) -> LightFigures:
    luma = cv2.cvtColor(rgb, cv2.COLOR_RGB2GRAY)  # (h, w)
    channels = cv2.split(rgb)
    clipped = (cv2.max(cv2.max(channels[0], channels[1]), channels[2]) >= _CLIPPED) & free  # (h, w)
    green = np.maximum(light[..., 1], np.float32(1e-4))  # black divides nothing
    return LightFigures(
        luma=float(np.median(luma[free])),
        clipped_share=float(clipped.sum() / free.sum()),
        red_to_green=float(np.nanmedian(light[..., 0] / green)),
        blue_to_green=float(np.nanmedian(light[..., 2] / green)),
    )
