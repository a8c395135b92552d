"""Preprocessing before the training parts were looked at."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.framing import FramingConfig
from edge.preprocessing import ForegroundConfig, NormalsConfig, Preprocessing, ZConfig

__all__ = ["FramingPlan", "PreprocessingPlan"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FramingPlan(_Section):
    """The framing, where `window_px` may be left to training: `auto` is the largest part's side × `margin`.

    `upright`: see `edge.framing.FramingConfig`.
    """

    mode: Literal["whole", "roi", "part"] = "part"
    fit: Literal["stretch", "letterbox"] = "stretch"
    roi_px: tuple[int, int, int, int] | None = None
    window_px: int | Literal["auto"] = "auto"
    margin: float = Field(default=1.15, ge=1)
    upright: bool = True


class PreprocessingPlan(_Section):
    """`edge.preprocessing.Preprocessing`, before the training parts were looked at."""

    image_px: int = 384
    depth_px: int = 192
    map_cells: int = 24
    framing: FramingPlan = FramingPlan()
    foreground: ForegroundConfig = ForegroundConfig()
    z: ZConfig = ZConfig()
    normals: NormalsConfig = NormalsConfig()

    def resolve(self, window_px: int | None) -> Preprocessing:
        """What the device is given; `window_px` stands in for `auto`."""
        plan = self.framing
        side = (window_px if plan.window_px == "auto" else plan.window_px) if plan.mode == "part" else None
        return Preprocessing(
            image_px=self.image_px,
            depth_px=self.depth_px,
            map_cells=self.map_cells,
            framing=FramingConfig(
                mode=plan.mode,
                fit=plan.fit,
                roi_px=plan.roi_px,
                window_px=side,
                upright=plan.upright and plan.mode == "part",
            ),
            foreground=self.foreground,
            z=self.z,
            normals=self.normals,
        )
