"""Power mode, clocks, heat, and whether the machine is held back by any of them.

Sources: the Jetson Linux Developer Guide, "Platform Power and Performance" (power modes, thermal zones,
`oc*_event_cnt`), and the kernel's sysfs-api for thermal zones and cooling devices.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import PurePosixPath

from edge.doctor.board import Board
from edge.doctor.machine import Machine
from edge.doctor.report import Details, Finding, note, ok, warning

__all__ = ["power"]

_TIMEOUT_S = 10.0
_HOT_SHARE = 0.95
"""From this share of its critical temperature (°C) on a zone is called hot."""

_MODE = re.compile(r"NV Power Mode:[ \t]*(\S+)[ \t]*(?:\r?\n[ \t]*(\d+))?")
_MODEL = re.compile(r"<\s*POWER_MODEL\s+ID=(\d+)\s+NAME=(\S+?)\s*>")
_FANS = ("fan", "Fan")
_CPU = "/sys/devices/system/cpu/cpu0/cpufreq"


def power(machine: Machine, board: Board) -> Iterator[Finding]:
    """Power mode and clocks where there are such, temperatures, and what throttles."""
    if board.is_jetson:
        yield _mode(machine)
        yield _clocks(machine)
        over_current = _over_current(machine)
        if over_current is not None:
            yield over_current
    yield _temperature(machine)
    yield _throttling(machine)


def _mode(machine: Machine) -> Finding:
    answer = machine.run(("nvpmodel", "-q"), _TIMEOUT_S)
    found = _MODE.search(answer.out)
    if found is None:
        return note(
            "power",
            "mode",
            f"The power mode is not known: nvpmodel -q: {answer.reason}.",
            "Run `sudo nvpmodel -q`.",
        )
    modes = dict(_MODEL.findall(machine.text("/etc/nvpmodel.conf") or ""))
    strongest = [number for number, name in modes.items() if name.startswith("MAXN")]
    name, number = found[1], found[2]
    details: Details = {"mode": name, "id": number, "modes": tuple(modes.values())}
    if strongest and number is not None and number not in strongest:
        best = strongest[-1]
        return note(
            "power",
            "mode",
            f"Power mode {name}; {modes[best]} is faster.",
            f"If supply and cooling carry it: sudo nvpmodel -m {best}.",
            **details,
        )
    return ok("power", "mode", f"Power mode {name}.", **details)


def _clocks(machine: Machine) -> Finding:
    low, high = (machine.number(f"{_CPU}/scaling_{end}_freq") for end in ("min", "max"))
    governor = machine.text(f"{_CPU}/scaling_governor")
    if low is None or high is None:
        return note("power", "clocks", "/sys does not say how fast the processors may run.")
    details: Details = {"min_khz": low, "max_khz": high, "governor": governor}
    if low == high:
        return ok(
            "power", "clocks", f"The clocks are held at {high / 1e6:.2f} GHz (jetson_clocks).", **details
        )
    return note(
        "power",
        "clocks",
        f"The clocks go up and down with the load, {low / 1e6:.2f} to {high / 1e6:.2f} GHz: the first parts "
        "after a pause take longer.",
        "For steady times: sudo jetson_clocks, and have it run at boot.",
        **details,
    )


def _over_current(machine: Machine) -> Finding | None:
    counts = {
        PurePosixPath(name).name.partition("_")[0]: machine.number(name)
        for name in machine.names("/sys/class/hwmon/hwmon*/oc*_event_cnt")
    }
    known = {name: count for name, count in counts.items() if count is not None}
    if not known:
        return None
    if not any(known.values()):
        return ok("power", "supply", "No under-voltage and no over-current since the boot.", **known)
    said = ", ".join(f"{name} {count}" for name, count in known.items() if count)
    return warning(
        "power",
        "supply",
        f"The board throttled itself for under-voltage or over-current since the boot: {said} events.",
        "Use the supply that NVIDIA names for this board, a short cable, or a smaller power mode.",
        **known,
    )


def _temperature(machine: Machine) -> Finding:
    hottest: tuple[float, str, float | None] | None = None
    for zone in machine.names("/sys/class/thermal/thermal_zone*"):
        # A Jetson's zones of units that are switched off answer with an error, or with -256 °C.
        reading = machine.number(f"{zone}/temp")
        if reading is None or reading <= -200_000:
            continue
        celsius = reading / 1000
        if hottest is None or celsius > hottest[0]:
            name = machine.text(f"{zone}/type") or zone
            hottest = (celsius, name, _critical_c(machine, zone))
    if hottest is None:
        return note("power", "temperature", "No thermal zone can be read (as on a virtual machine).")
    celsius, name, critical = hottest
    details: Details = {"zone": name, "celsius": celsius, "critical_celsius": critical}
    what = f"The hottest zone, {name}, has {celsius:.0f} °C" + (
        f"; at {critical:g} °C the board switches off." if critical is not None else "."
    )
    if critical is not None and celsius >= _HOT_SHARE * critical:
        return warning(
            "power",
            "temperature",
            what,
            "Check fan and heat sink, let air to the box, or use a smaller power mode.",
            **details,
        )
    return ok("power", "temperature", what, **details)


def _critical_c(machine: Machine, zone: str) -> float | None:
    for kind in machine.names(f"{zone}/trip_point_*_type"):
        if machine.text(kind) == "critical":
            critical = machine.number(kind.removesuffix("type") + "temp")
            return None if critical is None or critical <= 0 else critical / 1000
    return None


def _throttling(machine: Machine) -> Finding:
    """A cooling device that is on and is no fan holds something back."""
    held = []
    devices = machine.names("/sys/class/thermal/cooling_device*")
    for device in devices:
        kind, state = machine.text(f"{device}/type") or device, machine.number(f"{device}/cur_state")
        if state and state > 0 and not any(word in kind for word in _FANS):
            held.append(f"{kind} at {state} of {machine.number(f'{device}/max_state')}")
    if not devices:
        return note("power", "throttling", "No cooling device can be read, so throttling can't be seen.")
    if held:
        return warning(
            "power",
            "throttling",
            f"Heat holds the machine back now: {', '.join(held)}.",
            "Check fan and heat sink, let air to the box, or use a smaller power mode.",
            devices=tuple(held),
        )
    return ok("power", "throttling", "Nothing is throttled now.")
