"""A thread for what takes its time on a disk: who has something to write down does not wait for it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from queue import SimpleQueue
from types import TracebackType

from typing_extensions import Self

__all__ = ["Clerk"]

_STOP_S = 2.0


class Clerk:
    """Does what it is given, in order, while its context lasts; `do` from any thread.

    What is raised goes to `carrying`. At the end it finishes what is in hand, for two seconds at most: a disk
    that hangs does not keep the process.
    """

    def __init__(self, carrying: Callable[[], AbstractContextManager[None]] = nullcontext) -> None:
        self._carrying = carrying
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="clerk", daemon=True)

    def do(self, work: Callable[[], None]) -> None:
        """Have it done soon."""
        self._work.put(work)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._work.put(None)
        self._thread.join(_STOP_S)

    def _run(self) -> None:
        while (work := self._work.get()) is not None:
            with self._carrying():
                work()
