"""How the promise of a calibration is kept, in the health message."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["PromiseHealth", "PromiseWarning"]

PromiseWarning = Literal["promise_broken"]

_Share = Annotated[float, Field(ge=0, le=1)]


class PromiseHealth(BaseModel):
    """Whether the promised false-reject rate of the calibration in force is kept, by the labels of parts.

    `good` parts count as good: passed ones that no label calls bad, and rejected ones that are labelled good,
    `rejected` of them. `bad` parts have a label that names a defect; `unlabelled` rejected ones have none
    yet, and count for nothing. `e_value` is evidence against `promised_rate`, 1 at the start; the chance that
    it ever reaches `e_value_limit` while the promise is kept is at most `level`. By the same evidence the
    rate is at least `rate_at_least`, at every look; unlabelled rejects and defects that pass leave it open
    how large it is at most. `reading`: the ledger's verdicts of before the start are not all counted yet.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )

    state: Literal["reading", "watching", "not_tested"]
    calibration_id: str
    calibration_version: int | None
    promised_rate: _Share
    confidence: _Share | None = Field(description="of the promise; null where it is one on average")
    good: int = Field(ge=0)
    rejected: int = Field(ge=0)
    bad: int = Field(ge=0)
    unlabelled: int = Field(ge=0)
    rate_at_least: _Share
    level: float
    e_value: float = Field(ge=0)
    e_value_limit: float
    warning: PromiseWarning | None
    detail: str | None = Field(description="in a sentence: the warning, or why nothing is tested")
    warned_for_s: float | None = Field(description="how long the warning has held")
