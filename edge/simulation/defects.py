"""Six kinds of defects, cut into a relief or laid upon it.

The kinds are those of PD-REAL (Qin et al. 2023, section 3: dent, crack, perforation, scratch, and foreign
bodies of the same and of another colour). Nothing here knows a product or a camera: a defect changes
height, colour and gloss of a `Relief`, be it a simulated part or a part cut out of a real frame.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt

from edge.errors import ConfigError, FrameError
from edge.simulation.relief import FloatImage, Relief, float_image, smooth_field

__all__ = ["DEFECTS", "apply_defect"]

_LEAST_FLOOR_M = 0.4e-3
_OTHER_COLOURS = (  # gamma 2: plastic, wax, wire, paint, chips as they lie about in a workshop
    (0.75, 0.15, 0.15),
    (0.15, 0.25, 0.70),
    (0.12, 0.50, 0.20),
    (0.92, 0.90, 0.85),
    (0.10, 0.10, 0.11),
    (0.85, 0.75, 0.12),
)


def apply_defect(kind: str, relief: Relief, rng: np.random.Generator, severity: float = 1.0) -> Relief:
    """A copy of `relief` with one defect of that kind, somewhere on the solid.

    `severity` scales size and depth; at 1 most defects are visible to a careful person at 0.5 mm per pixel.
    The defect is drawn from `rng` alone. Raises `ConfigError` for an unknown kind or a severity that is not
    positive, `FrameError` where the relief holds no part.
    """
    if kind not in _MAKERS:
        raise ConfigError(f"no defect is called {kind!r}; choose one of {', '.join(DEFECTS)}")
    if not severity > 0:
        raise ConfigError(f"defect severity is {severity}; must be positive (1 = as drawn)")
    if not bool(relief.solid.any()):
        raise FrameError("the relief holds no part (solid is False everywhere); a defect needs one to lie on")
    return _MAKERS[kind](relief, rng, severity)


def _spot(relief: Relief, rng: np.random.Generator, clearance_m: float) -> tuple[float, float]:
    """A random place on the part (x, y in metres), `clearance_m` from its edges where it is wide enough."""
    solid = relief.solid.astype(np.uint8)
    solid[[0, -1]] = 0
    solid[:, [0, -1]] = 0
    distance = float_image(cv2.distanceTransform(solid, cv2.DIST_L2, 5)) * np.float32(relief.cell_m)
    inside = distance[relief.solid]
    # A lattice's bars are thinner than most defects: then its middle lines and crossings will do.
    needed = min(clearance_m, float(np.quantile(inside, 0.75)))
    places = np.flatnonzero((distance >= needed) & relief.solid)
    row, column = divmod(int(places[rng.integers(len(places))]), relief.solid.shape[1])
    return column * relief.cell_m, row * relief.cell_m


def _polar(
    relief: Relief, rng: np.random.Generator, centre_m: tuple[float, float], half_m: float, aspect: float
) -> FloatImage:
    """Distance from `centre_m` in units of an ellipse's edge, its outline a little irregular; 1 = edge."""
    height, width = relief.height_m.shape
    x = (np.arange(width) * relief.cell_m - centre_m[0]).astype(np.float32)[None, :]
    y = (np.arange(height) * relief.cell_m - centre_m[1]).astype(np.float32)[:, None]
    angle = rng.uniform(0, np.pi)
    cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
    along, across = cos * x + sin * y, cos * y - sin * x
    ratio = np.float32(np.sqrt(aspect))
    s: FloatImage = np.hypot(along * ratio, across / ratio) / np.float32(half_m)
    # Wobble at about a third of the defect's size, whatever the grid's extent.
    knots = int(np.clip(max(height, width) * relief.cell_m / max(half_m, relief.cell_m), 4, 64))
    wobble = np.clip(smooth_field(rng, (height, width), knots), -2, 2)
    irregular: FloatImage = s * (1 + np.float32(0.07) * wobble)
    return irregular


def _dent(relief: Relief, rng: np.random.Generator, severity: float) -> Relief:
    half_m = rng.uniform(3e-3, 7e-3) * severity**0.5
    depth_m = rng.uniform(1.5e-3, 4e-3) * severity
    depth_m = min(depth_m, half_m * 0.7)  # steeper would be a hole
    s = _polar(relief, rng, _spot(relief, rng, half_m), half_m, rng.uniform(0.7, 1.0))
    bowl = np.maximum(1 - s * s, 0)
    profile = bowl * np.sqrt(bowl)
    lowered = relief.height_m - np.float32(depth_m) * profile
    floor = np.minimum(relief.height_m, np.float32(_LEAST_FLOOR_M))
    height = np.where(relief.solid, np.maximum(lowered, floor), relief.height_m).astype(np.float32)
    return replace(relief, height_m=height)


def _perforation(relief: Relief, rng: np.random.Generator, severity: float) -> Relief:
    half_m = rng.uniform(1.3e-3, 3.0e-3) * severity**0.5
    s = _polar(relief, rng, _spot(relief, rng, half_m + 1e-3), half_m, rng.uniform(0.75, 1.0))
    through = (s < 1) & relief.solid
    burr = np.clip(1 - np.abs(s - 1.12) / 0.12, 0, 1) * np.float32(0.3e-3)  # what a drill throws up
    height = np.where(relief.solid, relief.height_m + burr, relief.height_m)
    height = np.where(through, np.float32(0), height).astype(np.float32)
    albedo = np.where(through[..., None], np.float32(0.01), relief.albedo)
    return replace(relief, height_m=height, solid=relief.solid & ~through, albedo=albedo)


def _line(relief: Relief, points_m: npt.NDArray[np.float64], widths_m: npt.NDArray[np.float64]) -> FloatImage:
    """A line through `points_m` (n, 2) whose segments are `widths_m` (n - 1) wide: 0 to 1, soft edges."""
    canvas = np.zeros(relief.height_m.shape, dtype=np.uint8)
    fixed = np.rint(points_m / relief.cell_m * 16).astype(int)  # 1/16 cell
    for start, end, width_m in zip(fixed[:-1], fixed[1:], widths_m, strict=True):
        thickness = max(1, round(float(width_m) / relief.cell_m))
        cv2.line(canvas, start.tolist(), end.tolist(), 255, thickness, cv2.LINE_AA, 4)
    return float_image(cv2.GaussianBlur(canvas, (0, 0), 0.6) / np.float32(255))


def _walk(
    rng: np.random.Generator, middle_m: tuple[float, float], length_m: float, step_m: float, turn: float
) -> npt.NDArray[np.float64]:
    """Points (n, 2) of a random walk of that length through `middle_m`; `turn` the spread of its turns."""
    steps = max(4, round(length_m / step_m))
    heading = rng.uniform(0, 2 * np.pi) + np.clip(rng.normal(0, turn, steps), -1.2, 1.2)
    moves = np.stack([np.cos(heading), np.sin(heading)], axis=1) * (length_m / steps)
    points: npt.NDArray[np.float64] = np.vstack([np.zeros((1, 2)), np.cumsum(moves, axis=0)])
    shifted: npt.NDArray[np.float64] = points - points[len(points) // 2] + np.asarray(middle_m)
    return shifted


def _crack(relief: Relief, rng: np.random.Generator, severity: float) -> Relief:
    length_m = rng.uniform(14e-3, 30e-3) * severity**0.5
    points = _walk(rng, _spot(relief, rng, 5e-3), length_m, 1.2e-3, 0.55)
    taper = np.sin(np.linspace(0.35, np.pi - 0.15, len(points) - 1))
    line = _line(relief, points, rng.uniform(0.7e-3, 1.2e-3) * severity**0.5 * taper)
    depth_m = np.float32(rng.uniform(1e-3, 2.5e-3) * severity)
    floor = np.minimum(relief.height_m, np.float32(_LEAST_FLOOR_M))
    height = np.where(relief.solid, np.maximum(relief.height_m - depth_m * line, floor), relief.height_m)
    darker = 1 - line * np.float32(rng.uniform(0.75, 0.9))
    albedo = np.where(relief.solid[..., None], relief.albedo * darker[..., None], relief.albedo)
    return replace(relief, height_m=height.astype(np.float32), albedo=albedo.astype(np.float32))


def _scratch(relief: Relief, rng: np.random.Generator, severity: float) -> Relief:
    length_m = rng.uniform(15e-3, 35e-3) * severity**0.5
    points = _walk(rng, _spot(relief, rng, 5e-3), length_m, 3e-3, 0.0)
    bright_part = float(np.sqrt(_own_colour(relief)).mean()) > 0.55
    # A tool slips in a slight arc.
    along = np.linspace(-1, 1, len(points))[:, None]
    direction = points[-1] - points[0]
    points = points + along**2 * np.array([-direction[1], direction[0]]) * rng.uniform(-0.12, 0.12)
    taper = np.sqrt(np.sin(np.linspace(0.3, np.pi - 0.3, len(points) - 1)))
    line = _line(relief, points, rng.uniform(0.7e-3, 1.1e-3) * severity**0.5 * taper)
    line = np.where(relief.solid, line, 0)
    height = relief.height_m - line * np.float32(rng.uniform(0.05e-3, 0.2e-3) * severity)
    if rng.random() < 0.6 and not bright_part:  # down to bright material
        strength = np.float32(min(0.95, rng.uniform(0.5, 0.8) * severity))
        albedo = relief.albedo + (np.float32(0.9) - relief.albedo) * (line * strength)[..., None]
    else:  # or filled with dirt
        strength = np.float32(min(0.95, rng.uniform(0.6, 0.85) * severity))
        albedo = relief.albedo * (1 - line * strength)[..., None]
    return replace(
        relief,
        height_m=np.where(relief.solid, np.maximum(height, 0), relief.height_m).astype(np.float32),
        albedo=albedo.astype(np.float32),
        gloss=(relief.gloss * (1 + line)).astype(np.float32),
    )


def _foreign(relief: Relief, rng: np.random.Generator, severity: float, rgb: FloatImage) -> Relief:
    """Lay a lump of colour `rgb` (linear, (3,)) on the part."""
    half_m = rng.uniform(2e-3, 5e-3) * severity**0.5
    rise_m = min(rng.uniform(2e-3, 6e-3) * severity**0.5, half_m * 1.4)
    centre_m = _spot(relief, rng, half_m)
    s = _polar(relief, rng, centre_m, half_m, rng.uniform(0.5, 1.0))
    lump = np.sqrt(np.maximum(1 - s * s * np.sqrt(s), 0))
    under = (s < 1) & relief.solid
    if not bool(under.any()):
        under = relief.solid
    # It rests on what is high beneath it; over a hole it bridges.
    base_m = np.float32(np.quantile(relief.height_m[under], 0.6))
    body = (s < 1) & (base_m + np.float32(rise_m) * lump > relief.height_m)
    height = np.where(body, np.maximum(relief.height_m, base_m + np.float32(rise_m) * lump), relief.height_m)
    knots = int(np.clip(max(relief.height_m.shape) * relief.cell_m / 1.5e-3, 4, 96))
    speckle = 1 + np.float32(0.05) * np.clip(smooth_field(rng, relief.height_m.shape, knots), -2, 2)
    colour = np.clip(speckle[..., None] * rgb, 0.002, 1)
    albedo = np.where(body[..., None], colour, relief.albedo).astype(np.float32)
    gloss = np.where(body, np.float32(rng.uniform(0.03, 0.3)), relief.gloss).astype(np.float32)
    return Relief(
        height_m=height.astype(np.float32),
        solid=relief.solid | body,
        albedo=albedo,
        gloss=gloss,
        cell_m=relief.cell_m,
    )


def _own_colour(relief: Relief) -> FloatImage:
    colour: FloatImage = np.median(relief.albedo[relief.solid], axis=0).astype(np.float32)
    return colour


def _foreign_same(relief: Relief, rng: np.random.Generator, severity: float) -> Relief:
    return _foreign(relief, rng, severity, _own_colour(relief))


def _foreign_other(relief: Relief, rng: np.random.Generator, severity: float) -> Relief:
    own = np.sqrt(_own_colour(relief))
    colours = np.asarray(_OTHER_COLOURS, dtype=np.float32)
    different = colours[np.linalg.norm(colours - own, axis=1) > 0.35]
    jitter = rng.normal(0, 0.03, size=3).astype(np.float32)
    rgb = np.clip(different[rng.integers(len(different))] + jitter, 0.05, 0.97) ** 2
    return _foreign(relief, rng, severity, rgb)


_MAKERS: dict[str, Callable[[Relief, np.random.Generator, float], Relief]] = {
    "dent": _dent,
    "crack": _crack,
    "perforation": _perforation,
    "scratch": _scratch,
    "foreign_same": _foreign_same,
    "foreign_other": _foreign_other,
}

DEFECTS: tuple[str, ...] = tuple(_MAKERS)
"""Names of all kinds of defects."""
