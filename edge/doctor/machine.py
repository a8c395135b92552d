"""The machine that is looked at: its files below a root, its programs, its clock. Tests show another one."""

from __future__ import annotations

import glob
import os
import platform
import re
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from edge.clock import clock_synced, utc_now

__all__ = ["Answer", "DiskSpace", "Machine", "Run", "disk_space", "run_program"]

_LARGEST_FILE_BYTES = 1 << 20
_FORMAT_LIMIT = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What a program said; `problem` instead of an exit code where it was not there or did not end."""

    code: int | None
    out: str = ""
    err: str = ""
    problem: str | None = None

    @property
    def succeeded(self) -> bool:
        return self.code == 0

    @property
    def reason(self) -> str:
        """Why there is no good answer, in a few words."""
        if self.problem is not None:
            return self.problem
        if self.code is not None and self.code < 0:
            return f"it was ended by signal {-self.code}"
        said = (self.err.strip() or self.out.strip()).splitlines()
        return (said[-1] if said else f"exit code {self.code}")[:_FORMAT_LIMIT]


Run = Callable[[Sequence[str], float], Answer]
"""Runs a command for at most so many seconds."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Of the file system that holds a path; `free_bytes` is what a user who is not root may fill."""

    total_bytes: int
    free_bytes: int
    free_files: int | None
    read_only: bool


def run_program(command: Sequence[str], timeout_s: float) -> Answer:
    """Run a program in the C locale; it gets no terminal and no input."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=timeout_s,
            check=False,
            env=environment,
        )
    except subprocess.TimeoutExpired:
        return Answer(None, problem=f"it did not end within {timeout_s:g} s")
    except FileNotFoundError:
        return Answer(None, problem="it is not installed")
    except OSError as error:
        return Answer(None, problem=f"it can't be started ({error.strerror})")
    return Answer(done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def disk_space(path: Path) -> DiskSpace:
    """Raises `OSError`."""
    found = os.statvfs(path)
    return DiskSpace(
        total_bytes=found.f_blocks * found.f_frsize,
        free_bytes=found.f_bavail * found.f_frsize,
        # btrfs and some network file systems count no files: both numbers are then 0.
        free_files=found.f_favail if found.f_files else None,
        read_only=bool(found.f_flag & os.ST_RDONLY),
    )


def _python() -> tuple[int, int]:
    major, minor = platform.python_version_tuple()[:2]
    return int(major), int(minor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine. All paths are those that it has itself ("/etc/…"), wherever its root lies here."""

    root: Path = Path("/")
    run: Run = run_program
    now: Callable[[], datetime] = utc_now
    clock_synced: Callable[[], bool | None] = clock_synced
    monotonic_ns: Callable[[], int] = time.monotonic_ns
    disk_space: Callable[[Path], DiskSpace] = disk_space
    architecture: str = field(default_factory=platform.machine)
    python: tuple[int, int] = field(default_factory=_python)
    environment: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))

    def path(self, name: str | Path) -> Path:
        """Where the file of that absolute name lies."""
        return self.root / str(name).lstrip("/")

    def text(self, name: str | Path) -> str | None:
        """What a file says, without the spaces and NULs at its ends; None where it can't be read."""
        try:
            with self.path(name).open("rb") as file:
                return file.read(_LARGEST_FILE_BYTES).decode(errors="replace").strip("\0 \t\n\r")
        except OSError:
            return None

    def number(self, name: str | Path) -> int | None:
        """The whole number in a file; None where there is none."""
        try:
            return int(self.text(name) or "")
        except ValueError:
            return None

    def names(self, pattern: str) -> tuple[str, ...]:
        """The absolute names that match a shell pattern, device 2 before device 10."""
        # pathlib's own raises for what vanishes or can't be read under /sys; this passes over it.
        found = glob.glob(pattern.lstrip("/"), root_dir=self.root)  # noqa: PTH207
        return tuple(f"/{name}" for name in sorted(found, key=_by_number))


def _by_number(name: str) -> tuple[tuple[int, str], ...]:
    return tuple((int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name))
