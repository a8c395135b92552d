"""One runner for several models that differ in their calibration alone."""

from __future__ import annotations

import threading
from collections.abc import Callable

from edge.runtime.runner import Runner

__all__ = ["SharedRunner"]


class SharedRunner:
    """A runner that is closed with the last of those who use it; `lease` from any thread.

    Whoever closes last does so on the thread that owns the runner.
    """

    def __init__(self, runner: Runner) -> None:
        self.runner = runner
        self._lock = threading.Lock()
        self._users = 0

    def lease(self, on_closed: Callable[[], None]) -> Callable[[], None]:
        """One more user; what it calls, once, to be one no more. `on_closed` is told then."""
        with self._lock:
            self._users += 1

        def close() -> None:
            with self._lock:
                self._users -= 1
                last = self._users == 0
            try:
                if last:
                    self.runner.close()
            finally:
                on_closed()

        return close
