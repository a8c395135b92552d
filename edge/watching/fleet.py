"""All rigs at a broker, told apart by their roots."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from datetime import datetime

from edge.clock import utc_now
from edge.errors import ConfigError
from edge.inbox import Incoming
from edge.watching.report import RigRow
from edge.watching.rig_view import READ, RigView

__all__ = ["Fleet", "topics_below"]

_LEVELS = 5  # enterprise, site, area, line, cell
_RIGS_MAX = 1000


def topics_below(place: str) -> tuple[str, ...]:
    """The topics to subscribe to for the rigs at `place`: `acme/dresden/#`, `+/+/+/line-3`, or `#` for all.

    Raises `ConfigError` for what is no place of rigs.
    """
    levels = place.strip("/").split("/")
    if levels[-1] == "#":
        levels.pop()
    if len(levels) == _LEVELS + 1 and levels[-1] == "inspection":
        levels.pop()
    if len(levels) > _LEVELS or any(not re.fullmatch(r"\+|[^+#\x00]+", level) for level in levels):
        raise ConfigError(
            f"--root {place!r}: must be up to five levels, each a name or +, as in acme/dresden/# "
            "(enterprise, site, area, line, cell)"
        )
    root = "/".join([*levels, *["+"] * (_LEVELS - len(levels)), "inspection"])
    return tuple(f"{root}/{ending}" for ending in READ)


class Fleet:
    """Hears messages from one thread, and gives rows to any; has room for a thousand rigs."""

    def __init__(self, now: Callable[[], datetime] = utc_now) -> None:
        self._now = now
        self._lock = threading.Lock()
        self._rigs: dict[str, RigView] = {}
        self._left_out: set[str] = set()

    def hear(self, message: Incoming) -> str | None:
        """A message came; gives the root of the rig whose row it may have changed."""
        levels = message.topic.split("/")
        root, ending = "/".join(levels[: _LEVELS + 1]), "/".join(levels[_LEVELS + 1 :])
        if ending not in READ or levels[_LEVELS] != "inspection":
            return None
        with self._lock:
            rig = self._rigs.get(root)
            if rig is None:
                if len(self._rigs) >= _RIGS_MAX:
                    if len(self._left_out) < _RIGS_MAX:
                        self._left_out.add(root)
                    return None
                rig = self._rigs[root] = RigView(root)
            rig.hear(ending, message, self._now())
        return root

    def rows(self, now_s: float) -> tuple[RigRow, ...]:
        """All rigs as they are at `now_s` (monotonic), by their roots."""
        with self._lock:
            return tuple(self._rigs[root].row(now_s) for root in sorted(self._rigs))

    @property
    def left_out(self) -> int:
        """How many rigs there are beyond those that there is room for; at most as many are counted."""
        with self._lock:
            return len(self._left_out)
