"""Who wants to have the next frame, besides those who inspect it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field

from edge.frame import Frame

__all__ = ["FrameRequests"]


@dataclass(frozen=True, slots=True, eq=False)
class _Request:
    after_ns: int
    until_ns: int
    future: Future[Frame | None] = field(default_factory=Future)


class FrameRequests:
    """`ask` from any thread; the thread that reads the camera gives, and is held up by nothing."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: list[_Request] = []

    def ask(self, after_ns: int, timeout_s: float) -> Future[Frame | None]:
        """The first frame that arrives after `after_ns` (monotonic) and is not stale, or None."""
        request = _Request(after_ns, time.monotonic_ns() + round(timeout_s * 1e9))
        request.future.set_running_or_notify_cancel()
        with self._lock:
            self._waiting.append(request)
        return request.future

    def give(self, frame: Frame) -> None:
        """Here is one."""
        if not self._waiting or frame.stale is not None:
            return
        for request in self._take(lambda request: frame.captured_ns > request.after_ns):
            request.future.set_result(frame)

    def expire(self) -> None:
        """Tell those who have waited long enough."""
        if not self._waiting:
            return
        now_ns = time.monotonic_ns()
        for request in self._take(lambda request: now_ns > request.until_ns):
            request.future.set_result(None)

    def _take(self, chosen: Callable[[_Request], bool]) -> list[_Request]:
        with self._lock:
            taken = [request for request in self._waiting if chosen(request)]
            self._waiting = [request for request in self._waiting if request not in taken]
        return taken
