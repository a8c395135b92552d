"""The `score_watch` section of the rig's YAML."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool

__all__ = ["ScoreWatchConfig"]


class ScoreWatchConfig(BaseModel):
    """Whether a model still fits its line, by the scores of the parts.

    `enabled`: `auto` is on for triggers that give one verdict per part (`part_present`, `command`, `gpio`);
    `true` is on for `every_frame` and `interval`, too: each frame must then show another part. `level`: the
    chance that a rig whose scores don't drift is ever warned of. `learn_parts`: from so many passed parts it
    learns how scores are where the calibration does not say. `max_fail_share`: a larger share of parts that
    fail is a warning of its own.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    enabled: StrictBool | Literal["auto"] = "auto"
    level: float = Field(default=0.01, ge=1e-6, le=0.5)
    learn_parts: int = Field(default=200, ge=20, le=100_000)
    max_fail_share: float = Field(default=0.5, gt=0, lt=1)
