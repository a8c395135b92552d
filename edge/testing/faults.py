"""A camera to which everything happens that happens to cameras."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from enum import Enum

from edge.camera.source import FrameSource, SourceHealth
from edge.errors import CameraLost, CameraNotFound, CameraStalled, FrameError
from edge.frame import Frame

__all__ = ["Fault", "FaultyCamera"]


class Fault(Enum):
    """What is wrong with a camera.

    `STALLED`: it sends nothing. `UNPLUGGED`: it is not there. `GARBAGE`: its frames can't be right. `FROZEN`:
    it sends its last picture, with new numbers and times. `REPLAYING`: it sends old frames once more, as they
    were. `HUNG`: the driver's calls don't return.
    """

    STALLED = "stalled"
    UNPLUGGED = "unplugged"
    GARBAGE = "garbage"
    FROZEN = "frozen"
    REPLAYING = "replaying"
    HUNG = "hung"


@dataclass(frozen=True, slots=True)
class _Wrong:
    """By how much times are wrong, in seconds."""

    arrival_s: float = 0.0
    camera_clock_s: float = 0.0


def _as_it_is(health: SourceHealth) -> SourceHealth:
    return health


class FaultyCamera(FrameSource):
    """A camera whose faults are set from outside, from any thread; without one, it is the one it wraps.

    `health_as` is what it says of itself from the next opening on (another serial, other options).
    `resettable` cameras lose their fault by a hardware reset. `sleep` and `clock_s` (monotonic) are for
    tests with a clock of their own.
    """

    def __init__(
        self,
        camera: FrameSource,
        *,
        resettable: bool = False,
        sleep: Callable[[float], None] = time.sleep,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._camera = camera
        self._resettable = resettable
        self._sleep = sleep
        self._clock_s = clock_s
        self._fault: Fault | None = None
        self._times = _Wrong()
        self._says: Callable[[SourceHealth], SourceHealth] = _as_it_is
        self._says_now: Callable[[SourceHealth], SourceHealth] = _as_it_is
        self._last: Frame | None = None
        self.opened = self.closed = self.resets = 0

    @property
    def name(self) -> str:
        return self._camera.name

    def break_by(self, fault: Fault) -> None:
        """From now on, until `mend`."""
        self._fault = fault

    def mend(self) -> None:
        self._fault = None
        self._times = _Wrong()

    def jump(self, *, arrival_s: float = 0.0, camera_clock_s: float = 0.0) -> None:
        """Let frames say that they arrived, or were taken, so much later than they were; until `mend`."""
        self._times = _Wrong(arrival_s, camera_clock_s)

    def health_as(self, says: Callable[[SourceHealth], SourceHealth]) -> None:
        self._says = says

    def open(self) -> None:
        self._hang()
        if self._fault is Fault.UNPLUGGED:
            raise CameraNotFound(f"{self.name}: is not plugged in")
        self._camera.open()
        self._says_now = self._says
        self.opened += 1

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        self._hang()
        if self._fault is Fault.UNPLUGGED:
            raise CameraLost(f"{self.name}: was unplugged")
        if self._fault is Fault.STALLED:
            return self._stalled(timeout_s)
        frame = self._camera.read(timeout_s)
        if frame is None:
            return None
        if self._fault is Fault.GARBAGE:
            raise FrameError(f"{self.name}: depth holds NaN")
        last = self._last
        if self._fault is Fault.REPLAYING and last is not None:
            return replace(last, captured_ns=frame.captured_ns, captured_utc=frame.captured_utc)
        if self._fault is Fault.FROZEN and last is not None:
            return replace(frame, rgb=last.rgb, depth_m=last.depth_m, part_id=last.part_id)
        self._last = frame
        return self._wrongly_timed(frame)

    def close(self) -> None:
        self._hang()
        self._camera.close()
        self.closed += 1

    def reset(self) -> bool:
        self._hang()
        if self._resettable:
            self.mend()
        elif not self._camera.reset():
            return False
        self.resets += 1
        return True

    def health(self) -> SourceHealth:
        return self._says_now(self._camera.health())

    def _stalled(self, timeout_s: float) -> Frame | None:
        end_s = self._clock_s() + timeout_s
        while self._fault is Fault.STALLED and (left_s := end_s - self._clock_s()) > 0:
            self._sleep(min(left_s, 0.05))
        raise CameraStalled(f"{self.name}: sent nothing for {timeout_s:g} s")

    def _hang(self) -> None:
        while self._fault is Fault.HUNG:
            self._sleep(0.01)

    def _wrongly_timed(self, frame: Frame) -> Frame:
        wrong, stamp = self._times, frame.stamp
        if wrong == _Wrong():
            return frame
        if stamp is not None:
            stamp = replace(
                stamp,
                time_s=stamp.time_s + wrong.camera_clock_s,
                colour_time_s=stamp.colour_time_s + wrong.camera_clock_s,
            )
        return replace(frame, captured_ns=frame.captured_ns + round(wrong.arrival_s * 1e9), stamp=stamp)
