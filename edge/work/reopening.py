"""A camera that is gone: closed and opened again, ever more patiently."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable

from edge.backoff import Backoff
from edge.camera.source import FrameSource
from edge.errors import CameraError, EdgeError
from edge.messages import MachineStateName
from edge.work.desk import Desk
from edge.work.job import Failure
from edge.work.passing import Said
from edge.work.settings import DaemonSettings

__all__ = ["Reopening"]

_log = logging.getLogger(__name__)

_SLICE_S = 0.1


class Reopening:
    """Opens a source again as often as it takes; `meanwhile` is asked all along whether to go on."""

    def __init__(
        self, source: FrameSource, settings: DaemonSettings, desk: Desk, meanwhile: Callable[[], bool]
    ) -> None:
        self._source = source
        self._settings = settings
        self._desk = desk
        self._meanwhile = meanwhile

    def until_open(self, error: EdgeError) -> bool:
        """Whether it is open again; False where it was not worth waiting any longer."""
        backoff = Backoff(self._settings.first_backoff_s, self._settings.last_backoff_s)
        self._say(error)
        attempt = 0
        while True:
            self._source.close()
            delay_s = backoff.delay_s(attempt, random.random())
            _log.error("%s; opening it again in %.1f s", error, delay_s)
            attempt += 1
            if not self._wait(delay_s):
                return False
            try:
                self._source.open()
            except CameraError as again:
                error = again
                self._say(error)
            else:
                return True

    def _wait(self, duration_s: float) -> bool:
        end_s = time.monotonic() + duration_s
        while go_on := self._meanwhile():
            left_s = end_s - time.monotonic()
            if left_s <= 0:
                break
            time.sleep(min(left_s, _SLICE_S))
        return go_on

    def _say(self, error: EdgeError) -> None:
        failure = Failure.of(error)
        self._desk.say(Said(MachineStateName.ERROR, failure.reason, failure.detail))
