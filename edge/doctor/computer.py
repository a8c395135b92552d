"""The computer itself: board, operating system, Python, edge-inspect; and memory and processors."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator

from edge.doctor.board import Board
from edge.doctor.machine import Machine
from edge.doctor.report import Details, Finding, error, note, ok, warning
from edge.version import __version__

__all__ = ["computer", "memory"]

_OLDEST_PYTHON, _NEWEST_PYTHON = (3, 10), (3, 12)
_WHEELS_ON_ARM = ((3, 10), (3, 12))  # of pyrealsense2 2.59.1
_PYTHON_OF = {6: (3, 10), 7: (3, 12)}
"""Ubuntu's Python under each JetPack: TensorRT's bindings are built for that one alone."""

_LITTLE_MEMORY_BYTES = 512 << 20


def computer(machine: Machine, board: Board) -> Iterator[Finding]:
    """Board, operating system, Python and edge-inspect."""
    yield _board(board)
    name = _os_name(machine)
    kernel = machine.text("/proc/sys/kernel/osrelease") or "unknown"
    yield ok(
        "platform",
        "system",
        f"{name}, Linux {kernel}, {machine.architecture}.",
        system=name,
        kernel=kernel,
        architecture=machine.architecture,
    )
    yield _python(machine, board)
    yield ok("platform", "edge_inspect", f"edge-inspect {__version__}.", version=__version__)


def _board(board: Board) -> Finding:
    model = board.model or "a computer without a device tree"
    if not board.is_jetson:
        return note(
            "platform",
            "board",
            f"Not a Jetson ({model}): no power modes, ONNX Runtime on the CPU.",
            model=board.model,
        )
    details: Details = {
        "model": board.model,
        "soc": board.soc,
        "l4t": board.l4t_name,
        "jetpack": board.jetpack,
    }
    if board.l4t is None:
        return warning(
            "platform",
            "board",
            f"{model}, but /etc/nv_tegra_release does not say which Jetson Linux it runs.",
            "Inside a container mount that file into it; else flash JetPack 6 or 7.",
            **details,
        )
    if board.jetpack is None:
        return warning(
            "platform",
            "board",
            f"{model} with Jetson Linux {board.l4t_name}, which this version does not know.",
            "Expect surprises, run `edge-doctor --selftest`, or use JetPack 6 or 7.",
            **details,
        )
    what = f"{model}, JetPack {board.jetpack} (Jetson Linux {board.l4t_name})."
    if board.jetpack < min(_PYTHON_OF):
        return error(
            "platform",
            "board",
            what + " Its Python and TensorRT are too old.",
            "Flash JetPack 6 or 7.",
            **details,
        )
    return ok("platform", "board", what, **details)


def _os_name(machine: Machine) -> str:
    found = re.search(r'^PRETTY_NAME="?([^"\n]+)', machine.text("/etc/os-release") or "", re.MULTILINE)
    return found[1] if found else "unknown system"


def _python(machine: Machine, board: Board) -> Finding:
    version = ".".join(map(str, machine.python))
    details: Details = {"version": version, "executable": sys.executable}
    if not _OLDEST_PYTHON <= machine.python <= _NEWEST_PYTHON:
        return error(
            "platform",
            "python",
            f"Python {version}; edge-inspect is tested with 3.10 to 3.12.",
            "Make the virtual environment with one of these.",
            **details,
        )
    if board.jetpack in _PYTHON_OF and machine.python != _PYTHON_OF[board.jetpack]:
        own = ".".join(map(str, _PYTHON_OF[board.jetpack]))
        return warning(
            "platform",
            "python",
            f"Python {version}; JetPack {board.jetpack} brings {own}, and TensorRT for that one alone.",
            f"Make the virtual environment with /usr/bin/python{own} -m venv --system-site-packages.",
            **details,
        )
    if machine.architecture == "aarch64" and machine.python not in _WHEELS_ON_ARM:
        return warning(
            "platform",
            "python",
            f"Python {version}; on aarch64 librealsense comes for 3.10 and 3.12 alone.",
            "Use one of these, or build pyrealsense2 from source.",
            **details,
        )
    return ok("platform", "python", f"Python {version}.", **details)


def memory(machine: Machine) -> Iterator[Finding]:
    """Memory, and how many processors run."""
    yield _memory(machine)
    yield _processors(machine)


def _memory(machine: Machine) -> Finding:
    text = machine.text("/proc/meminfo") or ""
    found = {name: int(kb) * 1024 for name, kb in re.findall(r"^(\w+):\s+(\d+) kB", text, re.MULTILINE)}
    total, available = found.get("MemTotal"), found.get("MemAvailable")
    if total is None or available is None:
        return note("memory", "memory", "/proc/meminfo does not say how much memory there is.")
    swap = found.get("SwapTotal", 0)
    details: Details = {"total_bytes": total, "available_bytes": available, "swap_bytes": swap}
    what = f"{_gib(available)} of {_gib(total)} GiB memory are free, swap {_gib(swap)} GiB."
    if available < _LITTLE_MEMORY_BYTES:
        return warning(
            "memory",
            "memory",
            what + " The kernel may soon end a process.",
            "Add swap, or do without a desktop: sudo systemctl set-default multi-user.target.",
            **details,
        )
    return ok("memory", "memory", what, **details)


def _gib(size: int) -> str:
    return f"{size / 2**30:.1f}"


def _processors(machine: Machine) -> Finding:
    online = _count(machine.text("/sys/devices/system/cpu/online"))
    present = _count(machine.text("/sys/devices/system/cpu/present"))
    if online is None:
        return note("memory", "processors", "/sys does not say how many processors there are.")
    details: Details = {"online": online, "present": present}
    if present is not None and online < present:
        return note(
            "memory",
            "processors",
            f"{online} of {present} processors run.",
            "A power mode switches some off; see the power mode below.",
            **details,
        )
    return ok("memory", "processors", f"{online} processors.", **details)


def _count(ranges: str | None) -> int | None:
    """How many numbers "0-3,6" holds."""
    if not ranges or not re.fullmatch(r"\d+(-\d+)?(,\d+(-\d+)?)*", ranges):
        return None
    pairs = [part.partition("-") for part in ranges.split(",")]
    return sum(int(last or first) - int(first) + 1 for first, _, last in pairs)
