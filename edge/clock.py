"""What this machine knows of time: which boot, which start of the daemon, and whether the clock is right."""

from __future__ import annotations

import ctypes
import logging
import os
import time
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from edge.disk import is_no_space
from edge.errors import ConfigError
from edge.sealed import write_atomically
from edge.version import __version__

__all__ = ["Session", "boot_id", "clock_synced", "new_session", "next_epoch", "utc_now"]

_log = logging.getLogger(__name__)

_TIME_ERROR = 5
_TIMEX_BYTES = 512  # struct timex is 208 on 64-bit Linux; a `modes` of zero only reads


def utc_now() -> datetime:
    """The wall clock, in UTC."""
    return datetime.now(timezone.utc)


def boot_id() -> str:
    """The kernel's id of this boot: monotonic times compare only within one."""
    return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()


def clock_synced() -> bool | None:
    """Whether the kernel holds its clock synchronised (adjtimex(2)); None where it does not say."""
    libc = ctypes.CDLL(None, use_errno=True)
    state: int = libc.adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    if state < 0:
        return None
    return state != _TIME_ERROR


def next_epoch(state_dir: Path | None) -> int:
    """A number that grows with each start of the daemon: UTC milliseconds, and more than the last one.

    The clock alone would go back where a device boots before it knows the time; a counter alone would
    begin anew where its file is lost. Without `state_dir` only the clock is there. Raises `ConfigError`
    where the folder can't be written.
    """
    now_ms = time.time_ns() // 1_000_000
    if state_dir is None:
        return now_ms
    path = state_dir / "epoch"
    last = 0
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        last = int(path.read_text(encoding="ascii"))
    except FileNotFoundError:
        _log.info("%s: first start with this state folder", path)
    except ValueError:
        _log.warning("%s: is damaged; the epoch comes from the clock alone this time", path)
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be read ({error.strerror}); mend the rights of daemon.state_dir"
        ) from error
    epoch = max(now_ms, last + 1)
    try:
        _write_epoch(path, f"{epoch}\n".encode())
    except OSError as error:
        raise ConfigError(
            f"{path}: can't be written ({error.strerror}); mend daemon.state_dir or free some space"
        ) from error
    return epoch


def _write_epoch(path: Path, text: bytes) -> None:
    """Whole or not at all; where the disk is full in the place of the last one, which takes no room.

    A full disk must not keep a rig from starting: the outbox holds room for that.
    """
    try:
        write_atomically(path, text)
    except OSError as error:
        if not (is_no_space(error) and path.exists() and path.stat().st_size == len(text)):
            raise
        _log.warning("%s: the disk is full; it is written over, and lost if the power fails now", path)
        with path.open("r+b") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())


@dataclass(frozen=True, slots=True)
class Session:
    """Which start of which software speaks, and on which boot of the machine."""

    epoch: int
    boot_id: str
    software_version: str


def new_session(state_dir: Path | None) -> Session:
    """The session of a daemon that starts now; raises `ConfigError` where `state_dir` can't be written."""
    return Session(epoch=next_epoch(state_dir), boot_id=boot_id(), software_version=__version__)
