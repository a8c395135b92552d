"""The `scene` section of the rig's YAML: how the scene around the part is watched."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["TRAY_FILE", "SceneConfig", "SceneLimits"]

TRAY_FILE = "tray.yaml"
"""Its name in the daemon's state directory."""


class SceneLimits(BaseModel):
    """How far the scene may drift from the tray as learnt before a warning begins.

    `tilt_deg` of the camera against the tray; `distance_share`, `light_share` and `noise_share` relative to
    set-up (0.2: a fifth more or less; noise warns only of more); `colour_share` of red or of blue relative to
    green; `fill_share` (only less) and `clipped_share` (only more) in shares of the tray.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tilt_deg: float = Field(default=1.5, gt=0, le=45)
    distance_share: float = Field(default=0.02, gt=0, le=1)
    fill_share: float = Field(default=0.1, gt=0, le=1)
    light_share: float = Field(default=0.2, gt=0, le=1)
    clipped_share: float = Field(default=0.02, gt=0, le=1)
    colour_share: float = Field(default=0.04, gt=0, le=1)
    noise_share: float = Field(default=0.3, gt=0, le=10)


class SceneConfig(BaseModel):
    """What is known of the empty tray, and what may become of it.

    `tray` is the file that `edge-capture --tray` wrote (`tray.yaml` in the daemon's state directory, if not
    given). Of the frames that are inspected one in `interval_s` is looked at, and judged by the median of the
    last `window` of them, so a single odd frame says nothing. A warning ends when the drift has come back to
    four fifths of its limit.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    tray: Path | None = None
    interval_s: float = Field(default=1.0, ge=0, le=3600)
    window: int = Field(default=15, ge=3, le=1000)
    limits: SceneLimits = SceneLimits()

    def tray_file(self, state_dir: Path) -> Path:
        """Where the tray is kept."""
        return self.tray or state_dir / TRAY_FILE
