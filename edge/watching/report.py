"""How the rigs at a broker are, as `edge-watch --json` says it; docs/schemas/ is generated from this."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from edge.utc_time import UtcTime

__all__ = ["LastVerdict", "RigRow", "WatchReport"]


class _Reported(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", allow_inf_nan=False, json_schema_serialization_defaults_required=True
    )


class LastVerdict(_Reported):
    """The newest verdict of a rig; `outcome` and `reason` are the rig's own words."""

    result_id: str
    outcome: str
    reason: str | None
    score: float | None
    threshold: float | None
    creation_time: UtcTime
    age_s: float = Field(ge=0)


class RigRow(_Reported):
    """One rig, as far as it was heard; null is what it has not said.

    `presence`: `stale` is a rig that is said to be online and whose health is older than three of its
    intervals. `counts` are by outcome since the daemon's start, `yield_share` is how many of all of them
    passed. `warnings` are stable words: of the scene, the scores, the camera, the disk, the clock.
    `malformed` messages were passed over; `malformed_detail` says what was wrong with the last. Times are the
    rig's, ages the watch's.
    """

    schema_version: Literal[1] = 1
    root: str
    presence: Literal["online", "stale", "offline", "unknown"]
    presence_reason: str | None
    machine_state: str | None
    machine_reason: str | None
    recipe: str | None
    recipe_loading: str | None
    last_verdict: LastVerdict | None
    counts: dict[str, int]
    yield_share: float | None
    camera: str | None
    verdicts_pending: int | None
    warnings: tuple[str, ...]
    clock_synced: bool | None
    health_time: UtcTime | None
    health_age_s: float | None
    malformed: int = Field(ge=0)
    malformed_detail: str | None

    @property
    def needs_a_look(self) -> bool:
        """Whether a person should go there."""
        ill = self.presence != "online" or self.machine_state in ("Error", "Halted")
        return ill or bool(self.warnings) or self.malformed > 0

    def without_ages(self) -> RigRow:
        """For comparison: what grows by itself is no change."""
        verdict = self.last_verdict
        return self.model_copy(
            update={
                "health_age_s": None,
                "health_time": None,
                "last_verdict": None if verdict is None else verdict.model_copy(update={"age_s": 0.0}),
            }
        )


class WatchReport(_Reported):
    """All rigs at a broker, by their roots, after some seconds of listening."""

    schema_version: Literal[1] = 1
    broker: str
    connected: bool
    creation_time: UtcTime
    rigs: tuple[RigRow, ...]
    rigs_left_out: int = Field(ge=0, description="beyond those that the watch has room for")
