"""The clock: is it right, who keeps it, and does it go forward."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone

from edge.doctor.machine import Machine
from edge.doctor.report import Details, Finding, error, note, ok, warning

__all__ = ["clock"]

_TIMEOUT_S = 10.0
_EARLIEST = datetime(2026, 1, 1, tzinfo=timezone.utc)  # this software is younger
_LATEST = datetime(2100, 1, 1, tzinfo=timezone.utc)
_REMEDY = (
    "Let systemd-timesyncd or chrony reach a time server (`timedatectl set-ntp true`), in a cell without "
    "internet one of its own, and give the board's clock a battery."
)


def clock(machine: Machine, known_utc: Sequence[datetime]) -> Iterator[Finding]:
    """`known_utc` are times that have certainly passed: when the model was made, when it was calibrated."""
    yield _date(machine, known_utc)
    yield _synchronised(machine)
    yield _monotonic(machine)


def _date(machine: Machine, known_utc: Sequence[datetime]) -> Finding:
    now = machine.now()
    earliest = max([_EARLIEST, *known_utc])
    said = f"{now:%Y-%m-%d %H:%M:%S} UTC"
    details: Details = {"utc": now.isoformat()}
    if not earliest <= now < _LATEST:
        why = f"; it must be later than {earliest:%Y-%m-%d %H:%M} UTC" if now < earliest else ""
        return error(
            "clock",
            "date",
            f"The clock says {said}, which can't be{why}.",
            f"{_REMEDY} TLS certificates are refused until then.",
            **details,
        )
    return ok("clock", "date", f"The clock says {said}.", **details)


def _synchronised(machine: Machine) -> Finding:
    synced = machine.clock_synced()
    answer = machine.run(("timedatectl", "show"), _TIMEOUT_S)
    said = dict(re.findall(r"^(\w+)=(.*)$", answer.out, re.MULTILINE)) if answer.succeeded else {}
    details: Details = {
        "kernel": synced,
        "ntp": said.get("NTP"),
        "ntp_synchronized": said.get("NTPSynchronized"),
        "timezone": said.get("Timezone"),
    }
    if synced is None and not said:
        return note(
            "clock",
            "synchronised",
            "Neither the kernel nor timedatectl says whether the clock is kept.",
            _REMEDY,
            **details,
        )
    if synced or said.get("NTPSynchronized") == "yes":
        return ok("clock", "synchronised", "The clock is synchronised.", **details)
    off = "; its service is off" if said.get("NTP") == "no" else ""
    return warning(
        "clock",
        "synchronised",
        f"The clock is not synchronised{off}: it drifts, and verdicts with it.",
        _REMEDY,
        **details,
    )


def _monotonic(machine: Machine) -> Finding:
    first, second = machine.monotonic_ns(), machine.monotonic_ns()
    source = machine.text("/sys/devices/system/clocksource/clocksource0/current_clocksource") or "unknown"
    details: Details = {"clocksource": source, "uptime_s": first / 1e9}
    if second < first:
        return error(
            "clock",
            "monotonic",
            "The monotonic clock went backwards: ages of frames are wrong.",
            "Update kernel and firmware, or choose another clocksource.",
            **details,
        )
    hours = first / 3.6e12
    return ok(
        "clock",
        "monotonic",
        f"The monotonic clock goes forward ({source}), {hours:.1f} h since the boot.",
        **details,
    )
