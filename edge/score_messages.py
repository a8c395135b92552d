"""How the scores of a model are, in the health message."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["ScoreHealth", "ScoreWarning"]

ScoreWarning = Literal["scores_drifted_up", "scores_drifted_down", "too_many_fails"]

_Share = Annotated[float, Field(ge=0, le=1)]


class ScoreHealth(BaseModel):
    """Whether the scores of parts below the threshold are still what they were at set-up.

    `reference`: the good parts that the calibration was found on, or the first that passed. `tested` parts
    below the threshold were compared since the start, `fails` were not. An e-value is evidence against "no
    drift", 1 at the start; the chance that one of the three ever reaches `e_value_limit` without a drift is
    at most `level`. E-values stop at the limit. `median_now` and `share_above` (of `reference_median`) are
    of the last `recent_parts` that passed, `fail_share` of as many that passed or failed.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )

    state: Literal["learning", "watching", "not_tested"]
    calibration_id: str
    reference: Literal["set_up", "first_parts"]
    reference_parts: int = Field(ge=0)
    reference_median: float | None
    tested: int = Field(ge=0)
    fails: int = Field(ge=0)
    recent_parts: int = Field(ge=0)
    median_now: float | None
    share_above: _Share | None
    fail_share: _Share | None
    level: float
    e_value_limit: float
    e_value_up: float = Field(ge=0)
    e_value_down: float = Field(ge=0)
    e_value_fails: float = Field(ge=0)
    direction: Literal["up", "down"] | None = Field(description="of the warning")
    warning: ScoreWarning | None
    detail: str | None = Field(description="in a sentence: the warning, or why nothing is tested")
    warned_for_s: float | None = Field(description="how long the warning has held")
