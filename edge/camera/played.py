"""What the process that plays a recording says to the one that reads it."""

from __future__ import annotations

from dataclasses import dataclass

from edge.camera.pairs import Pair
from edge.frame import Intrinsics

__all__ = ["Failed", "Message", "Opened"]


@dataclass(frozen=True, slots=True)
class Opened:
    """The first message of a recording that can be played."""

    serial: str | None
    intrinsics: Intrinsics


@dataclass(frozen=True, slots=True)
class Failed:
    """The last message where it can't be played, or not to its end."""

    reason: str


Message = Opened | Pair | Failed | None
"""What comes through the pipe: one `Opened`, then pairs, then None at the file's end; or a `Failed`."""
