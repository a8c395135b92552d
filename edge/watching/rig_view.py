"""One rig as its messages show it; nothing in them is believed before it was looked at."""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, TypeVar

from pydantic import BaseModel, ValidationError

from edge.inbox import Incoming
from edge.watching.reading import (
    AvailabilityRead,
    HealthRead,
    MachineRead,
    RecipeRead,
    VerdictRead,
    printable,
)
from edge.watching.report import LastVerdict, RigRow

__all__ = ["READ", "RigView"]

_STALE_AFTER_INTERVALS = 3
_INTERVAL_S = 5.0  # health.interval_s if the rig's YAML says nothing else
_SHORTEST_INTERVAL_S = 1.0  # what waited somewhere comes in a burst
_GAPS_KEPT = 5
_PAYLOAD_MAX_BYTES = 256 * 1024

READ: dict[str, type[BaseModel]] = {
    "availability": AvailabilityRead,
    "verdict": VerdictRead,
    "state/last_verdict": VerdictRead,
    "state/machine": MachineRead,
    "state/recipe": RecipeRead,
    "health": HealthRead,
}
"""The topics below a rig's root that are listened to, and what is read there."""

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class _When:
    """When something was said: `heard_s` on our clock; before that it was `age_s` old."""

    heard_s: float
    age_s: float

    def age_at(self, now_s: float) -> float:
        return max(0.0, now_s - self.heard_s + self.age_s)


class RigView:
    """Hears the messages of one rig, and gives its row; one thread at a time."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._said: dict[str, BaseModel] = {}
        self._verdict: tuple[VerdictRead, _When] | None = None
        self._health_when: _When | None = None
        self._gaps_s: deque[float] = deque(maxlen=_GAPS_KEPT)
        self._last_live_s: float | None = None
        self._malformed = 0
        self._malformed_detail: str | None = None

    def hear(self, ending: str, message: Incoming, now: datetime) -> None:
        """A message on the topic `ending` below the root."""
        if not message.payload:  # somebody cleared what the broker had kept
            self._said.pop(ending, None)
            return
        if len(message.payload) > _PAYLOAD_MAX_BYTES:
            self._bad(ending, f"{len(message.payload)} bytes")
            return
        try:
            read = READ[ending].model_validate_json(message.payload)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(map(str, first["loc"]))
            self._bad(ending, f"{where}: {first['msg']}" if where else first["msg"])
            return
        heard_s = message.received_ns / 1e9
        if isinstance(read, VerdictRead):
            when = _When(heard_s, _age_s(read.creation_time, message, now))
            if self._verdict is None or _number(self._verdict[0]) <= _number(read):
                self._verdict = (read, when)
            return
        if isinstance(read, HealthRead):
            self._health_when = _When(heard_s, _age_s(read.creation_time, message, now))
            if self._last_live_s is not None:
                self._gaps_s.append(max(_SHORTEST_INTERVAL_S, heard_s - self._last_live_s))
            self._last_live_s = None if message.retained else heard_s
        self._said[ending] = read

    def row(self, now_s: float) -> RigRow:
        """How the rig is at `now_s` (monotonic)."""
        availability = self._get("availability", AvailabilityRead)
        machine = self._get("state/machine", MachineRead)
        recipe = self._get("state/recipe", RecipeRead)
        health = self._get("health", HealthRead)
        health_age_s = None if self._health_when is None else self._health_when.age_at(now_s)
        counts = {} if health is None else dict(health.inspections)
        total = sum(counts.values())
        return RigRow(
            root=printable(self._root),
            presence=self._presence(availability, health_age_s),
            presence_reason=None if availability is None else availability.reason,
            machine_state=None if machine is None else machine.state,
            machine_reason=None if machine is None else machine.reason,
            recipe=_recipe_name(recipe, health),
            recipe_loading=None if recipe is None else recipe.loading,
            last_verdict=self._last_verdict(now_s),
            counts=counts,
            yield_share=counts.get("passed", 0) / total if total else None,
            camera=None if health is None else health.camera.name,
            verdicts_pending=None if health is None else health.broker.verdicts_pending,
            warnings=() if health is None else _warnings(health),
            clock_synced=None if health is None else health.clock_synced,
            health_time=None if health is None else health.creation_time,
            health_age_s=health_age_s,
            malformed=self._malformed,
            malformed_detail=self._malformed_detail,
        )

    def _get(self, ending: str, model: type[_Model]) -> _Model | None:
        said = self._said.get(ending)
        return said if isinstance(said, model) else None

    def _bad(self, ending: str, why: str) -> None:
        self._malformed += 1
        self._malformed_detail = printable(f"{ending}: {why}")

    def _presence(
        self, availability: AvailabilityRead | None, health_age_s: float | None
    ) -> Literal["online", "stale", "offline", "unknown"]:
        if availability is not None and availability.state != "online":
            return "offline"
        interval_s = statistics.median(self._gaps_s) if self._gaps_s else _INTERVAL_S
        if health_age_s is not None and health_age_s > _STALE_AFTER_INTERVALS * interval_s:
            return "stale"
        return "unknown" if availability is None else "online"

    def _last_verdict(self, now_s: float) -> LastVerdict | None:
        if self._verdict is None:
            return None
        read, when = self._verdict
        return LastVerdict(
            result_id=read.result_id,
            outcome=read.outcome,
            reason=read.reason,
            score=read.score,
            threshold=read.threshold,
            creation_time=read.creation_time,
            age_s=when.age_at(now_s),
        )


def _age_s(created: datetime, message: Incoming, now: datetime) -> float:
    """How old a message was when it was heard: by both clocks where the broker had kept it, else new."""
    return max(timedelta(0), now - created).total_seconds() if message.retained else 0.0


def _number(verdict: VerdictRead) -> tuple[int, int]:
    return verdict.epoch, verdict.seq


def _recipe_name(recipe: RecipeRead | None, health: HealthRead | None) -> str | None:
    if recipe is not None:
        return recipe.running.name
    return None if health is None else health.recipe_id


def _warnings(health: HealthRead) -> tuple[str, ...]:
    found = [] if health.camera.down_s is None else [health.camera.down_reason or "camera_away"]
    if health.scene is not None:
        found += [warning.reason for warning in health.scene.warnings]
    if health.score is not None and health.score.warning is not None:
        found.append(health.score.warning)
    if health.promise is not None and health.promise.warning is not None:
        found.append(health.promise.warning)
    if health.outbox is not None and health.outbox.alarms:
        found.append("outbox_alarm")
    if health.clock_synced is False:
        found.append("clock_not_synced")
    return tuple(dict.fromkeys(found))
