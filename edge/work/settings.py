"""How patient the daemon is, and how much may wait in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

__all__ = ["DaemonSettings"]


@dataclass(frozen=True, slots=True)
class DaemonSettings:
    """How patient the daemon is; seconds. `disk` is the file system whose free space health tells.

    `live`: frames come whether they are read or not, so one that can't be taken in time is passed over, or
    where it was triggered gets an error; else the source waits. `queue`: how many triggered parts may wait
    for the model. `stop_timeout_s`: how long the part in hand may take once the daemon is to stop.
    """

    frame_timeout_s: float = 5.0
    max_frame_age_s: float = 2.0
    flush_timeout_s: float = 1.0
    hang_timeout_s: float = 30.0
    stop_timeout_s: float = 3.0
    health_interval_s: float = 5.0
    first_backoff_s: float = 0.5
    last_backoff_s: float = 30.0
    live: bool = False
    queue: int = 4
    disk: Path = Path("/")
