"""The `recipes` and `schedule` sections of the rig's YAML."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from typing_extensions import Self

from edge.trigger_config import EveryFrameTrigger, TriggerConfig

__all__ = ["DAYS", "RecipeBook", "RecipeConfig", "RecipeName", "ScheduleConfig", "SwitchConfig"]

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = re.compile(rf"({'|'.join(DAYS)})(?:-({'|'.join(DAYS)}))?")
_TIME = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class RecipeConfig(_Section):
    """One product: its bundle, when to inspect it, and where its threshold comes from.

    The threshold is that of the bundle's calibration. `calibration` is a folder with another
    `calibration.yaml` of the same model, found on this rig; `threshold` overrules the number of either, and
    is held to be provisional. How the part is told from its background comes with the bundle.
    """

    bundle: Path
    trigger: TriggerConfig = EveryFrameTrigger()
    calibration: Path | None = None
    threshold: float | None = None


RecipeName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")]
"""1 to 64 letters, digits, `_`, `.`, `-`; it stands in commands, and on the disk."""


def _check_time(value: object) -> object:
    if isinstance(value, int):  # YAML 1.1 reads 22:30 as a number of base 60
        raise ValueError('must stand in quotation marks: at: "22:30"')
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        raise ValueError('must be a time of day, "00:00" to "23:59"')
    return value


def _check_day(value: str) -> str:
    if not _DAY.fullmatch(value):
        raise ValueError(f"must be a day ({', '.join(DAYS)}) or a range of days (mon-fri)")
    return value


def _check_zone(value: str) -> str:
    try:
        ZoneInfo(value)
    except (OSError, ValueError) as error:  # ZoneInfoNotFoundError is a KeyError, a bad name a ValueError
        raise ValueError(f"no time zone of this name can be read ({error}); such as Europe/Berlin") from error
    except KeyError as error:
        raise ValueError(
            "is no time zone that this machine knows, such as Europe/Berlin; where even that is unknown, "
            "install the package tzdata"
        ) from error
    return value


class SwitchConfig(_Section):
    """At this time of day, on these days (every day if not given), go over to a recipe."""

    at: Annotated[str, BeforeValidator(_check_time)]
    recipe: RecipeName
    days: tuple[Annotated[str, AfterValidator(_check_day)], ...] = Field(default=DAYS, min_length=1)

    def weekdays(self) -> tuple[str, ...]:
        """The days, one by one: `fri-mon` goes over the weekend."""
        found = set()
        for text in self.days:
            first, last = text.partition("-")[::2]
            start, stop = DAYS.index(first), DAYS.index(last or first)
            found |= {DAYS[(start + n) % 7] for n in range((stop - start) % 7 + 1)}
        return tuple(day for day in DAYS if day in found)


class ScheduleConfig(_Section):
    """When which recipe begins, by the clock on the wall in `time_zone`.

    Where the clock is put forward over a switch's time it is made at once; where it is put back over it,
    once. While the system does not hold its clock to be synchronised nothing is switched, unless
    `needs_synced_clock` is false: for a rig without network time whose own clock is good.
    """

    time_zone: Annotated[str, AfterValidator(_check_zone)]
    switches: tuple[SwitchConfig, ...] = Field(min_length=1)
    needs_synced_clock: bool = True

    @model_validator(mode="after")
    def _check(self) -> Self:
        seen: dict[tuple[str, str], str] = {}
        for switch in self.switches:
            for day in switch.weekdays():
                other = seen.setdefault((day, switch.at), switch.recipe)
                if other != switch.recipe:
                    raise ValueError(f"goes over to {other} and to {switch.recipe} at {switch.at} on {day}")
        return self


@dataclass(frozen=True, slots=True)
class RecipeBook:
    """All recipes of a rig by their names, the one to begin with, and when to go over to which."""

    recipes: Mapping[str, RecipeConfig]
    first: str
    schedule: ScheduleConfig | None = None

    @property
    def beginning(self) -> RecipeConfig:
        return self.recipes[self.first]

    @property
    def bundles(self) -> tuple[Path, ...]:
        """Each bundle once."""
        return tuple(dict.fromkeys(self.recipes[name].bundle for name in self.names))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(sorted(self.recipes))
