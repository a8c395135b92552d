"""How long to wait before the next attempt: ever longer up to a limit, and never quite the same."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Backoff"]

_DOUBLINGS_MAX = 64
"""After weeks of attempts 2**attempt no longer fits a float; far sooner it is the limit that counts."""


@dataclass(frozen=True, slots=True)
class Backoff:
    """Waits that double from `first_s` to `last_s`, each drawn from the upper half of what it may be.

    Jitter keeps what lost its power, or its broker, together from coming back in step.
    """

    first_s: float
    last_s: float

    def ceiling_s(self, attempt: int) -> float:
        """The longest wait before attempt number `attempt`, counted from 0."""
        return min(self.last_s, self.first_s * 2.0 ** min(attempt, _DOUBLINGS_MAX))

    def delay_s(self, attempt: int, draw: float) -> float:
        """The wait before attempt number `attempt`; `draw` in [0, 1) is the chance in it."""
        return self.ceiling_s(attempt) * (1.0 + draw) / 2.0
