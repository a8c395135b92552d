"""How far the daemon is: at work, on its way out, or failed; all threads look at it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["Course"]

_log = logging.getLogger(__name__)


class Course:
    """Whether the daemon is to stop, and with what error it ends: the first one that any thread met."""

    def __init__(self) -> None:
        # A plain flag: a signal handler that sets an Event can deadlock with the wait that it interrupts.
        self.stopping = False
        self.failure: BaseException | None = None
        self.news = threading.Event()
        """Set whenever a thread ends, or fails."""
        self._lock = threading.Lock()

    def fail(self, error: BaseException, *, stop: bool = True) -> None:
        """The daemon ends with `error`, if it is the first; with `stop` at once, else once all is done."""
        with self._lock:
            if self.failure is None:
                self.failure = error
            elif self.failure is not error:
                # The first is what the daemon ends with; this one must be told, too.
                _log.error("after %s: %s", type(self.failure).__name__, error, exc_info=error)
        if stop:
            self.stopping = True
        self.news.set()

    @contextmanager
    def carrying(self, *, stop: bool = True) -> Iterator[None]:
        """Whatever is raised within ends the daemon, on the thread that waits for all others."""
        try:
            yield
        except BaseException as error:  # noqa: BLE001  # raised again by Daemon.run
            self.fail(error, stop=stop)
