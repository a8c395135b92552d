"""Bounded hand-over from one thread to the next: what may be passed over for newer things, what never is."""

from __future__ import annotations

import threading
from collections import deque
from typing import Generic, TypeVar

from edge.errors import ConfigError

__all__ = ["Handover"]

_Item = TypeVar("_Item")


class Handover(Generic[_Item]):
    """A queue of at most `capacity` items, from one thread that puts to one that takes, in order.

    What is put is taken once, or given back to who put the newer thing that it was passed over for
    (`put_latest`), or given to who empties the queue (`drain`): nothing else ever becomes of it. What is
    refused (False) stays with who offered it.
    """

    def __init__(self, capacity: int) -> None:
        if capacity < 1:
            raise ConfigError(f"a hand-over of {capacity} items hands nothing over; it must hold at least 1")
        self._capacity = capacity
        self._changed = threading.Condition()
        self._waiting: deque[tuple[_Item, bool]] = deque()  # with whether a newer one may take its place
        self._takers = 0
        self._closed = False
        self._nudged = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def ended(self) -> bool:
        """Nothing waits, and nothing will come."""
        with self._changed:
            return self._closed and not self._waiting

    @property
    def closed(self) -> bool:
        """Nothing will come."""
        return self._closed

    def wait_for_room(self, timeout_s: float) -> bool:
        """Whether there is room, or came to be within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._waiting) < self._capacity, timeout_s)

    def wait_for_taker(self, timeout_s: float) -> bool:
        """Whether somebody waits for an item, or came to within `timeout_s`."""
        with self._changed:
            return self._changed.wait_for(lambda: self._takers > 0 and not self._waiting, timeout_s)

    def put(self, item: _Item, timeout_s: float = 0.0) -> bool:
        """Whether it was taken in: there was room, or there came to be within `timeout_s`."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._waiting) < self._capacity, timeout_s)
            if self._closed or len(self._waiting) >= self._capacity:
                return False
            self._append(item, may_go=False)
            return True

    def put_latest(self, item: _Item) -> list[_Item] | None:
        """Take it in, in place of all that was put like this and still waits; gives those, oldest first.

        None where it was not taken in: the hand-over is closed, or full of what can't go.
        """
        with self._changed:
            kept = [entry for entry in self._waiting if not entry[1]]
            if self._closed or len(kept) >= self._capacity:
                return None
            passed_over = [waiting for waiting, may_go in self._waiting if may_go]
            self._waiting = deque(kept)
            self._append(item, may_go=True)
            return passed_over

    def put_always(self, item: _Item) -> bool:
        """Take it in, with room or without; False only where the hand-over is closed."""
        with self._changed:
            if self._closed:
                return False
            self._append(item, may_go=False)
            return True

    def take(self, timeout_s: float) -> _Item | None:
        """The first that waits; None where `timeout_s` passes without one, nothing will come (`ended`), or
        somebody nudged.
        """
        with self._changed:
            self._takers += 1
            self._changed.notify_all()
            try:
                self._changed.wait_for(lambda: self._closed or self._nudged or bool(self._waiting), timeout_s)
            finally:
                self._takers -= 1
                self._nudged = False
            if not self._waiting:
                return None
            item, _ = self._waiting.popleft()
            self._changed.notify_all()
            return item

    def nudge(self) -> None:
        """Have who takes look around: it is given None at once if nothing waits. From any thread."""
        with self._changed:
            self._nudged = True
            self._changed.notify_all()

    def drain(self) -> list[_Item]:
        """All that waits, in order; it then no longer does."""
        with self._changed:
            items = [item for item, _ in self._waiting]
            self._waiting.clear()
            self._changed.notify_all()
            return items

    def close(self) -> None:
        """Take in nothing more; what waits can still be taken. Harmless when called twice."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _append(self, item: _Item, *, may_go: bool) -> None:
        self._waiting.append((item, may_go))
        self._changed.notify_all()
