"""The `trigger` section of the rig's YAML."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PositiveFloat, PositiveInt, model_validator
from typing_extensions import Self

__all__ = [
    "CommandTrigger",
    "EveryFrameTrigger",
    "GpioTrigger",
    "IntervalTrigger",
    "PartPresentTrigger",
    "TriggerConfig",
]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class EveryFrameTrigger(_Section):
    """Inspect each frame that the source gives; of a live camera the latest, where it gives more."""

    kind: Literal["every_frame"] = "every_frame"


class IntervalTrigger(_Section):
    """Inspect the first frame in each interval of `interval_s`, counted from the first frame."""

    kind: Literal["interval"]
    interval_s: float = Field(ge=0.01, le=86_400)


class PartPresentTrigger(_Section):
    """Inspect once when a part has come to rest under the camera.

    A part is there when the foreground covers at least `min_area_mm2`, and is at rest after
    `still_frames` frames in which its area changed by no more than `still_area_change` (a fraction) and
    its centroid moved by no more than `still_move_mm` from one frame to the next. The next part is waited
    for once the foreground has fallen below `rearm_area_mm2` (half of `min_area_mm2` if not given).
    """

    kind: Literal["part_present"]
    min_area_mm2: PositiveFloat
    still_frames: PositiveInt = 3
    still_area_change: PositiveFloat = 0.05
    still_move_mm: PositiveFloat = 1.0
    rearm_area_mm2: PositiveFloat | None = None

    @property
    def rearm_below_mm2(self) -> float:
        return self.min_area_mm2 / 2 if self.rearm_area_mm2 is None else self.rearm_area_mm2

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.rearm_below_mm2 >= self.min_area_mm2:
            raise ValueError(
                f"rearm_area_mm2 ({self.rearm_below_mm2:g}) must lie below min_area_mm2 "
                f"({self.min_area_mm2:g}); otherwise one part is inspected again and again"
            )
        return self


class _EventTrigger(_Section):
    """The first frame that was exposed wholly after the trigger is inspected.

    `lead_ms` is how long before its arrival a frame's exposure may have begun (exposure, read-out, the
    camera's own work, USB): a frame that arrives sooner than that after the trigger is not taken. Where
    none comes within `timeout_s`, the verdict is an error.
    """

    timeout_s: PositiveFloat = Field(default=2.0, le=60)
    lead_ms: float = Field(default=100.0, ge=0, le=5000)

    @model_validator(mode="after")
    def _check_lead(self) -> Self:
        if self.lead_ms >= self.timeout_s * 1e3:
            raise ValueError(
                f"lead_ms ({self.lead_ms:g}) must lie below timeout_s ({self.timeout_s:g} s); "
                "otherwise no frame comes in time"
            )
        return self


class CommandTrigger(_EventTrigger):
    """Inspect when a command over MQTT says so; it may name the part's serial."""

    kind: Literal["command"]


class GpioTrigger(_EventTrigger):
    """Inspect at an edge on a line of a GPIO chip, by libgpiod 2 (the extra `gpio`).

    `line` is its offset on `chip`, or its name. `edge` is the one that counts; with `active_low` the
    voltages are swapped, and a fall of the voltage is `rising`. `debounce_ms`: a level counts once it has
    held for so long.
    """

    kind: Literal["gpio"]
    chip: Path = Path("/dev/gpiochip0")
    line: Annotated[int, Field(ge=0)] | Annotated[str, Field(min_length=1)]
    edge: Literal["rising", "falling"] = "rising"
    active_low: bool = False
    bias: Literal["as_is", "disabled", "pull_up", "pull_down"] = "as_is"
    debounce_ms: float = Field(default=5.0, ge=0, le=1000)


TriggerConfig = Annotated[
    EveryFrameTrigger | IntervalTrigger | PartPresentTrigger | CommandTrigger | GpioTrigger,
    Field(discriminator="kind"),
]
"""When to inspect."""
