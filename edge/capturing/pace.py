"""When the next frame is taken: when somebody asks, at intervals, or when a part has come to rest."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

from edge.errors import DepthUnusable
from edge.frame import Frame
from edge.preprocessing import ForegroundConfig
from edge.trigger import PartPresent
from edge.trigger_config import PartPresentTrigger

__all__ = ["AtIntervals", "OnDemand", "Pace", "PartsAtRest"]

_LEAD_S = 0.1
"""How long before its arrival a live frame's exposure may have begun; as a trigger's `lead_ms`."""


class Pace(ABC):
    """Asked once for each frame that is not stale, in order."""

    tries = 1
    """How many frames in a row may be tried where something speaks against the first."""

    @abstractmethod
    def due(self, frame: Frame) -> bool:
        """Whether this frame is to be taken."""


class OnDemand(Pace):
    """The first frame that was exposed wholly after `ask`, so that it does not show the hand that pressed.

    Of a source that is not `live` the frame at hand is taken by who asks, and none here.
    """

    def __init__(self, *, live: bool) -> None:
        self._live = live
        self._asked_ns: int | None = None
        self._waiting = 0

    @property
    def asked(self) -> bool:
        return self._asked_ns is not None

    def ask(self) -> None:
        """Somebody wants a frame, as of now."""
        if self._live:
            self._asked_ns, self._waiting = time.monotonic_ns(), 1

    def due(self, frame: Frame) -> bool:
        if self._asked_ns is None:
            return False
        if self._waiting:  # it lay in the camera's queue, and its arrival is when it was fetched
            self._waiting -= 1
            return False
        if frame.captured_ns < self._asked_ns + round(_LEAD_S * 1e9):
            return False
        self._asked_ns = None
        return True


class AtIntervals(Pace):
    """The first frame in each `every_s`; 0 takes each frame."""

    def __init__(self, every_s: float, clock_s: Callable[[], float] = time.monotonic) -> None:
        self._every_s = every_s
        self._clock_s = clock_s
        self._next_s: float | None = None

    def due(self, frame: Frame) -> bool:
        now_s = self._clock_s()
        if self._next_s is not None and now_s < self._next_s:
            return False
        self._next_s = now_s + self._every_s
        return True


class PartsAtRest(Pace):
    """One frame per part laid down: the first once it lies still, or one of the next four."""

    tries = 5

    def __init__(self, config: PartPresentTrigger, foreground: ForegroundConfig) -> None:
        self._trigger = PartPresent(config, foreground)

    def due(self, frame: Frame) -> bool:
        try:
            return self._trigger.due(frame)
        except DepthUnusable:  # the frame's own worries say so
            return False
