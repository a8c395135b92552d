"""How a relief looks under a lamp: Lambert, a small highlight, cast shadow, occlusion of the sky."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from edge.simulation.relief import FloatImage, Relief, float_image

__all__ = ["Light", "shade"]

_SHADOW_STEPS = 14
_STEEPEST = 3.0  # a grid can't hold a vertical wall; beyond this slope it is one


@dataclass(frozen=True, slots=True)
class Light:
    """One lamp and the light of the room.

    `towards` unit vector (x right, y down, up) from the plane to the lamp; `diffuse` and `ambient` the
    shares of both, together 1 on a flat, free surface at `gain` 1; `gain` per channel (red, green, blue).
    """

    towards: tuple[float, float, float]
    ambient: float
    gain: tuple[float, float, float]

    @property
    def diffuse(self) -> float:
        return (1 - self.ambient) / self.towards[2]

    def turned(self, angle_rad: float) -> Light:
        """The same light as a part sees it that lies turned by `angle_rad`."""
        x, y, up = self.towards
        cos, sin = float(np.cos(angle_rad)), float(np.sin(angle_rad))
        return Light((cos * x + sin * y, cos * y - sin * x, up), self.ambient, self.gain)


def shade(relief: Relief, light: Light) -> tuple[FloatImage, FloatImage]:
    """Linear colour (h, w, 3) of the part, and the relative light (h, w) that reaches the plane beneath.

    The light's own gain is left out: it belongs to the whole frame.
    """
    height, cell = relief.height_m, relief.cell_m
    lamp = _lamp_visibility(height, cell, light)
    sky = _sky_visibility(height, cell)

    smooth = cv2.GaussianBlur(height, (0, 0), 0.8)
    slope_x = float_image(cv2.Sobel(smooth, cv2.CV_32F, 1, 0, ksize=3, scale=1 / (8 * cell)))
    slope_y = float_image(cv2.Sobel(smooth, cv2.CV_32F, 0, 1, ksize=3, scale=1 / (8 * cell)))
    np.clip(slope_x, -_STEEPEST, _STEEPEST, out=slope_x)
    np.clip(slope_y, -_STEEPEST, _STEEPEST, out=slope_y)
    norm = 1 / np.sqrt(1 + slope_x * slope_x + slope_y * slope_y)
    lx, ly, up = (np.float32(v) for v in light.towards)
    lambert = np.maximum((up - lx * slope_x - ly * slope_y) * norm, 0) * lamp

    # Blinn with the eye straight above; the half vector is the same everywhere.
    half = np.array([lx, ly, up + 1], dtype=np.float32)
    hx, hy, hup = half / np.linalg.norm(half)
    facing = np.maximum((hup - hx * slope_x - hy * slope_y) * norm, 0)
    facing *= facing  # ^2, ^4, ^8, ^16
    facing *= facing
    facing *= facing
    facing *= facing
    highlight = facing * lamp * relief.gloss

    ambient, diffuse = np.float32(light.ambient), np.float32(light.diffuse)
    brightness = ambient * sky * (np.float32(0.7) + np.float32(0.3) * norm) + diffuse * lambert
    colour: FloatImage = relief.albedo * brightness[..., None]
    colour += highlight[..., None]
    beneath: FloatImage = ambient * sky + diffuse * up * lamp
    return colour, beneath


def _lamp_visibility(height_m: FloatImage, cell_m: float, light: Light) -> FloatImage:
    """How much of the lamp each cell sees, 0 to 1, with a soft edge: the lamp is not a point."""
    rows, columns = height_m.shape
    small = float_image(cv2.resize(height_m, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA))
    cell = 2 * cell_m
    lx, ly, up = light.towards
    level = float(np.hypot(lx, ly))
    if level < 1e-3:
        return np.ones_like(height_m)
    rise = up / level  # metres up per metre along the plane
    reach_m = float(small.max()) / rise
    blocked = np.zeros_like(small)
    for k in range(1, _SHADOW_STEPS + 1):
        along_m = reach_m * k / _SHADOW_STEPS
        shift = np.array(
            [[1, 0, lx / level * along_m / cell], [0, 1, ly / level * along_m / cell]], dtype=np.float64
        )
        ahead = cv2.warpAffine(
            small,
            shift,
            (columns // 2, rows // 2),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderMode=cv2.BORDER_CONSTANT,
        )
        over_m = ahead - small - np.float32(along_m * rise)
        # The penumbra widens with the distance from the edge that casts it.
        np.maximum(blocked, over_m / np.float32(0.3e-3 + 0.25 * along_m), out=blocked)
    seen = 1 - np.minimum(blocked, 1)
    seen = cv2.GaussianBlur(seen, (0, 0), 0.8)
    return float_image(cv2.resize(seen, (columns, rows), interpolation=cv2.INTER_LINEAR))


def _sky_visibility(height_m: FloatImage, cell_m: float) -> FloatImage:
    """How much of the room's light reaches each cell: less where it lies below its surroundings."""
    rows, columns = height_m.shape
    small = float_image(cv2.resize(height_m, (columns // 2, rows // 2), interpolation=cv2.INTER_AREA))
    hidden = np.zeros_like(small)
    for radius_m in (1.2e-3, 4e-3):
        below = cv2.GaussianBlur(small, (0, 0), radius_m / (2 * cell_m)) - small
        hidden += np.clip(below / np.float32(radius_m), 0, 1.5)
    sky = 1 / (1 + np.float32(0.55) * hidden)
    return float_image(cv2.resize(sky, (columns, rows), interpolation=cv2.INTER_LINEAR))
