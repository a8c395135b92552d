"""What happens to a camera that is looked after: told as it happens, for whoever publishes it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

__all__ = ["CameraEvent", "CameraEventKind"]


class CameraEventKind(str, Enum):
    """`down`: it delivers no more, and is being opened again. `reset`: its hardware was reset, or could
    not be. `attempt_failed`: it was opened again in vain. `up`: it delivers again. `replaced`: it is
    another camera now, and that is allowed. `close_failed`: it could not be closed in good order.
    """

    DOWN = "down"
    RESET = "reset"
    ATTEMPT_FAILED = "attempt_failed"
    UP = "up"
    REPLACED = "replaced"
    CLOSE_FAILED = "close_failed"


@dataclass(frozen=True, slots=True)
class CameraEvent:
    """One thing that happened to a camera.

    `reason` is one stable word (`camera_stalled`, `camera_lost`, `camera_option_refused`, …) and `detail` a
    sentence for people: why it is down, why the attempt failed, or what it came back from. `attempt` counts
    the attempts to open it since it was last well (one that comes and goes is not). `duration_s`: how long
    the attempt took (`reset`, `attempt_failed`, `close_failed`), or how long the camera was away (`up`,
    `replaced`); 0 for `down`. `at_ns` is the monotonic clock.
    """

    kind: CameraEventKind
    at_ns: int
    at_utc: datetime
    source: str
    reason: str
    detail: str
    attempt: int
    duration_s: float
