"""The simulated camera's geometry: from pixels to points on the tray, and to a part that lies on it."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.frame import DepthImage, Intrinsics
from edge.simulation.relief import FloatImage, float_image

__all__ = ["Hits", "Pose", "View", "Window", "d405_intrinsics"]

# A ray as oblique as they come moves sideways by half a millimetre in a layer: thin walls are not missed.
_LAYER_M = 1.5e-3
_HALVINGS = 2


def d405_intrinsics(width_px: int, height_px: int) -> Intrinsics:
    """Plausible, not those of any one camera: f ≈ 0.9 × the image height (432 px at 640×480).

    A D405's colour stream, to which depth is aligned, has a focal length of about 430 px in its modes of
    480 rows; its modes of other heights scale.
    """
    focal = 0.9 * height_px
    return Intrinsics(
        width_px=width_px,
        height_px=height_px,
        fx_px=focal,
        fy_px=focal,
        cx_px=(width_px - 1) / 2 + 0.004 * width_px,
        cy_px=(height_px - 1) / 2 - 0.003 * height_px,
    )


@dataclass(frozen=True, slots=True)
class Pose:
    """Where a part lies on the tray: its middle (metres, x right, y down from the point that the optical
    axis meets), how far it is turned, and its size relative to the nominal."""

    x_m: float
    y_m: float
    angle_rad: float
    scale: float


@dataclass(frozen=True, slots=True, eq=False)
class Hits:
    """What the rays of a window of the frame meet.

    `column`, `row` float32 (h, w), where on the part's grid; `height_m` float32 (h, w) above the tray.
    """

    column: FloatImage
    row: FloatImage
    height_m: FloatImage


@dataclass(frozen=True, slots=True)
class Window:
    """A rectangle of pixels, from (`x0`, `y0`) up to but without (`x1`, `y1`)."""

    x0: int
    y0: int
    x1: int
    y1: int

    @property
    def slices(self) -> tuple[slice, slice]:
        """Rows and columns, to index an image with."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)


@dataclass(frozen=True, slots=True)
class View:
    """A camera above a tray: the optical axis meets the tray at `distance_m`, tilted about x and y."""

    intrinsics: Intrinsics
    distance_m: float
    tilt_x_rad: float
    tilt_y_rad: float

    def _rotation(self) -> npt.NDArray[np.float64]:
        """From the tray's axes (x right, y down, z away from the camera) to the camera's; (3, 3)."""
        cx, sx = np.cos(self.tilt_x_rad), np.sin(self.tilt_x_rad)
        cy, sy = np.cos(self.tilt_y_rad), np.sin(self.tilt_y_rad)
        about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
        about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
        product: npt.NDArray[np.float64] = about_x @ about_y
        return product

    def rays(self, u_px: FloatImage, v_px: FloatImage) -> tuple[FloatImage, FloatImage, FloatImage]:
        """Ray directions in the tray's axes for pixels (1, w) and (h, 1): dx, dy, dz, each (h, w).

        Scaled so that the ray's parameter is the depth along the optical axis.
        """
        i = self.intrinsics
        x = (u_px - np.float32(i.cx_px)) / np.float32(i.fx_px)
        y = (v_px - np.float32(i.cy_px)) / np.float32(i.fy_px)
        back = self._rotation().T.astype(np.float32)
        dx, dy, dz = (back[k, 0] * x + back[k, 1] * y + back[k, 2] for k in range(3))
        return dx, dy, dz

    def eye_m(self) -> npt.NDArray[np.float64]:
        """The camera's centre in the tray's axes, (3,)."""
        eye: npt.NDArray[np.float64] = -self._rotation().T @ np.array([0.0, 0.0, self.distance_m])
        return eye

    def tray_depth_m(self) -> DepthImage:
        """Depth of the empty tray, float32 (H, W)."""
        i = self.intrinsics
        u = np.arange(i.width_px, dtype=np.float32)[None, :]
        v = np.arange(i.height_px, dtype=np.float32)[:, None]
        _, _, dz = self.rays(u, v)
        depth: DepthImage = np.float32(-self.eye_m()[2]) / dz
        return depth

    def depth_at(self, dz: FloatImage, height_m: FloatImage) -> DepthImage:
        """Depth at which rays of slope `dz` (h, w) stand `height_m` (h, w) above the tray."""
        depth: DepthImage = (np.float32(-self.eye_m()[2]) - height_m) / dz
        return depth

    def project(self, points_m: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Pixels (n, 2) of points (n, 3) in the tray's axes."""
        camera = points_m @ self._rotation().T + np.array([0.0, 0.0, self.distance_m])
        i = self.intrinsics
        u = camera[:, 0] / camera[:, 2] * i.fx_px + i.cx_px
        v = camera[:, 1] / camera[:, 2] * i.fy_px + i.cy_px
        pixels: npt.NDArray[np.float64] = np.stack([u, v], axis=1)
        return pixels

    def window(self, middle_m: tuple[float, float], radius_m: float, top_m: float) -> Window:
        """The pixels of the frame that a cylinder standing at (x, y) on the tray covers, and one more."""
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        x, y = middle_m[0] + radius_m * np.cos(angle), middle_m[1] + radius_m * np.sin(angle)
        points = np.concatenate([np.column_stack([x, y, np.full(len(x), -h)]) for h in (0.0, top_m)])
        pixels = self.project(points)
        low, high = np.floor(pixels.min(axis=0)) - 1, np.ceil(pixels.max(axis=0)) + 2
        i = self.intrinsics
        x0, x1 = (int(np.clip(v, 0, i.width_px)) for v in (low[0], high[0]))
        y0, y1 = (int(np.clip(v, 0, i.height_px)) for v in (low[1], high[1]))
        return Window(x0, y0, x1, y1)

    def cast(
        self,
        rays: tuple[FloatImage, FloatImage, FloatImage],
        pose: Pose,
        height_m: FloatImage,
        cell_m: float,
        *,
        top_m: float,
    ) -> Hits:
        """Where rays (dx, dy, dz; each (h, w)) meet a height field that lies at `pose`.

        Walks down in layers from `top_m` (at least the field's highest point) and narrows the layer in
        which a ray enters, so that what is steep hides what is behind it.
        """
        dx, dy, dz = rays
        eye = self.eye_m()
        # On the grid, the ray's place is linear in the height above the tray: start + height × drift.
        per_cell = 1 / (cell_m * pose.scale)
        cos, sin = np.cos(pose.angle_rad) * per_cell, np.sin(pose.angle_rad) * per_cell
        sx, sy = dx / dz, dy / dz
        drift_c = np.float32(-cos) * sx - np.float32(sin) * sy
        drift_r = np.float32(sin) * sx - np.float32(cos) * sy
        x0, y0 = eye[0] - pose.x_m, eye[1] - pose.y_m
        middle = ((height_m.shape[1] - 1) / 2, (height_m.shape[0] - 1) / 2)
        start_c = np.float32(cos * x0 + sin * y0 + middle[0]) + np.float32(eye[2]) * drift_c
        start_r = np.float32(cos * y0 - sin * x0 + middle[1]) + np.float32(eye[2]) * drift_r
        field = height_m * np.float32(pose.scale)
        sideways = top_m * max(float(np.abs(drift_c).max()), float(np.abs(drift_r).max()))

        # Only rays that come down near the part can meet it: on their way they drift by `sideways` at most.
        reach = 2 * int(np.ceil(sideways)) + 3
        near = cv2.dilate((field > 0).astype(np.uint8), np.ones((reach, reach), np.uint8))
        chosen = np.flatnonzero(cv2.remap(near, start_c, start_r, cv2.INTER_NEAREST))
        height = np.zeros(dz.shape, dtype=np.float32)
        if len(chosen):
            picked = (_folded(a.ravel()[chosen]) for a in (start_c, start_r, drift_c, drift_r))
            # At the same levels whatever the top: what lies elsewhere on the part must not change by it.
            levels = float_image(np.arange(int(np.ceil(top_m / _LAYER_M)), -1, -1) * _LAYER_M)
            height.ravel()[chosen] = _march(field, *picked, levels=levels).ravel()[: len(chosen)]
        return Hits(column=start_c + height * drift_c, row=start_r + height * drift_r, height_m=height)


def _folded(values: FloatImage) -> FloatImage:
    """A list of values as an image of 1024 columns (OpenCV's remap takes no longer ones), padded with 0."""
    folded = np.zeros((-(-len(values) // 1024), 1024), dtype=np.float32)
    folded.ravel()[: len(values)] = values
    return folded


def _march(
    field: FloatImage,
    start_c: FloatImage,
    start_r: FloatImage,
    drift_c: FloatImage,
    drift_r: FloatImage,
    *,
    levels: FloatImage,
) -> FloatImage:
    """Heights at which rays, at start + height × drift on the grid, enter the field; (h, w) as they.

    `levels` from above the field's highest point down to 0.
    """

    def gap_at(level_m: FloatImage | np.float32) -> FloatImage:
        columns, rows = start_c + level_m * drift_c, start_r + level_m * drift_r
        sampled = cv2.remap(field, columns, rows, cv2.INTER_LINEAR, borderMode=cv2.BORDER_CONSTANT)
        return float_image(level_m - sampled)

    above = np.full_like(start_c, levels[0])  # the lowest level known to be free
    gap_above = np.maximum(gap_at(levels[0]), 0)
    below = np.zeros_like(start_c)  # the highest level known to be inside
    gap_below = np.zeros_like(start_c)
    falling = np.ones(start_c.shape, dtype=np.bool_)
    for level in levels[1:]:
        gap = gap_at(level)
        free = falling & (gap > 0)
        entered = falling & ~free
        np.copyto(below, level, where=entered)
        np.copyto(gap_below, gap, where=entered)
        np.copyto(above, level, where=free)
        np.copyto(gap_above, gap, where=free)
        falling = free
    for _ in range(_HALVINGS):
        guess = (above + below) * np.float32(0.5)
        gap = gap_at(guess)
        free = gap > 0
        np.copyto(above, guess, where=free)
        np.copyto(gap_above, gap, where=free)
        np.copyto(below, guess, where=~free)
        np.copyto(gap_below, gap, where=~free)
    # Between two close levels the surface is as good as a slope.
    share = gap_above / np.maximum(gap_above - gap_below, np.float32(1e-9))
    return float_image(above + (below - above) * share)
