"""A thread of the daemon: it beats, and its errors end the daemon instead of being lost with it."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from edge.work.course import Course
from edge.work.handover import Handover
from edge.work.pulse import Beat, Pulse

__all__ = ["SLICE_S", "Consumer", "Worker"]

SLICE_S = 0.25
"""How long a thread may wait without looking whether it is to stop."""

_Item = TypeVar("_Item")


class Worker(ABC):
    """One thread, which the process does not wait for at its end: what hangs must not keep it."""

    def __init__(self, name: str, course: Course, pulse: Pulse) -> None:
        self.name = name
        self.course = course
        self._pulse = pulse
        self.beat = Beat(time.monotonic_ns)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self.beat = self._pulse.of(self.name)
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended, within `timeout_s`, or was never started."""
        if self._thread.ident is not None:
            self._thread.join(max(0.0, timeout_s))
        return not self._thread.is_alive()

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    @abstractmethod
    def work(self) -> None:
        """All that the thread does; what it raises, the daemon ends with, once the rest is done."""

    @abstractmethod
    def leave(self) -> None:
        """The last that it does, whatever happened: tell the next thread that nothing more comes."""

    def _run(self) -> None:
        try:
            with self.course.carrying(stop=False):
                self.work()
        finally:
            with self.course.carrying():
                self.leave()
            self.beat.rest()
            self.course.news.set()


class Consumer(Worker, Generic[_Item]):
    """A thread that works off a hand-over until nothing more will come; an item that fails stops the daemon,
    and the thread goes on: what comes after it must be answered, too.
    """

    def __init__(self, name: str, course: Course, pulse: Pulse, inbox: Handover[_Item]) -> None:
        super().__init__(name, course, pulse)
        self.inbox = inbox

    def work(self) -> None:
        while not self.inbox.ended:
            item = self.inbox.take(SLICE_S)
            if item is not None:
                with self.course.carrying():
                    self.on(item)
            with self.course.carrying():
                self.tend()
            self.beat.beat()

    def tend(self) -> None:
        """What is to be done besides: after each item, and often while there is none."""

    @abstractmethod
    def on(self, item: _Item) -> None:
        """Work off one item."""
