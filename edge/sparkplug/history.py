"""Verdicts that a host has not heard, or may not have heard, to be told later as history."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import replace

from edge.sparkplug.payload import Metric

__all__ = ["History"]


class History:
    """Keeps the last `at_most` verdicts that were not sent, and those sent within the last `unsure_s`.

    The second, because a connection is long dead before that is noticed, and nothing of Sparkplug is
    acknowledged. A host that heard one twice finds the same value at the same time.
    """

    def __init__(
        self, at_most: int, *, unsure_s: float, clock_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._at_most = at_most
        self._unsure_s = unsure_s
        self._clock_s = clock_s
        self._sent: deque[tuple[float, tuple[Metric, ...]]] = deque(maxlen=at_most)
        self._missed: deque[tuple[Metric, ...]] = deque()
        self._left_out = 0

    def add(self, verdict: tuple[Metric, ...], *, sent: bool) -> None:
        """A verdict's metrics, and whether they are on their way to a host."""
        if sent:
            self._sent.append((self._clock_s(), verdict))
            return
        self._missed.append(verdict)
        # One more than is sent as history: the last of them is told by the birth.
        while len(self._missed) > self._at_most + 1:
            self._missed.popleft()
            self._left_out += 1

    def doubt(self) -> None:
        """The connection is lost, or the host: what was sent of late may not have been heard."""
        since_s = self._clock_s() - self._unsure_s
        late = [verdict for sent_s, verdict in self._sent if sent_s >= since_s]
        self._sent.clear()
        self._missed.extendleft(reversed(late))

    def take(self) -> tuple[Sequence[Sequence[Metric]], int]:
        """What the host is to be told as history, oldest first, and how many are left out; they are told.

        The newest is none of them: it is the current value, which the birth says.
        """
        verdicts, left_out = list(self._missed)[:-1], self._left_out
        if len(verdicts) > self._at_most:
            left_out += len(verdicts) - self._at_most
            verdicts = verdicts[-self._at_most :] if self._at_most else []
        # Told now, but as unsurely as all else: the connection may be gone again at once.
        self._sent.extend((self._clock_s(), verdict) for verdict in self._missed)
        self._missed.clear()
        self._left_out = 0
        return [[replace(metric, historical=True) for metric in verdict] for verdict in verdicts], left_out
