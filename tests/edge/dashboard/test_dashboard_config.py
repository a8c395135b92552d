"""The `dashboard` section: for this machine alone unless there is a token; shifts by the wall clock."""

from __future__ import annotations

import time as clock
from collections.abc import Iterator
from datetime import datetime, time, timezone
from pathlib import Path

import pytest

from edge.clock import utc_now
from edge.config import load_rig_config
from edge.dashboard.config import DashboardConfig
from edge.dashboard.counts import ShiftCounter, shift_start
from edge.errors import ConfigError
from edge.inspection import Outcome

RIG = """\
rig: {enterprise: acme, site: dresden, area: assembly, line: line-3, cell: cell-2}
camera: {source: folder, path: captures}
bundle: bundles/plate
dashboard:
"""


def mistakes(folder: Path, section: str) -> str:
    path = folder / "rig.yaml"
    path.write_text(RIG + section, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        load_rig_config(path)
    return str(caught.value).removeprefix(f"{path}:")


def test_it_is_there_for_this_machine_alone_unless_told_otherwise() -> None:
    config = DashboardConfig()
    assert config.enabled
    assert config.is_local
    assert (config.host, config.port) == ("127.0.0.1", 8787)
    assert config.read_token() is None


@pytest.mark.parametrize("host", ["0.0.0.0", "192.0.2.17", "::", "2001:db8::1"])
def test_nobody_else_may_reach_it_without_a_token(tmp_path: Path, host: str) -> None:
    said = mistakes(tmp_path, f'  host: "{host}"\n')
    assert said.startswith(f"4: dashboard: {host} can be reached from other machines; give token_file or")
    assert not DashboardConfig(host=host, token_file=tmp_path / "token").is_local
    assert not DashboardConfig(host=host, enabled=False).enabled


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.7", "::1", "localhost"])
def test_of_this_machine(host: str) -> None:
    assert DashboardConfig(host=host).is_local


def test_mistakes_are_named(tmp_path: Path) -> None:
    assert "must be an IP address of this machine" in mistakes(tmp_path, "  host: cell-2\n")
    assert "must be scheme and host" in mistakes(tmp_path, "  origins: [cell-2.example.com]\n")
    assert 'must be a time of day in quotes: "06:00"' in mistakes(tmp_path, "  shift_starts: [14:00]\n")
    both = "  token_file: a\n  token_credential: b\n"
    assert "keep one of them" in mistakes(tmp_path, both)


def test_a_token_is_read_from_where_it_is_said_to_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "token"
    config = DashboardConfig(token_file=file)
    with pytest.raises(ConfigError, match=r"dashboard\.token_file: .* can't be read"):
        config.read_token()
    file.write_text("short\n")
    with pytest.raises(ConfigError, match="fewer than 16 characters"):
        config.read_token()
    file.write_text("0123456789abcdef\nwhatever\n")
    token = config.read_token()
    assert token is not None
    assert token.get_secret_value() == "0123456789abcdef"
    credential = DashboardConfig(token_credential="token")
    with pytest.raises(ConfigError, match="use token_file"):
        credential.read_token()
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
    assert credential.read_token() == token


@pytest.fixture
def dresden(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("TZ", "Europe/Berlin")
    clock.tzset()
    yield
    monkeypatch.undo()
    clock.tzset()


@pytest.mark.usefixtures("dresden")
@pytest.mark.parametrize(
    ("now", "began"),
    [
        ("2030-01-07T12:00", "2030-01-07T05:00"),  # 13:00 there: since 06:00
        ("2030-01-07T13:00", "2030-01-07T13:00"),
        ("2030-01-07T04:59", "2030-01-06T21:00"),
        ("2030-07-07T12:00", "2030-07-07T12:00"),  # in summer 14:00 is 12:00
        ("2030-03-31T01:30", "2030-03-30T21:00"),  # the night in which the clocks go forward
    ],
)
def test_a_shift_begins_by_the_clock_on_the_wall(now: str, began: str) -> None:
    starts = (time(6), time(14), time(22))
    at = datetime.fromisoformat(now).replace(tzinfo=timezone.utc)
    assert shift_start(at, starts) == datetime.fromisoformat(began).replace(tzinfo=timezone.utc)


def test_without_shifts_the_last_eight_hours_count() -> None:
    now = utc_now()
    assert (now - shift_start(now, ())).total_seconds() == 8 * 3600
    counter = ShiftCounter(())
    counter.add(Outcome.FAIL, now)
    counts = counter.counts(now)
    assert (counts.outcomes["fail"], counts.outcomes["pass"], counts.shift) == (1, 0, False)
