"""A lock on a folder, held by one process and thread at a time, and let go when its holder dies."""

from __future__ import annotations

import fcntl
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import RunnerError

__all__ = ["FolderLock"]

_log = logging.getLogger(__name__)

_POLL_S = 0.1


class FolderLock:
    """flock(2) on `.lock` in the folder. A second holder waits; the kernel frees it for one that was killed.

    While it is held nobody else writes, so what temporary files lie there were left by a killed process:
    they are removed.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._owner: int | None = None

    @contextmanager
    def held(self, cancelled: Callable[[], bool] | None = None) -> Iterator[None]:
        """Make the folder if it is not there, wait for the lock, and hold it.

        Raises `RunnerError` where the folder can't be written, or the wait was `cancelled`.
        """
        if self._owner == threading.get_ident():
            yield  # a thread that waits for itself waits for good
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            # Each holder opens the file anew: flock keeps apart open files, not threads.
            descriptor = os.open(self._folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise RunnerError(
                f"{self._folder}: engines can't be kept there ({error.strerror}); let runtime.engines_dir "
                "name a folder that this user may write"
            ) from error
        try:
            self._wait(descriptor, cancelled)
            self._owner = threading.get_ident()
            try:
                self._tidy()
                yield
            finally:
                self._owner = None
        finally:
            os.close(descriptor)

    def _wait(self, descriptor: int, cancelled: Callable[[], bool] | None) -> None:
        told = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not told:
                    _log.warning("%s: another process builds engines there; waiting for it", self._folder)
                    told = True
                if cancelled is not None and cancelled():
                    raise RunnerError(
                        f"{self._folder}: waiting for another process that builds engines was cancelled"
                    ) from None
                time.sleep(_POLL_S)
            else:
                return

    def _tidy(self) -> None:
        for leftover in self._folder.glob(".*.tmp"):
            _log.warning("%s: was left by a process that was killed; removed", leftover)
            leftover.unlink(missing_ok=True)
