"""Which commands were taken up, so that none is carried out twice and each is answered once."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from edge.audit import AuditLine
from edge.order_messages import Answer
from edge.recent import Recent

__all__ = ["REMEMBERED", "Address", "Again", "Key", "OrderMemory", "Taken"]

REMEMBERED = 4096
_REMEMBERED_NS = 3600 * 10**9

Key = tuple[str, str]
"""`issued_by` and `request_id`."""


@dataclass(frozen=True, slots=True)
class Address:
    """Where an answer goes, and what it names; with `answered` not to the topic, but there."""

    command: str
    topic: str
    correlation: bytes | None
    request_id: str | None = None
    issued_by: str | None = None
    answered: Callable[[Answer], None] | None = None


@dataclass(frozen=True, slots=True)
class Taken:
    """A command that is being carried out; `others` asked for the same meanwhile, and are to be told as well.

    `change`: it changes something, and its line is in the log of changes.
    """

    address: Address
    line: AuditLine
    change: bool
    others: tuple[Address, ...] = ()
    claimed: bool = False


@dataclass(frozen=True, slots=True)
class Again:
    """A command that was taken up before; `answer` is what it got, None while it is being carried out."""

    answer: Answer | None


class OrderMemory:
    """What is being carried out, and the last answers; thread-safe.

    What is open is never forgotten. Of what was answered the last 4,096 are known, for an hour.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[Key, Taken] = {}
        self._answered: Recent[Key, tuple[int, Answer]] = Recent(REMEMBERED)
        self._closed = False

    def again(self, key: Key, address: Address) -> Again | None:
        """Whether it was taken up before; one that did not come over MQTT waits for the same answer."""
        with self._lock:
            return self._again(key, address)

    def take(self, key: Key, taken: Taken) -> bool | Again:
        """Whether it may be carried out: not once this is closed, nor if another took it meanwhile."""
        with self._lock:
            again = self._again(key, taken.address)
            if again is not None:
                return again
            if not self._closed:
                self._open[key] = taken
            return not self._closed

    def claim(self, key: Key) -> Taken | None:
        """For who has its answer: the first gets it, and none after."""
        with self._lock:
            taken = self._open.get(key)
            if taken is None or taken.claimed:
                return None
            self._open[key] = replace(taken, claimed=True)
            return taken

    def settle(self, key: Key, answer: Answer) -> tuple[Address, ...]:
        """It has its answer; gives who else waits for it."""
        with self._lock:
            taken = self._open.pop(key)
            self._remember(key, answer)
            return taken.others

    def forget(self, key: Key) -> tuple[Address, ...]:
        """It was never begun; gives who else waits for it."""
        with self._lock:
            return self._open.pop(key).others

    def recall(self, key: Key, answer: Answer) -> None:
        """One of an earlier start."""
        with self._lock:
            self._remember(key, answer)

    def close(self) -> list[Key]:
        """Take nothing more; gives what is still open."""
        with self._lock:
            self._closed = True
            return list(self._open)

    def _again(self, key: Key, address: Address) -> Again | None:
        taken = self._open.get(key)
        if taken is not None:
            if address.answered is not None:
                self._open[key] = replace(taken, others=(*taken.others, address))
            return Again(None)
        before = self._answered.get(key)
        if before is None or before[0] < time.monotonic_ns():
            return None
        return Again(before[1])

    def _remember(self, key: Key, answer: Answer) -> None:
        self._answered.put(key, (time.monotonic_ns() + _REMEMBERED_NS, answer))
