"""A camera, a driver and a clock to look after, with no time passing but the clock's own."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from datetime import datetime, timezone
from typing import Any, TypeVar

import numpy as np

from edge.camera.config import CareConfig
from edge.camera.events import CameraEvent
from edge.camera.keeper import CameraKeeper
from edge.camera.source import FrameSource, SourceHealth
from edge.errors import CameraError
from edge.frame import CameraStamp, Frame, Intrinsics
from edge.testing.faults import FaultyCamera

VIEW = Intrinsics(16, 16, 15.0, 15.0, 7.5, 7.5)

_T = TypeVar("_T")


class Clock:
    """Time that passes when somebody sleeps."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, duration_s: float) -> None:
        self.now_s += duration_s

    @property
    def now_ns(self) -> int:
        return round(self.now_s * 1e9)


class InlineDriver:
    """Makes each call at once, on the thread that asks."""

    def submit(self, call: Callable[[], _T]) -> Future[_T]:
        future: Future[_T] = Future()
        try:
            future.set_result(call())
        except Exception as error:  # noqa: BLE001 - as the real one
            future.set_exception(error)
        return future

    def close(self) -> None:
        pass


class NoiseCamera(FrameSource):
    """A frame each `interval_s`, with noise in its depth; its `part_id` is when it truly was taken."""

    name = "noise"

    def __init__(self, clock: Clock, *, interval_s: float = 0.1, camera_zero_s: float = 77.0) -> None:
        self._clock = clock
        self._interval_s = interval_s
        self._zero_s = camera_zero_s
        self._rng = np.random.default_rng(0)
        self._number = 0
        self.is_open = False
        self.facts = SourceHealth(
            frames=0, serial="42", usb="3.2", depth_unit_m=0.0001, options={"exposure": 8000.0}
        )
        self.view = VIEW

    def open(self) -> None:
        if self.is_open:
            raise CameraError("open already")
        self.is_open = True
        self._number = 0
        self.facts = replace(self.facts, frames=0)

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        if not self.is_open:
            raise CameraError("not open")
        self._clock.sleep(self._interval_s)
        self._number += 1
        self.facts = replace(self.facts, frames=self._number)
        depth = self._rng.integers(2000, 3000, (16, 16)).astype(np.float32) * np.float32(1e-4)
        on_camera_s = self._clock() - self._zero_s
        return Frame(
            rgb=np.zeros((16, 16, 3), np.uint8),
            depth_m=depth,
            depth_unit_m=self.facts.depth_unit_m or 0.0,
            intrinsics=self.view,
            captured_ns=self._clock.now_ns,
            captured_utc=datetime.fromtimestamp(self._clock(), timezone.utc),
            seq=self._number - 1,
            source="42",
            part_id=repr(self._clock()),
            stamp=CameraStamp(self._number, self._number, on_camera_s, on_camera_s, wall_clock=False),
        )

    def close(self) -> None:
        self.is_open = False

    def health(self) -> SourceHealth:
        return self.facts

    def reset(self) -> bool:
        return True  # and it does not help


class Kept:
    """A camera that may fail, in the hands of a keeper, and what the keeper said of it."""

    def __init__(self, care: CareConfig | None = None, *, interval_s: float = 0.1, **options: Any) -> None:
        self.clock = Clock()
        self.camera = NoiseCamera(self.clock, interval_s=interval_s)
        self.faulty = FaultyCamera(
            self.camera,
            resettable=options.pop("resettable", False),
            sleep=self.clock.sleep,
            clock_s=self.clock,
        )
        self.events: list[CameraEvent] = []
        self.keeper = CameraKeeper(
            self.faulty,
            care or CareConfig(),
            on_event=self.events.append,
            driver=InlineDriver,
            clock_s=self.clock,
            sleep=self.clock.sleep,
            **{"chance": lambda: 0.0, **options},
        )

    def read(self, timeout_s: float = 60.0) -> Frame:
        frame = self.keeper.read(timeout_s)
        assert frame is not None
        return frame

    def fresh(self, timeout_s: float = 60.0) -> Frame:
        while (frame := self.read(timeout_s)).stale is not None:
            pass
        return frame

    @property
    def told(self) -> list[tuple[str, str, int]]:
        return [(event.kind.value, event.reason, event.attempt) for event in self.events]
