"""What the rig's health says of the scene around the part."""

from __future__ import annotations

from enum import Enum
from typing import Literal

from pydantic import Field

from edge.scene.figures import SceneFigures, SceneModel
from edge.utc_time import UtcTime

__all__ = ["SceneDrift", "SceneHealth", "SceneReason", "SceneWarning"]


class SceneReason(str, Enum):
    """Why the scene is not what it was at set-up, in one stable word."""

    CAMERA_TILTED = "camera_tilted"
    CAMERA_MOVED = "camera_moved"
    PLANE_LOST = "plane_lost"
    FILL_LOW = "fill_low"
    LIGHT_LOW = "light_low"
    LIGHT_HIGH = "light_high"
    LIGHT_CLIPPED = "light_clipped"
    COLOUR_SHIFTED = "colour_shifted"
    DEPTH_NOISY = "depth_noisy"
    OTHER_CAMERA = "other_camera"
    INTRINSICS_CHANGED = "intrinsics_changed"
    TRAY_UNREADABLE = "tray_unreadable"


class SceneDrift(SceneModel):
    """Now against the tray as learnt; null where the plane was not found.

    `tilt_x_deg`, `tilt_y_deg`, `fill_share` and `clipped_share` are differences, the rest relative changes
    (0.1: a tenth more). Light, colour and fill are compared cell by cell of the frame, where the part hides
    none.
    """

    tilt_x_deg: float | None
    tilt_y_deg: float | None
    distance_share: float | None
    noise_share: float | None
    fill_share: float
    clipped_share: float
    light_share: float
    red_to_green_share: float
    blue_to_green_share: float


class SceneWarning(SceneModel):
    """One thing that has drifted; `detail` says by how much, and what to do."""

    reason: SceneReason
    detail: str
    since: UtcTime


class SceneHealth(SceneModel):
    """What is seen around the part, and how far it has drifted from the empty tray at set-up.

    `tray`: whether one was learnt (`edge-capture --tray`); without it there is no `drift`, and no warning but
    for a tray that can't be read. `now` is the median of the last `looks` frames that were looked at, the
    last of them at `last_look`; null before the first. `levelling` says which way to turn the camera so that
    it looks straight down on the tray, null where it does. Warnings change no verdict and no state.
    """

    tray: Literal["learnt", "not_learnt", "unreadable"]
    learnt_time: UtcTime | None
    learnt: SceneFigures | None
    now: SceneFigures | None
    drift: SceneDrift | None
    levelling: str | None
    looks: int = Field(ge=0)
    last_look: UtcTime | None
    warnings: tuple[SceneWarning, ...]
