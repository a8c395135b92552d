"""A line of a GPIO chip as reject output, by libgpiod 2 (https://libgpiod.readthedocs.io)."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from typing import TYPE_CHECKING

from edge.errors import RejectError
from edge.messages import Verdict
from edge.reject_config import GpioReject

if TYPE_CHECKING:
    from types import ModuleType

    from gpiod import LineRequest
    from gpiod.line import Value

__all__ = ["GpioOutput", "gpiod_module"]

_log = logging.getLogger(__name__)

_CONSUMER = "edge-inspect reject"
_RETRY_S = 0.5


class GpioOutput:
    """Holds the line from `open` to `close`; a thread of its own ends the pulses.

    A part rejected within another's pulse makes it longer: it ends `pulse_ms` after the last. A process that
    is killed lets go of the line; what the line does then is up to the chip and the wiring (a pull resistor).
    Raises `RejectError` where libgpiod's module is missing.
    """

    def __init__(self, config: GpioReject) -> None:
        self._config = config
        self._gpiod = gpiod_module()
        self._safe_active = config.safe_state == "active"
        self._changed = threading.Condition()
        self._line: LineRequest | None = None
        self._rests_active = self._safe_active
        self._pulse_ends_s: float | None = None
        self._trouble: str | None = None
        self._pulses: threading.Thread | None = None

    @property
    def trouble(self) -> str | None:
        return self._trouble

    def open(self) -> None:
        self._line = self._request()
        self._rests_active = self._safe_active
        self._pulses = threading.Thread(target=self._end_pulses, name="reject pulses", daemon=True)
        self._pulses.start()

    def ready(self) -> None:
        self._rest(active=False)

    def safe(self) -> None:
        self._rest(active=self._safe_active)

    def reject(self, verdict: Verdict) -> None:
        with self._changed:
            self._set(True)
            self._pulse_ends_s = time.monotonic() + self._config.pulse_ms / 1e3
            self._changed.notify_all()

    def close(self) -> None:
        with self._changed:
            line, self._line = self._line, None
            self._pulse_ends_s = None
            self._changed.notify_all()
        if line is None:
            return
        if self._pulses is not None:
            self._pulses.join()
        try:
            line.set_value(self._config.line, self._value(self._safe_active))
        except OSError as error:
            raise self._refused(error) from error
        finally:
            line.release()

    def _rest(self, *, active: bool) -> None:
        with self._changed:
            self._rests_active = active
            if active or self._pulse_ends_s is None:  # a pulse that runs ends into the new state by itself
                self._set(active)

    def _end_pulses(self) -> None:
        with self._changed:
            while self._line is not None:
                if self._pulse_ends_s is None:
                    self._changed.wait()
                    continue
                left_s = self._pulse_ends_s - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                    continue
                try:
                    self._set(self._rests_active)
                except RejectError as error:
                    if self._trouble is None:
                        _log.error("a pulse can't be ended, and rejects what comes: %s", error)
                    self._trouble = f"a pulse can't be ended: {error}"
                    self._pulse_ends_s = time.monotonic() + _RETRY_S
                else:
                    self._trouble = None
                    self._pulse_ends_s = None

    def _set(self, active: bool) -> None:
        if self._line is None:
            raise RejectError("the line is not open; open the output before it is driven")
        try:
            self._line.set_value(self._config.line, self._value(active))
        except OSError as error:
            raise self._refused(error) from error

    def _value(self, active: bool) -> Value:
        values = self._gpiod.line.Value
        value: Value = values.ACTIVE if active else values.INACTIVE
        return value

    def _request(self) -> LineRequest:
        gpiod, config = self._gpiod, self._config
        settings = gpiod.LineSettings(
            direction=gpiod.line.Direction.OUTPUT,
            drive=getattr(gpiod.line.Drive, config.drive.upper()),
            active_low=config.active_low,
            output_value=self._value(self._safe_active),
        )
        try:
            line: LineRequest = gpiod.request_lines(
                str(config.chip), {config.line: settings}, consumer=_CONSUMER
            )
        except (OSError, ValueError) as error:
            raise self._refused(error) from error
        return line

    def _refused(self, error: OSError | ValueError) -> RejectError:
        said = getattr(error, "strerror", None) or str(error)
        return RejectError(
            f"line {self._config.line} of {self._config.chip}: {said}; see `gpioinfo` for the lines and who "
            "holds them, and let the daemon's user into the chip's group (gpio)"
        )


def gpiod_module() -> ModuleType:
    """libgpiod's Python module; raises `RejectError` where it is not installed, or too old."""
    try:
        module = importlib.import_module("gpiod")
    except ImportError as error:
        raise RejectError(
            "the reject output needs libgpiod's Python module; pip install 'edge-inspect[gpio]'"
        ) from error
    if not hasattr(module, "request_lines"):
        raise RejectError(
            f"gpiod {getattr(module, '__version__', '?')} is the module of libgpiod 1; "
            "pip install 'edge-inspect[gpio]' (a system's own python3-libgpiod may lie in its way)"
        )
    return module
