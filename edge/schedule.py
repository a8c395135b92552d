"""Which recipe a schedule wants: cronsim does the calendar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from zoneinfo import ZoneInfo

from cronsim import CronSim

from edge.recipe_config import ScheduleConfig

__all__ = ["Occasion", "Schedule"]

_STEP = timedelta(hours=1)
"""A clock that is put back by less is waited for; one by more makes all that was done by it void."""

_MINUTE = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Occasion:
    """A switch to `recipe`, at a time in UTC."""

    at: datetime
    recipe: str


class Schedule:
    """A `ScheduleConfig` as occasions in UTC.

    Local times that daylight saving leaves out or repeats are those of Debian's cron: what is left out
    happens when the clock has jumped, what is repeated happens the first time.
    """

    def __init__(self, config: ScheduleConfig) -> None:
        self._zone = ZoneInfo(config.time_zone)
        self._switches = []
        for switch in config.switches:
            hour, minute = switch.at.split(":")
            days = ",".join(switch.weekdays())
            self._switches.append((f"{int(minute)} {int(hour)} * * {days}", switch.recipe))

    def latest(self, now: datetime) -> Occasion:
        """The last switch until `now` (UTC), that moment included."""
        return max(self._each(now + _MINUTE, now, reverse=True), key=lambda occasion: occasion.at)

    def following(self, now: datetime) -> Occasion:
        """The first switch after `now` (UTC)."""
        return min(self._each(now, now, reverse=False), key=lambda occasion: occasion.at)

    def due(self, now: datetime, handled: datetime | None) -> Occasion | None:
        """The switch that is to be made, where the last one, by whomever, was made at `handled`.

        Only ever the latest: those that it overtook, while the rig was off or the clock jumped, are void.
        Where the clock has been put back by hours, what was handled by it counts for nothing.
        """
        latest = self.latest(now)
        if handled is None or latest.at > handled or handled - now > _STEP:
            return latest
        return None

    def _each(self, start: datetime, now: datetime, *, reverse: bool) -> Iterator[Occasion]:
        local = start.astimezone(self._zone)
        for expression, recipe in self._switches:
            for found in CronSim(expression, local, reverse=reverse):
                at = found.astimezone(timezone.utc)
                if (at <= now) if reverse else (at > now):
                    yield Occasion(at, recipe)
                    break
