"""Which recipe a schedule wants: cronsim does the calendar."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from itertools import takewhile
from zoneinfo import ZoneInfo

from cronsim import CronSim

from edge.recipe_config import ScheduleConfig

__all__ = ["Occasion", "Schedule"]

_STEP = timedelta(hours=1)
"""A clock that is put back by less is waited for; one by more makes all that was done by it void."""

_OVER_A_WEEK = timedelta(days=8)


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
        zone = ZoneInfo(config.time_zone)
        self._switches = []
        for switch in config.switches:
            hour, minute = switch.at.split(":")
            days = ",".join(switch.weekdays())
            self._switches.append((f"{int(minute)} {int(hour)} * * {days}", switch.recipe, zone))

    def latest(self, now: datetime) -> Occasion:
        """The last switch until `now` (UTC), that moment included."""
        # Looked for forwards: backwards, cronsim passes over what lies in an hour that is repeated.
        passed = [
            occasion
            for switch in self._switches
            for occasion in takewhile(
                lambda occasion: occasion.at <= now, _after(now - _OVER_A_WEEK, *switch)
            )
        ]
        return max(passed, key=lambda occasion: occasion.at)

    def following(self, now: datetime) -> Occasion:
        """The first switch after `now` (UTC)."""
        firsts = [
            next(occasion for occasion in _after(now - _OVER_A_WEEK, *switch) if occasion.at > now)
            for switch in self._switches
        ]
        return min(firsts, key=lambda occasion: occasion.at)

    def due(self, now: datetime, handled: datetime | None) -> Occasion | None:
        """The switch that is to be made, where the last one, by whomever, was made at `handled`.

        Only ever the latest: those that it overtook, while the rig was off or the clock jumped, are void.
        Where the clock has been put back by hours, what was handled by it counts for nothing.
        """
        latest = self.latest(now)
        if handled is None or latest.at > handled or handled - now > _STEP:
            return latest
        return None


def _after(start: datetime, expression: str, recipe: str, zone: ZoneInfo) -> Iterator[Occasion]:
    """The occasions of one switch after `start`, without an end."""
    for found in CronSim(expression, start.astimezone(zone)):
        yield Occasion(found.astimezone(timezone.utc), recipe)
