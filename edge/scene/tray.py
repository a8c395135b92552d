"""The empty tray as it was at set-up, and the sealed file in which it is kept."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np
import yaml
from pydantic import AwareDatetime, Field, model_validator
from typing_extensions import Self

from edge.background import height_over_background
from edge.captures import IntrinsicsInfo
from edge.depth import BackgroundPlane
from edge.errors import BundleError, DepthUnusable, FileChanged, SceneError
from edge.frame import DepthImage, Frame
from edge.preprocessing import ForegroundConfig, mask_above
from edge.scene.figures import LightFigures, PlaneFigures, SceneFigures, SceneModel, median_of
from edge.scene.look import COLUMNS, ROWS, Look, look_at
from edge.scene.tilt import tilt_of
from edge.sealed import plain_data, read_sealed, seal, write_atomically
from edge.version import __version__

__all__ = ["LEAST_FRAMES", "Tray", "learn_tray", "read_tray", "told_of", "write_tray"]

LEAST_FRAMES = 5
"""Fewer have no median to speak of; 30 are a second of a D405."""

_LEAST_FILL = 0.3
_AGAIN = "learn the tray again (edge-capture --tray)"

_Unit = Annotated[float, Field(ge=0, le=1)]


class Tray(SceneModel):
    """The empty tray: medians over `frames` frames of one camera.

    `camera` is the source's own name (a live camera's serial); `plane_inverse_m` (a, b, g) is the tray's
    plane a·X + b·Y + g·Z = 1 in the camera's coordinates, metres. `cell_light` (12 rows of 16 cells of
    linear red, green, blue) and `cell_fill` (the share of a cell that has depth) are means of the frame's
    cells.
    """

    schema_version: Literal[1] = 1
    learnt_utc: AwareDatetime
    software_version: str
    frames: int = Field(ge=LEAST_FRAMES)
    camera: str
    intrinsics: IntrinsicsInfo
    depth_unit_m: float = Field(gt=0)
    plane_inverse_m: tuple[float, float, float]
    plane: PlaneFigures
    fill_share: _Unit
    light: LightFigures
    cell_light: tuple[tuple[tuple[_Unit, _Unit, _Unit], ...], ...]
    cell_fill: tuple[tuple[_Unit, ...], ...]

    @model_validator(mode="after")
    def _cells_fit(self) -> Self:
        for name, cells in (("cell_light", self.cell_light), ("cell_fill", self.cell_fill)):
            if len(cells) != ROWS or any(len(row) != COLUMNS for row in cells):
                raise ValueError(f"{name} is not {ROWS} rows of {COLUMNS} cells")
        return self

    @property
    def figures(self) -> SceneFigures:
        """As they are measured of each frame later."""
        return SceneFigures(plane=self.plane, fill_share=self.fill_share, light=self.light)


def learn_tray(frames: Sequence[Frame], *, now: datetime, part_threshold_m: float = 0.004) -> Tray:
    """The empty tray from `frames` of one camera: 5 at least, 30 are a good number.

    `now` with its time zone. What stands, in the mean of the frames, more than `part_threshold_m` above or
    below the plane and covers 25 mm² means that the tray is not empty.

    Raises `SceneError`: too few frames, frames of several cameras or sizes, a frame that does not show the
    present, too little depth, something on the tray.
    """
    _check_frames(frames)
    foreground = ForegroundConfig(part_threshold_m=part_threshold_m)
    planes, looks = [], []
    total_m = np.zeros(frames[0].depth_m.shape, dtype=np.float32)  # (H, W)
    known = np.zeros(frames[0].depth_m.shape, dtype=np.uint16)  # (H, W)
    for frame in frames:
        plane, height_m, look = _learn_frame(frame, foreground.border_share)
        planes.append(plane.inverse_m)
        looks.append(look)
        total_m += height_m
        known += frame.depth_m > 0
    a, b, g = (float(value) for value in np.median(np.array(planes), axis=0))
    plane = BackgroundPlane((a, b, g), rms_m=0.0, inlier_share=1.0)
    # The mean of many frames: one frame's noise reaches the threshold, at 45 cm or where texture is poor.
    mean_m = np.asarray(total_m / np.maximum(known, 1), dtype=np.float32)  # (H, W)
    _check_empty(mean_m, plane.distance_m / frames[0].intrinsics.fx_px, foreground)
    fill_share = median_of([look.figures for look in looks]).fill_share
    if fill_share < _LEAST_FILL:
        raise SceneError(
            f"only {fill_share:.0%} of the tray has depth, {_LEAST_FILL:.0%} is the least to learn it by; "
            "give it more light or more texture (a D405 projects none), check the distance (7 to 50 cm) and "
            "reflections"
        )
    return _tray(frames, now, looks, plane)


def _check_frames(frames: Sequence[Frame]) -> None:
    if len(frames) < LEAST_FRAMES:
        raise SceneError(
            f"{len(frames)} frames to learn the tray by; give at least {LEAST_FRAMES}, better 30, of the "
            "empty tray"
        )
    first = frames[0]
    for frame in frames:
        if frame.intrinsics != first.intrinsics:
            one, two = first.intrinsics, frame.intrinsics
            raise SceneError(
                f"frame {frame.seq} is {two.width_px}×{two.height_px} px with fx {two.fx_px:g} px, frame "
                f"{first.seq} is {one.width_px}×{one.height_px} px with fx {one.fx_px:g} px; learn the tray "
                "by frames of one camera in one mode"
            )
        if (frame.source, frame.depth_unit_m) != (first.source, first.depth_unit_m):
            raise SceneError(
                f"frame {frame.seq} is of {frame.source} (depth unit {frame.depth_unit_m:g} m), frame "
                f"{first.seq} of {first.source} ({first.depth_unit_m:g} m); learn the tray by frames of one "
                "camera"
            )
        if frame.stale is not None:
            raise SceneError(
                f"frame {frame.seq} of {frame.source} does not show the tray as it is now ({frame.stale}); "
                "take the frames again"
            )


def _learn_frame(frame: Frame, border_share: float) -> tuple[BackgroundPlane, DepthImage, Look]:
    """The plane, the height over it (H, W) and what else there is to see."""
    try:
        plane, height_m = height_over_background(frame.depth_m, frame.intrinsics, "plane", border_share)
    except DepthUnusable as error:
        raise SceneError(f"frame {frame.seq} of {frame.source}: {error}") from error
    look = look_at(frame, plane, None)
    if look is None:
        raise SceneError(
            f"frame {frame.seq} of {frame.source}: nothing of the tray is seen; check the camera's view"
        )
    return plane, height_m, look


def _check_empty(height_m: DepthImage, pixel_m: float, foreground: ForegroundConfig) -> None:
    there = mask_above(height_m, foreground.part_threshold_m, pixel_m, foreground)  # (H, W)
    if not bool(there.any()):
        return
    _, labels, stats, centres = cv2.connectedComponentsWithStats(there.astype(np.uint8), connectivity=8)
    largest = 1 + int(np.argmax(stats[1:, cv2.CC_STAT_AREA]))
    area_mm2 = float(stats[largest, cv2.CC_STAT_AREA]) * (pixel_m * 1e3) ** 2
    height_mm = float(np.median(height_m[labels == largest])) * 1e3
    x_px, y_px = centres[largest]
    how = f"stands {height_mm:.0f} mm above" if height_mm >= 0 else f"lies {-height_mm:.0f} mm below"
    raise SceneError(
        f"the tray is not empty: something {how} its plane and covers {area_mm2:.0f} mm² around pixel "
        f"({x_px:.0f}, {y_px:.0f}); clear the tray and {_AGAIN}. What differs from the plane by more than "
        f"{foreground.part_threshold_m * 1e3:g} mm counts as a part, also if it belongs to the tray"
    )


def _tray(
    frames: Sequence[Frame],
    now: datetime,
    looks: Sequence[Look],
    plane: BackgroundPlane,
) -> Tray:
    first = frames[0]
    tilt_x_deg, tilt_y_deg = tilt_of(plane)
    figures = median_of([look.figures for look in looks])
    if figures.plane is None:
        raise SceneError(
            f"most frames of {first.source} show no depth beside the border; check the tray's light"
        )
    light = np.median(np.stack([look.light for look in looks]), axis=0)  # (rows, columns, 3)
    fill = np.median(np.stack([look.fill for look in looks]), axis=0)  # (rows, columns)
    return Tray(
        learnt_utc=now,
        software_version=__version__,
        frames=len(frames),
        camera=first.source,
        intrinsics=IntrinsicsInfo.of(first.intrinsics),
        depth_unit_m=first.depth_unit_m,
        plane_inverse_m=plane.inverse_m,
        plane=PlaneFigures(
            tilt_x_deg=tilt_x_deg,
            tilt_y_deg=tilt_y_deg,
            distance_mm=plane.distance_m * 1e3,
            noise_mm=figures.plane.noise_mm,
        ),
        fill_share=figures.fill_share,
        light=figures.light,
        cell_light=tuple(
            tuple((_share(red), _share(green), _share(blue)) for red, green, blue in row) for row in light
        ),
        cell_fill=tuple(tuple(_share(cell) for cell in row) for row in fill),
    )


def _share(value: np.float32) -> float:
    """To 5 digits, a hundredth of what one cell's light strays by; means of cells overshoot 1 by a hair."""
    return round(min(max(float(value), 0.0), 1.0), 5)


def write_tray(tray: Tray, path: Path) -> None:
    """Write the sealed file, the old one or the new one, whole; raises `SceneError` where it can't be."""
    text = yaml.safe_dump(
        tray.model_dump(mode="json"), sort_keys=False, allow_unicode=True, default_flow_style=None
    )
    with told_of(path):
        write_atomically(path, seal(text).encode())


@contextmanager
def told_of(path: Path) -> Iterator[None]:
    """Whatever the disk refuses within is a `SceneError` that names the tray's file."""
    try:
        yield
    except OSError as error:
        raise SceneError(
            f"{path}: the tray can't be written ({error.strerror}); see to the folder, its rights and the "
            "disk"
        ) from error


def read_tray(path: Path) -> Tray:
    """What was learnt; raises `SceneError` where there is no such file, or it was changed or damaged."""
    try:
        text, _ = read_sealed(path)
    except FileChanged as error:
        raise SceneError(
            f"{path}: differs from the sha256 in its first line: edited by hand, or damaged; {_AGAIN}"
        ) from error
    except BundleError as error:
        raise SceneError(f"{path}: the tray can't be read ({error}); {_AGAIN}") from error
    try:
        return Tray.model_validate(plain_data(text))
    except ValueError as error:  # pydantic's ValidationError is one
        raise SceneError(f"{path}: is no tray that this version can read: {error}; {_AGAIN}") from error
