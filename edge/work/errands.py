"""What others want of the outbox: done on the thread that owns it, between two verdicts."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

from edge.errors import OutboxBusy, OutboxError
from edge.outbox import Outbox

__all__ = ["Errands"]

_WAITING_MAX = 8

_T = TypeVar("_T")


class Errands:
    """At most eight wait; `ask` from any thread, `do_one` on the outbox's own.

    One is done at a time, so that a verdict never waits for more than one; `nudge` has the owner look.
    """

    def __init__(self, nudge: Callable[[], None]) -> None:
        self._nudge = nudge
        self._lock = threading.Lock()
        self._waiting: deque[tuple[Callable[[Outbox], Any], Future[Any]]] = deque()

    def ask(self, errand: Callable[[Outbox], _T]) -> Future[_T]:
        """What `errand` gives, or the `OutboxError` that it raises; `OutboxBusy` where too many wait."""
        future: Future[_T] = Future()
        future.set_running_or_notify_cancel()
        with self._lock:
            full = len(self._waiting) >= _WAITING_MAX
            if not full:
                self._waiting.append((errand, future))
        if full:
            text = f"{_WAITING_MAX} requests wait for the outbox already; wait for their answers"
            future.set_exception(OutboxBusy(text))
        else:
            self._nudge()
        return future

    def do_one(self, outbox: Outbox) -> bool:
        """Whether there was one to do."""
        with self._lock:
            if not self._waiting:
                return False
            errand, future = self._waiting.popleft()
        try:
            came = errand(outbox)
        except OutboxError as error:
            future.set_exception(error)
        else:
            future.set_result(came)
        self._nudge()
        return True
