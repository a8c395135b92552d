"""Triggers that come from outside: somebody fires them, and the part under the camera then is inspected."""

from __future__ import annotations

import threading
import time
import uuid
from collections import deque
from concurrent.futures import Future
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import ClassVar

from edge.clock import utc_now
from edge.errors import TriggerRefused
from edge.messages import TriggerKind

__all__ = ["ByCommand", "EventTrigger", "Firing"]

_WAITING_MAX = 1000
"""Far more than a line can mean; a sender in a loop must not fill the memory."""


@dataclass(frozen=True, slots=True)
class Firing:
    """One time that somebody asked for an inspection: exactly one verdict answers it, with `id` as its id.

    `asked_ns` on the monotonic clock, `asked_utc` on the wall clock. `part_serial` and `request_id` are
    what the asker calls the part and the request. `lost` says what kept it from being heard in time, where
    the answer can only be an error. `taken` is done once it is on disk, and a verdict sure; it raises
    `OutboxError` where it could not be written, and `TriggerRefused` where it was not taken any more.
    """

    id: str
    asked_ns: int
    asked_utc: datetime
    part_serial: str | None = None
    request_id: str | None = None
    lost: str | None = None
    taken: Future[None] = field(default_factory=Future, compare=False)


class EventTrigger:
    """A trigger with a queue of firings: `fire` may be called from any thread, one thread takes.

    The first frame whose exposure began after the firing is inspected: one that arrived at least `lead_s`
    after it. Where none comes within `timeout_s`, the verdict is an error.
    """

    kind: ClassVar[TriggerKind]

    def __init__(self, *, timeout_s: float, lead_s: float) -> None:
        self.timeout_s = timeout_s
        self.lead_s = lead_s
        self._changed = threading.Condition()
        self._fired: deque[Firing] = deque()
        self._closed = True

    def open(self) -> None:
        """Begin to listen; raises `TriggerError` where that can't be."""
        with self._changed:
            self._closed = False

    def close(self) -> None:
        """Take no more firings; those of before can still be taken. Harmless when called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def fire(
        self,
        part_serial: str | None = None,
        request_id: str | None = None,
        *,
        asked_ns: int | None = None,
        lost: str | None = None,
    ) -> Firing:
        """Ask for an inspection, as of now if not of `asked_ns`; thread-safe.

        Raises `TriggerRefused` where the trigger is closed, or too many firings wait.
        """
        now_ns = time.monotonic_ns()
        asked_ns = now_ns if asked_ns is None else asked_ns
        firing = Firing(
            id=str(uuid.uuid4()),
            asked_ns=asked_ns,
            asked_utc=utc_now() - timedelta(microseconds=max(0, now_ns - asked_ns) // 1000),
            part_serial=part_serial,
            request_id=request_id,
            lost=lost,
        )
        with self._changed:
            if self._closed:
                raise TriggerRefused(
                    "the rig does not listen to this trigger: it starts, stops, or has switched recipe"
                )
            if len(self._fired) >= _WAITING_MAX:
                raise TriggerRefused(
                    f"{_WAITING_MAX} triggers wait already; trigger once per part, and wait for its verdict"
                )
            self._fired.append(firing)
            self._changed.notify_all()
        return firing

    def take(self, timeout_s: float = 0.0) -> list[Firing]:
        """What was fired since the last call, in its order; waits for the first, at most `timeout_s`.

        Raises `TriggerError` where it hears no more.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._fired) or self._closed, timeout_s)
            fired = list(self._fired)
            self._fired.clear()
        return fired


class ByCommand(EventTrigger):
    """Fired by a command over MQTT."""

    kind = TriggerKind.COMMAND
