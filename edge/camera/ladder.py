"""What is tried next with a camera that does not deliver: close, wait, perhaps reset, open, see a frame."""

from __future__ import annotations

from enum import Enum

from edge.backoff import Backoff
from edge.errors import EdgeError

__all__ = ["SETTLED_S", "Ladder", "Step"]

SETTLED_S = 10.0
"""A camera that delivers for so long is well: what it took before no longer counts against it."""


class Step(Enum):
    """What is to be done with the source."""

    CLOSE = "close"
    RESET = "reset"
    OPEN = "open"
    READ = "read"


class Ladder:
    """Remembers how often it was tried, and says what is next, and when. It knows no clock: `now_s` is given.

    A camera is up when a fresh frame has come, not when it could be opened. One that comes and goes climbs
    on, as long as it does not stay for `SETTLED_S`; one that never comes is tried for ever.
    """

    def __init__(self, backoff: Backoff, *, reset_after: int | None, reset_wait_s: float) -> None:
        self._backoff = backoff
        self._reset_after = reset_after
        self._reset_wait_s = reset_wait_s
        self.step = Step.OPEN
        self.due_s = 0.0
        self.attempt = 0
        self.opened_s = self.fresh_s = 0.0
        self.proven = False
        self.cause: EdgeError | None = None
        self.down_since_s: float | None = None
        self.reopened = self.attempts = self.resets = 0

    def begin(self) -> None:
        """It is opened for the first time, or after it was closed on purpose."""
        self.step, self.due_s, self.attempt, self.down_since_s = Step.OPEN, 0.0, 0, None

    def failed(self, error: EdgeError, now_s: float) -> bool:
        """It does not deliver, or could not be opened; whether that is news."""
        self.cause = error.with_traceback(None)  # a traceback would hold frames for as long as it is away
        first = self.down_since_s is None
        if first:
            self.down_since_s = now_s
        else:
            self.attempts += 1
        self.attempt += 1
        self.step, self.due_s = Step.CLOSE, now_s
        return first

    def closed(self, now_s: float, draw: float) -> None:
        """It is closed; `draw` in [0, 1) is the chance in how long to wait."""
        in_vain = self.attempt - 1
        to_reset = self._reset_after is not None and in_vain > 0 and in_vain % self._reset_after == 0
        self.step = Step.RESET if to_reset else Step.OPEN
        self.due_s = now_s + self._backoff.delay_s(in_vain, draw)

    def was_reset(self, done: bool, now_s: float) -> None:
        """Its hardware was reset, or has no way to be."""
        self.step = Step.OPEN
        if done:
            self.resets += 1
            self.due_s = now_s + self._reset_wait_s

    def opened(self, now_s: float) -> None:
        """It could be opened, and has to show a fresh frame now."""
        self.step, self.opened_s, self.fresh_s, self.proven = Step.READ, now_s, now_s, False

    def fresh(self, now_s: float) -> float | None:
        """A fresh frame came; how long it was away, None where it was not."""
        self.fresh_s, self.proven = now_s, True
        down_since_s, self.down_since_s = self.down_since_s, None
        if now_s - self.opened_s >= SETTLED_S:
            self.attempt = 0
        if down_since_s is None:
            return None
        self.reopened += 1
        self.attempts += 1
        return now_s - down_since_s
