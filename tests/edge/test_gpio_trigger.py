"""The trigger by a GPIO line: libgpiod's own types; the line is the kernel's gpio-sim's, or pretended."""

from __future__ import annotations

import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from edge.errors import TriggerError, TriggerRefused
from edge.event_trigger import Firing
from edge.gpio_trigger import ByGpio
from edge.messages import TriggerKind
from edge.trigger_config import GpioTrigger

gpiod = pytest.importorskip("gpiod", reason="the extra gpio is not installed")

PATIENCE_S = 60
GPIO_SIM = Path("/sys/kernel/config/gpio-sim")


class Line:
    """What `gpiod.request_lines` gives, as far as a trigger may use it; strict about how."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._events: list[Any] = []
        self._error: OSError | None = None
        self.number = 0
        self.released = False

    def edge(self, at_ns: int, *, missing: int = 0) -> None:
        self.number += 1 + missing
        with self._changed:
            rising = gpiod.EdgeEvent.Type.RISING_EDGE.value
            self._events.append(gpiod.EdgeEvent(rising, at_ns, 7, self.number, self.number))
            self._changed.notify_all()

    def break_down(self, error: OSError) -> None:
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def wait_edge_events(self, timeout: timedelta | float | None = None) -> bool:
        assert isinstance(timeout, float)
        assert not self.released
        with self._changed:
            self._changed.wait_for(lambda: bool(self._events) or self._error is not None, timeout)
            if self._error is not None:
                raise self._error
            return bool(self._events)

    def read_edge_events(self) -> list[Any]:
        assert not self.released
        with self._changed:
            events, self._events = self._events, []
        assert events  # else it would block
        return events

    def release(self) -> None:
        self.released = True


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What was asked of the pretended chip."""
    said: dict[str, Any] = {"line": Line()}

    def request_lines(
        path: str, config: dict[Any, Any], consumer: str | None = None, event_buffer_size: int | None = None
    ) -> Line:
        ((number, settings),) = config.items()
        assert isinstance(settings, gpiod.LineSettings)
        said.update(path=path, number=number, settings=settings, consumer=consumer, room=event_buffer_size)
        return said["line"]

    monkeypatch.setattr(gpiod, "request_lines", request_lines)
    return said


def all_of(trigger: ByGpio, count: int) -> list[Firing]:
    fired: list[Firing] = []
    while len(fired) < count:
        more = trigger.take(PATIENCE_S)
        assert more
        fired += more
    return fired


def test_an_edge_fires_with_the_time_at_which_the_line_changed(asked: dict[str, Any]) -> None:
    trigger = ByGpio(
        GpioTrigger(
            kind="gpio", chip=Path("/dev/gpiochip1"), line=7, edge="falling", bias="pull_up", debounce_ms=2
        )
    )
    trigger.open()
    asked["line"].edge(123_456_789)
    (firing,) = all_of(trigger, 1)
    assert (firing.asked_ns, firing.lost, trigger.kind) == (123_456_789, None, TriggerKind.GPIO)
    assert (asked["path"], asked["number"]) == ("/dev/gpiochip1", 7)
    settings, line = asked["settings"], gpiod.line
    assert settings.direction is line.Direction.INPUT
    assert settings.edge_detection is line.Edge.FALLING
    assert settings.bias is line.Bias.PULL_UP
    assert settings.event_clock is line.Clock.MONOTONIC
    assert settings.debounce_period == timedelta(milliseconds=2)
    assert not settings.active_low
    trigger.close()
    assert asked["line"].released
    with pytest.raises(TriggerRefused):
        trigger.fire()


def test_edges_that_the_kernel_had_no_room_for_are_fired_as_lost(asked: dict[str, Any]) -> None:
    trigger = ByGpio(GpioTrigger(kind="gpio", line="part-there"))
    trigger.open()
    asked["line"].edge(1)
    asked["line"].edge(2, missing=2)
    fired = all_of(trigger, 4)
    trigger.close()
    assert [firing.lost is not None for firing in fired] == [False, True, True, False]
    assert len({firing.id for firing in fired}) == 4


def test_a_line_that_breaks_down_is_an_error_and_what_came_before_is_not_lost(asked: dict[str, Any]) -> None:
    trigger = ByGpio(GpioTrigger(kind="gpio", line=7))
    trigger.open()
    asked["line"].edge(1)
    all_of(trigger, 1)
    asked["line"].break_down(OSError(19, "No such device"))
    assert trigger._thread is not None
    trigger._thread.join(PATIENCE_S)
    with pytest.raises(TriggerError, match="No such device"):
        trigger.take()
    trigger.close()


def test_a_chip_that_is_not_there_is_named() -> None:
    trigger = ByGpio(GpioTrigger(kind="gpio", chip=Path("/dev/gpiochip-none"), line=7))
    with pytest.raises(TriggerError, match="/dev/gpiochip-none"):
        trigger.open()
    with pytest.raises(TriggerRefused):
        trigger.fire()
    trigger.close()


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gpiod", None)
    with pytest.raises(TriggerError, match=r"edge-inspect\[gpio\]"):
        ByGpio(GpioTrigger(kind="gpio", line=7))


@pytest.mark.skipif(
    not GPIO_SIM.is_dir(), reason="the kernel has no gpio-sim (configfs); the line is pretended"
)
def test_on_the_kernels_own_simulated_chip() -> None:
    device = GPIO_SIM / "edge-inspect-test"
    bank = device / "bank0"
    bank.mkdir(parents=True)
    try:
        (bank / "num_lines").write_text("8")
        (device / "live").write_text("1")
        chip = (bank / "chip_name").read_text().strip()
        pull = (
            Path("/sys/devices/platform")
            / (device / "dev_name").read_text().strip()
            / chip
            / "sim_gpio3/pull"
        )
        trigger = ByGpio(GpioTrigger(kind="gpio", chip=Path("/dev") / chip, line=3, debounce_ms=0))
        trigger.open()
        for _ in range(3):
            pull.write_text("pull-up")
            pull.write_text("pull-down")
        fired = all_of(trigger, 3)
        trigger.close()
        assert [firing.lost for firing in fired] == [None] * 3
        assert all(0 <= time.monotonic_ns() - firing.asked_ns < PATIENCE_S * 1e9 for firing in fired)
    finally:
        (device / "live").write_text("0")
        bank.rmdir()
        device.rmdir()
