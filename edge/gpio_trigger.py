"""A trigger by an edge on a GPIO line, through libgpiod 2 (the extra `gpio`)."""

from __future__ import annotations

import importlib
import logging
import threading
from datetime import timedelta
from typing import Any

from edge.errors import TriggerError, TriggerRefused
from edge.event_trigger import EventTrigger, Firing
from edge.messages import TriggerKind
from edge.trigger_config import GpioTrigger

__all__ = ["ByGpio"]

_log = logging.getLogger(__name__)

_LOOK_S = 0.25  # how long the listener may wait without looking whether it is to end
_BUFFER = 64  # edges that the kernel keeps for us; it counts on where it has to drop one


class ByGpio(EventTrigger):
    """Fired by the kernel's record of an edge, with the time at which the line changed.

    A thread of its own hears the line. The kernel numbers the edges: one that it had no room for is fired,
    too, as lost, so that its part gets a verdict.
    """

    kind = TriggerKind.GPIO

    def __init__(self, config: GpioTrigger) -> None:
        super().__init__(timeout_s=config.timeout_s, lead_s=config.lead_ms / 1e3)
        self._config = config
        self._gpiod = _load_gpiod()
        self._request: Any = None
        self._thread: threading.Thread | None = None
        self._ending = threading.Event()
        self._failure: TriggerError | None = None
        self._last_number = 0

    def open(self) -> None:
        config, line = self._config, self._gpiod.line
        settings = self._gpiod.LineSettings(
            direction=line.Direction.INPUT,
            edge_detection=line.Edge.RISING if config.edge == "rising" else line.Edge.FALLING,
            bias=line.Bias[config.bias.upper()],
            active_low=config.active_low,
            debounce_period=timedelta(milliseconds=config.debounce_ms),
            event_clock=line.Clock.MONOTONIC,  # the clock of the frames
        )
        try:
            self._request = self._gpiod.request_lines(
                str(config.chip),
                consumer="edge-inspect trigger",
                config={config.line: settings},
                event_buffer_size=_BUFFER,
            )
        except (OSError, ValueError) as error:
            raise TriggerError(
                f"trigger: line {config.line} of {config.chip} can't be listened to ({error}); "
                "`gpioinfo` shows the lines and who holds them; the daemon needs to be in the chip's group"
            ) from error
        self._ending.clear()
        self._last_number = 0
        super().open()
        self._thread = threading.Thread(target=self._listen, name="gpio-trigger", daemon=True)
        self._thread.start()

    def close(self) -> None:
        super().close()
        self._ending.set()
        thread, self._thread = self._thread, None
        if thread is not None:
            thread.join()
        request, self._request = self._request, None
        if request is not None:
            request.release()

    def take(self, timeout_s: float = 0.0) -> list[Firing]:
        fired = super().take(timeout_s)
        if not fired and self._failure is not None:
            raise self._failure
        return fired

    def _listen(self) -> None:
        try:
            while not self._ending.is_set():
                if self._request.wait_edge_events(_LOOK_S):
                    for event in self._request.read_edge_events():
                        self._heard(event.timestamp_ns, event.line_seqno)
        except OSError as error:
            self._failure = TriggerError(
                f"trigger: line {self._config.line} of {self._config.chip} is no longer heard ({error})"
            )
        except TriggerRefused as refused:
            if not self._ending.is_set():
                self._failure = refused

    def _heard(self, asked_ns: int, number: int) -> None:
        missed = number - self._last_number - 1
        self._last_number = number
        if missed > 0:
            _log.error("the kernel had no room for %d edges of the trigger's line", missed)
        for _ in range(missed):
            lost = f"the edge came before number {number} of its line, and was lost; edges come too fast"
            self.fire(asked_ns=asked_ns, lost=lost)
        self.fire(asked_ns=asked_ns)


def _load_gpiod() -> Any:
    try:
        return importlib.import_module("gpiod")
    except ImportError as error:
        raise TriggerError(
            "trigger.kind is gpio, and libgpiod's Python module is not installed: "
            "pip install 'edge-inspect[gpio]'"
        ) from error
