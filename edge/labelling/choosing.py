"""Of which parts the frame is kept: whatever the line does, the disk is not worn out by it."""

from __future__ import annotations

import time
from collections.abc import Callable

from edge.inspection import JUDGED, Outcome
from edge.labelling.config import CapturesConfig
from edge.messages import FREE_RUNNING, Verdict

__all__ = ["Choice"]


class Choice:
    """Says of one verdict after the other whether its frame is kept. One thread owns it.

    Neither the score nor the label is looked at among passed parts: which of them are kept is decided by the
    time alone.
    """

    def __init__(
        self,
        config: CapturesConfig,
        *,
        frames_are_parts: bool,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._config = config
        self._frames_are_parts = frames_are_parts
        self._clock_s = clock_s
        self._passed_due_s = self._free_due_s = -float("inf")

    def objection(self, verdict: Verdict) -> str | None:
        """Why the frame of this verdict is not kept, in a sentence; None where it is."""
        config = self._config
        if config.recent_parts == 0:
            return "captures.recent_parts is 0: no frames are kept"
        if verdict.outcome not in JUDGED:
            return f"its outcome was {verdict.outcome.value}: frames are kept of parts that were judged"
        now_s = self._clock_s()
        if verdict.trigger in FREE_RUNNING and not self._frames_are_parts:
            every_s = config.free_running_every_s
            if verdict.outcome is Outcome.PASS:
                return "of frames in free running only rejected ones are kept"
            if now_s < self._free_due_s:
                return f"of frames in free running one in {every_s:g} s is kept (free_running_every_s)"
            self._free_due_s = now_s + every_s
        elif verdict.outcome is Outcome.PASS:
            if now_s < self._passed_due_s:
                return f"of passed parts one in {config.passed_every_s:g} s is kept (passed_every_s)"
            self._passed_due_s = now_s + config.passed_every_s
        return None
