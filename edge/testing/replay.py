"""A camera that shows what it was given."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from edge.camera.source import FrameSource, SourceHealth
from edge.clock import utc_now
from edge.errors import CameraLost, EdgeError
from edge.frame import Frame

__all__ = ["ReplayCamera"]

Step = Frame | EdgeError | Callable[[], None]
"""A frame to give, an error to raise, or something to do before the next one."""


class ReplayCamera(FrameSource):
    """A `FrameSource` over a list: gives its frames, raises its errors, calls its functions, and ends.

    Unlike a real camera it goes on where it was after `close` and `open`. With `restamp` a frame is given
    the time at which it is read, as if it had been captured then. `open_errors` are raised by the first
    calls of `open`, one each; a None among them lets that call succeed.
    """

    def __init__(
        self,
        steps: Iterable[Step],
        *,
        name: str = "replay",
        serial: str | None = "REPLAY-1",
        restamp: bool = False,
        open_errors: Iterable[EdgeError | None] = (),
    ) -> None:
        self._steps: Iterator[Step] = iter(steps)
        self._name = name
        self._serial = serial
        self._restamp = restamp
        self._open_errors = iter(open_errors)
        self._frames = 0
        self.is_open = False
        self.times_opened = 0

    @property
    def name(self) -> str:
        return self._name

    def open(self) -> None:
        error = next(self._open_errors, None)
        if error is not None:
            raise error
        self.is_open = True
        self.times_opened += 1

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        if not self.is_open:
            raise CameraLost(f"{self._name} is not open; call open() first")
        for step in self._steps:
            if isinstance(step, EdgeError):
                raise step
            if isinstance(step, Frame):
                self._frames += 1
                if self._restamp:
                    return replace(step, captured_ns=time.monotonic_ns(), captured_utc=utc_now())
                return step
            step()
        return None

    def close(self) -> None:
        self.is_open = False

    def health(self) -> SourceHealth:
        return SourceHealth(frames=self._frames, gaps=0, serial=self._serial)
