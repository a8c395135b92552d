"""Whether every thread gets on: the watchdog lives on that, and a thread that hangs is found by it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping

__all__ = ["Beat", "Pulse"]


class Beat:
    """One thread's sign of life: it beats after each thing that it has done, and never because time passed.

    A thread that has nothing to do beats each time that it has looked for work.
    """

    def __init__(self, clock: Callable[[], int]) -> None:
        self._clock = clock
        self.last_ns = clock()
        self.count = 0
        self.resting = False

    def beat(self) -> None:
        self.last_ns = self._clock()
        self.count += 1

    def rest(self) -> None:
        """The thread has ended: nothing more is expected of it."""
        self.resting = True


class Pulse:
    """The beats of all threads; one thread asks, each of the others beats its own.

    `clock` is monotonic, in nanoseconds.
    """

    def __init__(self, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._beats: dict[str, Beat] = {}
        self._seen: dict[str, int] = {}

    def of(self, name: str) -> Beat:
        """A new thread's beat; its time runs from now."""
        with self._lock:
            beat = self._beats[name] = Beat(self._clock)
            self._seen[name] = 0
        return beat

    def all_got_on(self) -> bool:
        """Whether each thread that works has beaten since this was last true, and there is one."""
        with self._lock:
            working = {name: beat for name, beat in self._beats.items() if not beat.resting}
            if not working or any(beat.count == self._seen[name] for name, beat in working.items()):
                return False
            self._seen.update((name, beat.count) for name, beat in working.items())
            return True

    def ages_s(self) -> Mapping[str, float]:
        """How long ago each thread that works has last beaten."""
        now_ns = self._clock()
        with self._lock:
            return {
                name: max(0, now_ns - beat.last_ns) / 1e9
                for name, beat in self._beats.items()
                if not beat.resting
            }
