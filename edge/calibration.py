"""A threshold, how it was found, and on what: what decides whether a score is a pass or a fail."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.region_rules import RegionRules

__all__ = ["MAX_CAPTURES", "MAX_GOOD_SCORES", "Calibration", "Method", "PromisedRate"]

MAX_GOOD_SCORES = 1000
"""So many scores are kept at most, drawn by chance: YAML is read slowly, and more say little more."""

MAX_CAPTURES = 1000
"""So many captures are listed at most: a calibration must fit into one sealed file and one message."""

Method = Literal["quantile", "conformal", "conformal_marginal", "cross_conformal", "manual"]

_UNPROMISING: tuple[Method, ...] = ("quantile", "manual")

_Finite = Annotated[float, Field(allow_inf_nan=False)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, slots=True)
class PromisedRate:
    """The false-reject rate that good parts keep at most; with `confidence` None on average."""

    rate: float
    confidence: float | None


class Calibration(BaseModel):
    """A threshold and how it was found; a score above it fails.

    `version` counts the calibrations of this model on this rig; `replaces` is the `calibration_id` of the
    one before. `good_parts` n were scored that the model was not trained on, `bad_parts` beside them;
    `captures` are the sha256 of those that it was found on. `good_scores`, ascending, are the scores of the
    good parts, or some drawn of them by chance; what the rig's scores are compared with
    (`edge.score_watch`). None where something is not known.

    `method` says what is promised of `false_reject_rate`, the rate that was asked for. `conformal`: with
    probability `confidence` over the good parts that were scored, a good part of tomorrow is rejected at
    most so often. `conformal_marginal` and `cross_conformal`: so often on average over such sets of good
    parts. `quantile` and `manual` (a person's number, with no rate) promise nothing and are `provisional`.
    `good_rate_interval` is the exact interval (low, high) of the false-reject rate as it was measured.

    Scores above `review_threshold`, up to `threshold`, are for a person to look at. `region_rules` are part
    of the score.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    schema_version: Literal[2] = 2
    calibration_id: str = Field(min_length=1, max_length=200)
    version: int = Field(default=1, ge=1, le=999_999)
    model_sha256: _Sha256
    threshold: _Finite
    review_threshold: _Finite | None = None
    method: Method = "quantile"
    provisional: bool = True
    false_reject_rate: float | None = Field(default=None, gt=0, lt=1)
    confidence: float | None = Field(default=None, gt=0, lt=1)
    good_rate_interval: tuple[_Share, _Share] | None = None
    good_parts: int = Field(ge=1)
    bad_parts: int | None = Field(default=None, ge=0)
    created_utc: AwareDatetime
    created_by: str | None = Field(default=None, min_length=1, max_length=200)
    replaces: str | None = Field(default=None, min_length=1, max_length=200)
    note: str | None = Field(default=None, max_length=1000)
    region_rules: RegionRules | None = None
    good_scores: Annotated[tuple[_Finite, ...], Field(max_length=MAX_GOOD_SCORES)] | None = None
    captures: Annotated[tuple[_Sha256, ...], Field(max_length=MAX_CAPTURES)] = ()

    @model_validator(mode="before")
    @classmethod
    def _of_before(cls, data: object) -> object:
        # All that version 2 adds has a default that says "not known", which is what version 1 knew.
        if isinstance(data, Mapping) and data.get("schema_version") == 1:
            return {**data, "schema_version": 2}
        return data

    @model_validator(mode="after")
    def _check(self) -> Self:
        scores = self.good_scores
        if scores is not None and len(scores) > self.good_parts:
            raise ValueError(f"{len(scores)} good_scores of {self.good_parts} good_parts; calibrate again")
        if self.review_threshold is not None and self.review_threshold >= self.threshold:
            raise ValueError(
                f"review_threshold {self.review_threshold:g} must lie below threshold {self.threshold:g}: "
                "what lies between them is looked at by a person"
            )
        if self.method in _UNPROMISING and not self.provisional:
            raise ValueError(f"method {self.method} promises nothing: provisional must be true")
        if self.false_reject_rate is None and self.method != "manual":
            raise ValueError(f"false_reject_rate is missing; method {self.method} is about a rate")
        if (self.confidence is None) is (self.method == "conformal"):
            raise ValueError(
                "method conformal needs its confidence, such as 0.95, and no other method has one"
            )
        interval = self.good_rate_interval
        if interval is not None and interval[0] > interval[1]:
            raise ValueError(f"good_rate_interval {interval} must be low, high")
        rules = self.region_rules
        if rules is not None and rules.scales and self.threshold <= 0:
            raise ValueError(
                f"threshold {self.threshold:g} must be above 0 where a zone has a threshold of its own: "
                "the zone's map is scaled by the two"
            )
        return self

    @property
    def promise(self) -> PromisedRate | None:
        """What is promised of the good parts of tomorrow; None where nothing is."""
        if self.provisional or self.false_reject_rate is None:
            return None
        return PromisedRate(self.false_reject_rate, self.confidence)

    def by_hand(
        self,
        threshold: float,
        review_threshold: float | None,
        *,
        calibration_id: str,
        changes: Mapping[str, object] | None = None,
    ) -> Calibration:
        """The same with a person's number in its place: whatever was promised, was promised of the other one.

        Its good scores stay, but where a zone has a threshold of its own: its map is scaled by the number.
        Raises pydantic's `ValidationError`, a `ValueError`.
        """
        scaled = self.region_rules is not None and self.region_rules.scales
        return Calibration.model_validate(
            {
                **self.model_dump(),
                "good_scores": None if scaled and threshold != self.threshold else self.good_scores,
                "threshold": threshold,
                "review_threshold": review_threshold,
                "calibration_id": calibration_id,
                "method": "manual",
                "provisional": True,
                "false_reject_rate": None,
                "confidence": None,
                "good_rate_interval": None,
                **(changes or {}),
            }
        )
