"""The systemd service that runs the daemon: is it there, does it run, how often did it start again."""

from __future__ import annotations

import re
from collections.abc import Iterator

from edge.doctor.machine import Machine
from edge.doctor.report import Details, Finding, error, note, ok, warning

__all__ = ["service", "service_user"]

_TIMEOUT_S = 10.0
_PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "NRestarts", "User", "UnitFileState")


def service(machine: Machine, unit: str) -> Iterator[Finding]:
    """The state of the unit; a note where there is no systemd, or no such unit."""
    found = _properties(machine, unit)
    if isinstance(found, str):
        yield note("service", "systemd", f"systemd can't be asked: {found}.")
        return
    if found.get("LoadState") != "loaded":
        yield note(
            "service",
            "unit",
            f"There is no unit {unit} ({found.get('LoadState', 'unknown')}).",
            "To run the daemon from boot on, give it a unit; another name: --unit NAME.",
        )
        return
    state = f"{unit} is {found.get('ActiveState')} ({found.get('SubState')})"
    restarts = int(found["NRestarts"]) if found.get("NRestarts", "").isdigit() else 0
    details: Details = {name: found.get(name) for name in _PROPERTIES}
    log = f"journalctl -u {unit} -b -e"
    if found.get("ActiveState") == "failed":
        yield error(
            "service", "unit", f"{state}, result {found.get('Result')}.", f"{log} says why.", **details
        )
    elif found.get("ActiveState") != "active":
        yield warning(
            "service", "unit", f"{state}.", f"sudo systemctl enable --now {unit}; {log} says more.", **details
        )
    elif restarts:
        yield warning(
            "service",
            "unit",
            f"{state}, and was started again {restarts} times since the boot.",
            f"{log} says why.",
            **details,
        )
    else:
        yield ok("service", "unit", f"{state}.", **details)
    if found.get("UnitFileState") == "disabled":
        yield warning(
            "service",
            "enabled",
            f"{unit} is not enabled: it won't start at boot.",
            f"sudo systemctl enable {unit}.",
        )


def service_user(machine: Machine, unit: str) -> str | None:
    """The user that the unit runs as; None where there is no such unit, or it names none (root)."""
    found = _properties(machine, unit)
    if isinstance(found, str) or found.get("LoadState") != "loaded":
        return None
    return found.get("User") or None


def _properties(machine: Machine, unit: str) -> dict[str, str] | str:
    answer = machine.run(("systemctl", "show", unit, f"--property={','.join(_PROPERTIES)}"), _TIMEOUT_S)
    if not answer.succeeded:
        return answer.reason
    return dict(re.findall(r"^(\w+)=(.*)$", answer.out, re.MULTILINE))
