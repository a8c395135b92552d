"""How many parts of this shift passed and failed, minute by minute."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime, time, timedelta, timezone

from pydantic import BaseModel, ConfigDict

from edge.inspection import Outcome
from edge.utc_time import UtcTime

__all__ = ["Counts", "ShiftCounter", "shift_start"]

_WINDOW = timedelta(hours=8)
_KEPT_MINUTES = 25 * 60


class Counts(BaseModel):
    """Verdicts by outcome since `since`: the start of a `shift`, or else eight hours ago."""

    model_config = ConfigDict(frozen=True)

    since: UtcTime
    shift: bool
    outcomes: dict[str, int]


def shift_start(now: datetime, starts: Sequence[time]) -> datetime:
    """The last of the times of day `starts` (of this machine) before `now`; without any, eight hours ago."""
    if not starts:
        return now - _WINDOW
    local = now.astimezone()
    days = (local.date(), local.date() - timedelta(days=1))
    # Made aware for its own day: a shift that began before the clocks were changed began at another offset.
    began = (datetime.combine(day, start).astimezone() for day in days for start in starts)
    return max(at for at in began if at <= local).astimezone(timezone.utc)


class ShiftCounter:
    """Counts verdicts in the minute that they were made in; of a day, whatever the clock does.

    `fill` is given what was counted before it began, once; `add` and `counts` may come from any thread.
    """

    def __init__(self, starts: Sequence[time]) -> None:
        self._starts = tuple(starts)
        self._lock = threading.Lock()
        self._minutes: dict[int, Counter[str]] = {}

    def add(self, outcome: Outcome, made: datetime) -> None:
        self._add(((_minute(made), outcome.value, 1),))

    def fill(self, counted: Iterable[tuple[int, str, int]]) -> None:
        """Minute (since 1970), outcome and number."""
        self._add(counted)

    def counts(self, now: datetime) -> Counts:
        since = shift_start(now, self._starts)
        first = _minute(since)
        total: Counter[str] = Counter({outcome.value: 0 for outcome in Outcome})
        with self._lock:
            for minute, counter in self._minutes.items():
                if minute >= first:
                    total.update(counter)
        return Counts(since=since, shift=bool(self._starts), outcomes=dict(total))

    def oldest(self, now: datetime) -> datetime:
        """From when on anybody could ask."""
        return now - timedelta(minutes=_KEPT_MINUTES)

    def _add(self, counted: Iterable[tuple[int, str, int]]) -> None:
        with self._lock:
            for minute, outcome, number in counted:
                self._minutes.setdefault(minute, Counter())[outcome] += number
            while len(self._minutes) > _KEPT_MINUTES:
                del self._minutes[min(self._minutes)]


def _minute(at: datetime) -> int:
    return int(at.timestamp() // 60)
