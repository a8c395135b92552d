"""What happens while captures are collected, one object each; with `--json` one line of JSON."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict

__all__ = ["Ended", "Event", "HeldBack", "Kept", "Summary", "Undone"]


class _Event(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Ended(str, Enum):
    """Why collecting ended."""

    COUNT = "count"
    KEY = "key"
    SOURCE = "source"
    SIGNAL = "signal"


class Kept(_Event):
    """A capture is on disk: `capture` is its label and number, `rgb` the file of its picture.

    `relative_sharpness` is a share of the median of what was kept before; `concerns` is what spoke against
    it, in words.
    """

    event: Literal["kept"] = "kept"
    capture: str
    label: str
    rgb: Path
    part_serial: str | None
    captured_utc: AwareDatetime
    sharpness: float | None
    relative_sharpness: float | None
    fill_share: float | None
    distance_mm: float | None
    tilt_deg: float | None
    concerns: tuple[str, ...]


class HeldBack(_Event):
    """A frame was to be taken and was not kept: why, by word and in a sentence."""

    event: Literal["held_back"] = "held_back"
    label: str
    concerns: dict[str, str]


class Undone(_Event):
    """A capture was taken back; its files are in `moved_to`."""

    event: Literal["undone"] = "undone"
    capture: str
    moved_to: Path


class Summary(_Event):
    """The end: `counts` of the folder by label, the rest of this run; `torn` is what a crash had left."""

    event: Literal["summary"] = "summary"
    folder: Path
    ended: Ended
    counts: dict[str, int]
    kept: int
    undone: int
    held_back: dict[str, int]
    torn: int


Event = Kept | HeldBack | Undone | Summary
