"""Preprocessing before the training parts were looked at."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.background import BackgroundKind
from edge.framing import FramingConfig, Upright
from edge.preprocessing import ForegroundConfig, NormalsConfig, Preprocessing, ZConfig
from train.bed import BedNoise

__all__ = ["ForegroundPlan", "FramingPlan", "PreprocessingPlan"]

Auto = Literal["auto"]
Length = Annotated[float, Field(gt=0)]

# In units of the bed's tail (`BedNoise`). Measured on four simulated products under a D405 (intersection over
# union with the true mask .945 to .981) and on cable_gland of MVTec 3D-AD; lower ones let an empty tray's
# noise through, higher ones lose thin parts.
_PART_TAILS = 1.7
_MASK_TAILS = 1.35
# Below it the bed's own relief, a tape or a scratch, would be a part.
_LEAST_TAIL_M = 0.0005
# A matcher's window loses depth along edges, in notches as wide as its noise is correlated; where noise is
# finer than this there is no window.
_WINDOW_FROM_PX = 3.0
_NOTCH_PER_CORRELATION = 1.25


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class FramingPlan(_Section):
    """The framing, where `window_px` may be left to training: `auto` is the largest part's side × `margin`.

    `upright`: see `edge.framing.box_of`; `auto` is that under which the training parts look most alike.
    """

    mode: Literal["whole", "roi", "part"] = "part"
    fit: Literal["stretch", "letterbox"] = "stretch"
    roi_px: tuple[int, int, int, int] | None = None
    window_px: int | Literal["auto"] = "auto"
    margin: float = Field(default=1.15, ge=1)
    upright: Upright | Literal["auto"] = "auto"


class ForegroundPlan(_Section):
    """The foreground (`edge.preprocessing.ForegroundConfig`); what is `auto` follows from the bed's noise.

    `part_threshold_m` and `mask_threshold_m` then are multiples of the noise's tail, `closing_px` is as wide
    as the notches that noise of that correlation comes with.
    """

    part_threshold_m: Length | Auto = "auto"
    mask_threshold_m: Length | Auto = "auto"
    closing_px: Annotated[int, Field(ge=1)] | Auto = "auto"
    opening_px: int = Field(default=5, ge=1)
    min_area_mm2: float = Field(default=25.0, gt=0)
    dilation_px: int = Field(default=8, ge=0)
    dilation_shape: Literal["ellipse", "square"] = "ellipse"
    fill: bool = True
    background: BackgroundKind = "plane"
    border_share: float = Field(default=0.08, gt=0, le=0.5)
    shrinking: Literal["nearest", "touched"] = "nearest"
    cells: Literal["touched", "half", "soft"] = "touched"

    @model_validator(mode="after")
    def _noise_is_over_the_plane(self) -> Self:
        if self.background == "corners" and "auto" in (self.part_threshold_m, self.mask_threshold_m):
            raise ValueError(
                "background 'corners' needs numbers for part_threshold_m and mask_threshold_m (AST: 0.007): "
                "a surface through four corners errs by as much as their few pixels do"
            )
        return self

    @property
    def is_open(self) -> bool:
        """Whether something is left to the training parts."""
        return "auto" in (self.part_threshold_m, self.mask_threshold_m, self.closing_px)

    def resolve(self, bed: BedNoise | None) -> ForegroundConfig:
        """With numbers for each `auto`; `bed` may be None where there is none, else `ValueError`."""
        numbers = self.model_dump()
        if bed is not None:
            numbers |= {key: value for key, value in self._found(bed).items() if numbers[key] == "auto"}
        elif self.is_open:
            raise ValueError("the foreground is left to the bed's noise (`auto`), which was not measured")
        return ForegroundConfig.model_validate(numbers)

    def _found(self, bed: BedNoise) -> dict[str, float | int]:
        tail_m = max(bed.tail_m, _LEAST_TAIL_M)
        part_m = (
            _tenths_mm(_PART_TAILS * tail_m) if self.part_threshold_m == "auto" else self.part_threshold_m
        )
        notch_px = _NOTCH_PER_CORRELATION * bed.correlation_px
        closing_px = 2 * round((notch_px - 1) / 2) + 1 if bed.correlation_px >= _WINDOW_FROM_PX else 1
        return {
            "part_threshold_m": part_m,
            "mask_threshold_m": min(part_m, _tenths_mm(_MASK_TAILS * tail_m)),
            "closing_px": closing_px,
        }


def _tenths_mm(length_m: float) -> float:
    return round(length_m, 4)


class PreprocessingPlan(_Section):
    """`edge.preprocessing.Preprocessing`, before the training parts were looked at."""

    image_px: int = 512
    depth_px: int = 192
    map_cells: int = 32
    hole_passes: int = 0
    framing: FramingPlan = FramingPlan()
    foreground: ForegroundPlan = ForegroundPlan()
    z: ZConfig = ZConfig()
    normals: NormalsConfig = NormalsConfig()

    def resolve(
        self, foreground: ForegroundConfig, window_px: int | None, upright: Upright = "off"
    ) -> Preprocessing:
        """What the device is given: `foreground` is the plan's, resolved; the rest stands in for `auto`."""
        plan = self.framing
        side = (window_px if plan.window_px == "auto" else plan.window_px) if plan.mode == "part" else None
        return Preprocessing(
            image_px=self.image_px,
            depth_px=self.depth_px,
            map_cells=self.map_cells,
            hole_passes=self.hole_passes,
            framing=FramingConfig(
                mode=plan.mode,
                fit=plan.fit,
                roi_px=plan.roi_px,
                window_px=side,
                upright=self._upright(upright),
            ),
            foreground=foreground,
            z=self.z,
            normals=self.normals,
        )

    def _upright(self, found: Upright) -> Upright:
        plan = self.framing
        if plan.mode != "part":
            return "off"
        return found if plan.upright == "auto" else plan.upright
