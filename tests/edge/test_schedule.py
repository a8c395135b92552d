"""The schedule of recipes: which switch is due, over the days, and when the clocks change."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.recipe_config import DAYS, ScheduleConfig, SwitchConfig
from edge.schedule import Occasion, Schedule


def schedule(*switches: tuple[str, str, str], zone: str = "Europe/Berlin") -> Schedule:
    """Of (time, days, recipe)."""
    return Schedule(
        ScheduleConfig.model_validate(
            {
                "time_zone": zone,
                "switches": [
                    {"at": at, "days": days.split(), "recipe": recipe} for at, days, recipe in switches
                ],
            }
        )
    )


def utc(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=timezone.utc)


WEEK = schedule(("06:00", "mon-fri", "gland"), ("14:00", "mon-fri", "plate"), ("07:30", "sat", "nut"))


@pytest.mark.parametrize(
    ("now", "latest", "following"),
    [
        # 2030-01-07 is a Monday; Berlin is an hour ahead of UTC in winter.
        ("2030-01-07T04:59", ("2030-01-05T06:30", "nut"), ("2030-01-07T05:00", "gland")),
        ("2030-01-07T05:00", ("2030-01-07T05:00", "gland"), ("2030-01-07T13:00", "plate")),
        ("2030-01-07T12:59:59", ("2030-01-07T05:00", "gland"), ("2030-01-07T13:00", "plate")),
        ("2030-01-06T12:00", ("2030-01-05T06:30", "nut"), ("2030-01-07T05:00", "gland")),
        ("2030-07-01T04:00", ("2030-07-01T04:00", "gland"), ("2030-07-01T12:00", "plate")),
    ],
)
def test_what_is_on_and_what_is_next(now: str, latest: tuple[str, str], following: tuple[str, str]) -> None:
    assert WEEK.latest(utc(now)) == Occasion(utc(latest[0]), latest[1])
    assert WEEK.following(utc(now)) == Occasion(utc(following[0]), following[1])


class TestDaylightSaving:
    """Germany: 2030-03-31 02:00 → 03:00, and 2030-10-27 03:00 → 02:00."""

    NIGHT = schedule(("02:30", "mon-sun", "night"), ("12:00", "mon-sun", "day"))

    def test_a_time_that_is_left_out_happens_when_the_clock_has_jumped(self) -> None:
        assert self.NIGHT.following(utc("2030-03-30T12:00")) == Occasion(utc("2030-03-31T01:00"), "night")
        assert self.NIGHT.latest(utc("2030-03-31T01:00")).recipe == "night"
        assert self.NIGHT.latest(utc("2030-03-31T00:59")).recipe == "day"

    def test_a_time_that_is_repeated_happens_once(self) -> None:
        first = Occasion(utc("2030-10-27T00:30"), "night")
        assert self.NIGHT.following(utc("2030-10-26T12:00")) == first
        assert self.NIGHT.following(first.at) == Occasion(utc("2030-10-27T11:00"), "day")
        for minutes in range(0, 180, 15):
            assert self.NIGHT.latest(first.at + timedelta(minutes=minutes)) == first


_SWITCH = st.tuples(
    st.times().map(lambda time: f"{time:%H:%M}"),
    st.lists(st.sampled_from(DAYS), min_size=1, max_size=3).map(" ".join),
    st.just("a"),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(_SWITCH, min_size=1, max_size=3),
    st.integers(0, 365 * 86_400).map(lambda s: utc("2030-01-01") + timedelta(seconds=s)),
    st.sampled_from(["Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "UTC"]),
)
def test_the_next_becomes_the_latest(switches: list[tuple[str, str, str]], now: datetime, zone: str) -> None:
    made = schedule(*switches, zone=zone)
    latest, following = made.latest(now), made.following(now)
    assert latest.at <= now < following.at
    assert following.at - latest.at <= timedelta(days=7, hours=1)
    assert made.latest(following.at).at == following.at
    assert made.latest(following.at - timedelta(seconds=1)).at == latest.at


class TestDue:
    def test_once_and_only_the_latest(self) -> None:
        at = utc("2030-01-07T05:00")
        assert WEEK.due(at, at - timedelta(days=1)) == Occasion(at, "gland")
        assert WEEK.due(at, at) is None
        later = at + timedelta(days=3, hours=9)  # the rig was off, or the clock jumped
        assert WEEK.due(later, at) == WEEK.latest(later)
        assert WEEK.due(later, later - timedelta(minutes=1)) is None
        assert WEEK.due(later, None) == WEEK.latest(later)

    def test_a_clock_that_is_put_back_a_little_is_waited_for(self) -> None:
        at = utc("2030-01-07T05:00")
        assert WEEK.due(at - timedelta(minutes=30), at) is None

    def test_one_that_is_put_back_a_day_begins_anew(self) -> None:
        at = utc("2030-01-08T05:00")
        assert WEEK.due(at - timedelta(days=1), at) == Occasion(at - timedelta(days=1), "gland")


def test_days_go_over_the_weekend() -> None:
    assert SwitchConfig(at="06:00", recipe="a", days=("fri-mon",)).weekdays() == ("mon", "fri", "sat", "sun")
    assert SwitchConfig(at="06:00", recipe="a", days=("wed", "tue-wed")).weekdays() == ("tue", "wed")
    assert SwitchConfig(at="06:00", recipe="a").weekdays() == DAYS


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"time_zone": "Europe/Atlantis"}, "no time zone that this machine knows"),
        ({"time_zone": "../etc/passwd"}, "no time zone of this name"),
        ({"switches": []}, "at least 1"),
        ({"switches": [{"at": 1350, "recipe": "a"}]}, "quotation marks"),
        ({"switches": [{"at": "24:00", "recipe": "a"}]}, "time of day"),
        ({"switches": [{"at": "6:00", "recipe": "a"}]}, "time of day"),
        ({"switches": [{"at": "06:00", "recipe": "a", "days": ["weekend"]}]}, "must be a day"),
        ({"switches": [{"at": "06:00", "recipe": "a", "days": []}]}, "at least 1"),
        (
            {"switches": [{"at": "06:00", "recipe": "a"}, {"at": "06:00", "recipe": "b", "days": ["sun"]}]},
            "goes over to a and to b at 06:00 on sun",
        ),
    ],
)
def test_what_is_no_schedule_is_refused(change: dict[str, object], message: str) -> None:
    right = {"time_zone": "Europe/Berlin", "switches": [{"at": "06:00", "recipe": "a"}]}
    ScheduleConfig.model_validate(right)
    with pytest.raises(ValidationError, match=message):
        ScheduleConfig.model_validate(right | change)
