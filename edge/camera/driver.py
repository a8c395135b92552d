"""The one thread that a camera's driver is called on, so that nobody else waits for a driver that hangs."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Protocol, TypeVar

__all__ = ["Driver", "DriverThread"]

_T = TypeVar("_T")


class Driver(Protocol):
    """Makes calls, one after the other, in the order in which they are given."""

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        """What `call` gives or raises, once it has been made."""

    def close(self) -> None:
        """Take no more calls; those that were given are still made."""


class DriverThread:
    """A `Driver` with a thread of its own, started by the first call.

    The thread is a daemon: a call that never returns (librealsense's `stop` is known for it) does not keep
    the process from ending, as a thread of `concurrent.futures` would.
    """

    def __init__(self, name: str = "camera") -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        self._calls.put(lambda: _fulfil(future, call))
        if self._thread.ident is None:
            self._thread.start()
        return future

    def close(self) -> None:
        self._calls.put(None)

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
            del call  # it holds its result, a frame perhaps, for as long as the next one is waited for


def _fulfil(future: Future[_T], call: Callable[[], _T]) -> None:
    try:
        result = call()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it belongs to whoever asked
        future.set_exception(error)
    else:
        future.set_result(result)
