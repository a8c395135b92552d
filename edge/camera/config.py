"""Which camera a rig has, and how it is set: the `camera:` part of the rig's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

__all__ = [
    "RECORDINGS",
    "CameraConfig",
    "CareConfig",
    "FolderCamera",
    "LiveCamera",
    "LockedOptions",
    "RecordingCamera",
    "SimulatedCamera",
]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _Source(_Strict):
    read_timeout_s: float = Field(
        default=5.0, gt=0, le=120, description="seconds without a frame after which the camera has stalled"
    )


class LockedOptions(_Strict):
    """What the camera is held at; None keeps the value that the camera has.

    Auto-exposure and auto-white-balance are always switched off: a verdict must not depend on what was
    under the camera a second ago.
    """

    exposure_us: float | None = Field(default=None, ge=1, le=165_000)
    gain: float | None = Field(default=None, ge=1, le=1000)
    white_balance_k: float | None = Field(default=None, ge=1000, le=12_000)
    power_line_hz: Literal[0, 50, 60] | None = Field(default=None, description="0 switches the filter off")


class CareConfig(_Strict):
    """How a camera is kept going: when it counts as lost, what is tried then, and what must not change.

    An attempt to open the camera again comes after `first_backoff_s`, the next ones after ever longer, up
    to `last_backoff_s`; each `reset_after` attempts in vain its hardware is reset (null: never) and gets
    `reset_wait_s` to come back. It never gives up; a call of the driver that does not return within
    `hung_after_s` ends the process, since nothing else helps.

    `garbage_frames` broken frames in a row, or `frozen_frames` with the same depth bit for bit (null: that is
    not looked at), are as good as none. `depth_unit_m` is what the camera must count in; else what it counted
    in first. `start_without` begins without the camera and waits for it.
    """

    first_backoff_s: float = Field(default=0.5, gt=0, le=60)
    last_backoff_s: float = Field(default=30.0, gt=0, le=3600)
    reset_after: int | None = Field(default=2, ge=1, le=100)
    reset_wait_s: float = Field(default=3.0, ge=0, le=60)
    hung_after_s: float = Field(default=60.0, ge=1, le=3600)
    garbage_frames: int = Field(default=10, ge=1, le=1000)
    frozen_frames: int | None = Field(default=10, ge=1, le=1000)
    allow_usb2: bool = False
    allow_other_camera: bool = False
    depth_unit_m: float | None = Field(default=None, gt=0, le=0.01)
    start_without: bool = False

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.first_backoff_s > self.last_backoff_s:
            raise ValueError(
                f"first_backoff_s {self.first_backoff_s:g} must not exceed last_backoff_s "
                f"{self.last_backoff_s:g}"
            )
        return self


class LiveCamera(_Source):
    """A RealSense D405 on USB; without `serial` the only one that is plugged in.

    The plausible depths catch a wrong depth unit: a D405 works at 0.07-0.5 m and sees nothing below 0.04 m.
    """

    source: Literal["live"] = "live"
    serial: str | None = Field(default=None, min_length=1)
    width_px: int = Field(default=848, ge=1)
    height_px: int = Field(default=480, ge=1)
    fps: int = Field(default=30, ge=1, le=90)
    options: LockedOptions = LockedOptions()
    min_plausible_depth_m: float = Field(default=0.04, gt=0)
    max_plausible_depth_m: float = Field(default=1.0, gt=0)
    record_to: Path | None = None
    care: CareConfig = CareConfig()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.min_plausible_depth_m >= self.max_plausible_depth_m:
            raise ValueError(
                f"min_plausible_depth_m {self.min_plausible_depth_m} must be below max_plausible_depth_m "
                f"{self.max_plausible_depth_m}"
            )
        if self.options.exposure_us is not None and self.options.exposure_us > 1e6 / self.fps:
            raise ValueError(
                f"an exposure of {self.options.exposure_us:g} µs can't hold {self.fps} frames a second; "
                f"at most {1e6 / self.fps:.0f} µs, or a lower fps"
            )
        _check_record_to(self.record_to)
        return self


RECORDINGS = (".db3", ".bag")
"""How files of librealsense end: 2.58 and later, and before."""


class RecordingCamera(_Source):
    """A recording of librealsense: `.db3` (2.58 and later) or `.bag` (before)."""

    source: Literal["recording"] = "recording"
    path: Path

    @model_validator(mode="after")
    def _is_a_recording(self) -> Self:
        if self.path.suffix not in RECORDINGS:
            raise ValueError(f"path {self.path} must end in {' or '.join(RECORDINGS)}")
        return self


class FolderCamera(_Source):
    """A folder of images: captures of a rig, or a category of MVTec 3D-AD (of which `split`), or a split."""

    source: Literal["folder"] = "folder"
    path: Path
    layout: Literal["auto", "captures", "mvtec3d"] = "auto"
    split: Literal["train", "validation", "test"] | None = Field(
        default=None, description="of MVTec 3D-AD alone; None is test"
    )


class SimulatedCamera(_Source):
    """Parts that do not exist under a D405 that does not exist, through the real librealsense pipeline.

    `parts` None never ends; `interval_s` 0 shows the next part as soon as the reader reads;
    `truth_to` is a new folder into which the truth about each part is written (truth.jsonl, masks).
    """

    source: Literal["simulated"] = "simulated"
    product: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    parts: int | None = Field(default=None, ge=1)
    defective_share: float = Field(default=0.5, ge=0, le=1)
    defects: tuple[str, ...] | None = Field(
        default=None, min_length=1, description="kinds of defects; None is all that the simulation knows"
    )
    severity: float = Field(default=1.0, gt=0, le=10, description="scales the size of the defects")
    empty_share: float = Field(default=0.0, ge=0, le=1, description="trays without a part")
    noise: bool = Field(default=True, description="the noise measured on a D405; false gives ideal images")
    interval_s: float = Field(default=0.0, ge=0, le=60)
    record_to: Path | None = None
    truth_to: Path | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.interval_s >= self.read_timeout_s:
            raise ValueError(
                f"interval_s {self.interval_s:g} must be below read_timeout_s {self.read_timeout_s:g}, "
                "or waiting for a part looks like a stalled camera"
            )
        _check_record_to(self.record_to)
        return self


def _check_record_to(path: Path | None) -> None:
    if path is not None and path.suffix != ".db3":
        raise ValueError(f"record_to {path} must end in .db3, the one format that librealsense writes")


CameraConfig = Annotated[
    LiveCamera | RecordingCamera | FolderCamera | SimulatedCamera, Field(discriminator="source")
]
"""The `camera:` part of the rig's YAML, told apart by `source`: live, recording, folder or simulated."""
