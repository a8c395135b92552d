"""When to inspect, seen from the frames: each one, one per interval, or one per part at rest."""

from __future__ import annotations

import math
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from typing_extensions import assert_never

from edge.depth import fill_holes, largest_pieces
from edge.errors import DepthUnusable
from edge.event_trigger import ByCommand, EventTrigger
from edge.frame import Frame
from edge.gpio_trigger import ByGpio
from edge.grounds import Grounds
from edge.messages import TriggerKind
from edge.preprocessing import ForegroundConfig, Ground, ground_of, mask_above
from edge.trigger_config import (
    CommandTrigger,
    EveryFrameTrigger,
    GpioTrigger,
    IntervalTrigger,
    PartPresentTrigger,
    TriggerConfig,
)

__all__ = ["EveryFrame", "Interval", "PartPresent", "Trigger", "trigger_from_config"]

_PIECE_SHARE = 0.2
"""How large a piece of the foreground must be, of the largest, to have a say in where the part lies."""


class Trigger(ABC):
    """A trigger that sees the frames: asked once for each, in order, by one thread.

    `may_skip`: a frame that is due may be passed over for a newer one where the inspection is slower than
    the camera. Of any other trigger each time that it is due gets a verdict.
    """

    kind: ClassVar[TriggerKind]
    may_skip: ClassVar[bool] = False

    @abstractmethod
    def due(self, frame: Frame) -> bool:
        """Whether this frame is to be inspected; raises `DepthUnusable` where depth can't tell."""

    @property
    def late(self) -> int:
        """How often it was due and no frame was there to inspect."""
        return 0


class EveryFrame(Trigger):
    """Each frame is inspected, an empty tray too."""

    kind = TriggerKind.EVERY_FRAME
    may_skip = True

    def due(self, frame: Frame) -> bool:
        return True


class Interval(Trigger):
    """The first frame in each interval; the intervals follow each other without a gap, whatever happens.

    An interval in which no frame came is counted in `late`: the next one is not moved by it. It goes by
    this machine's monotonic clock (`clock`, nanoseconds), not by the frames' times, which a camera may set.
    """

    kind = TriggerKind.INTERVAL

    def __init__(self, config: IntervalTrigger, clock: Callable[[], int] = time.monotonic_ns) -> None:
        self._interval_ns = round(config.interval_s * 1e9)
        self._clock = clock
        self._next_ns: int | None = None
        self._late = 0

    @property
    def late(self) -> int:
        return self._late

    def due(self, frame: Frame) -> bool:
        now_ns = self._clock()
        next_ns = now_ns if self._next_ns is None else self._next_ns
        if now_ns < next_ns:
            return False
        missed = (now_ns - next_ns) // self._interval_ns
        self._late += missed
        self._next_ns = next_ns + (missed + 1) * self._interval_ns
        return True


@dataclass(frozen=True, slots=True)
class _Lie:
    """How the foreground of a frame lies: its area, and the area and middle by which it is held to be still.

    Near the threshold the camera's noise takes whole stretches of a part away from one frame to the next,
    and a part that lies still would never be seen to. So these weigh each pixel by its height: nothing
    at half the threshold, all of it at the threshold.
    """

    area_mm2: float
    weighed_mm2: float
    x_mm: float
    y_mm: float


class PartPresent(Trigger):
    """One inspection per part, however long it lies there: when it is there, and still.

    A part is there when the foreground covers `min_area_mm2`; it is still when, for `still_frames` frames
    in a row, neither its area nor its middle moved by more than the configuration allows. The next part
    can come when the foreground has fallen below the lower limit: the two limits keep a part at the edge
    of the view from being inspected twice.
    """

    kind = TriggerKind.PART_PRESENT

    def __init__(
        self, config: PartPresentTrigger, foreground: ForegroundConfig, grounds: Grounds | None = None
    ) -> None:
        self._config = config
        self._foreground = foreground
        self._grounds = Grounds() if grounds is None else grounds
        self._armed = True
        self._still = 0
        self._last: _Lie | None = None

    def due(self, frame: Frame) -> bool:
        try:
            ground = ground_of(frame.depth_m, frame.intrinsics, self._foreground)
            lie = self._measure(frame, ground)
        except DepthUnusable:
            self._still, self._last = 0, None  # what it did meanwhile nobody saw
            raise
        if lie.area_mm2 < self._config.rearm_below_mm2:
            self._armed, self._still, self._last = True, 0, None
            return False
        last, self._last = self._last, lie
        if not self._armed:
            return False
        if lie.area_mm2 < self._config.min_area_mm2:
            self._still = 0
            return False
        moved = last is None or (
            abs(lie.weighed_mm2 - last.weighed_mm2) > self._config.still_area_change * lie.weighed_mm2
            or math.hypot(lie.x_mm - last.x_mm, lie.y_mm - last.y_mm) > self._config.still_move_mm
        )
        self._still = 1 if moved else self._still + 1
        if self._still < self._config.still_frames:
            return False
        self._armed = False
        self._grounds.keep(frame, ground)
        return True

    def _measure(self, frame: Frame, ground: Ground) -> _Lie:
        height_m, part = ground.height_m, ground.part  # (H, W)
        pixel_mm = ground.plane.distance_m / frame.intrinsics.fx_px * 1e3
        limit_m = self._foreground.part_threshold_m
        if not bool(part.any()):
            return _Lie(0.0, 0.0, 0.0, 0.0)
        low = mask_above(height_m, limit_m / 2, pixel_mm * 1e-3, self._foreground)  # (H, W)
        body = largest_pieces(part | low, share=_PIECE_SHARE)  # (H, W)
        known = (frame.depth_m > 0) | ~body
        filled_m = fill_holes(np.where(body, np.abs(height_m), np.float32(0.0)), known)  # (H, W)
        weight = np.where(body, np.clip(2.0 * filled_m / limit_m - 1.0, 0.0, 1.0), 0.0)  # (H, W)
        total = float(weight.sum())
        if total == 0.0:
            return _Lie(0.0, 0.0, 0.0, 0.0)
        x_px = float(weight.sum(axis=0) @ np.arange(frame.width_px)) / total
        y_px = float(weight.sum(axis=1) @ np.arange(frame.height_px)) / total
        return _Lie(int(part.sum()) * pixel_mm**2, total * pixel_mm**2, x_px * pixel_mm, y_px * pixel_mm)


def trigger_from_config(
    config: TriggerConfig, foreground: ForegroundConfig, grounds: Grounds | None = None
) -> Trigger | EventTrigger:
    """The trigger that the rig's configuration asks for; `foreground` is that of the bundle.

    What it finds of the frames that it lets through it leaves in `grounds`.

    Raises `TriggerError` where it asks for GPIO, and the extra `gpio` is not installed.
    """
    if isinstance(config, EveryFrameTrigger):
        return EveryFrame()
    if isinstance(config, IntervalTrigger):
        return Interval(config)
    if isinstance(config, PartPresentTrigger):
        return PartPresent(config, foreground, grounds)
    if isinstance(config, CommandTrigger):
        return ByCommand(timeout_s=config.timeout_s, lead_s=config.lead_ms / 1e3)
    if isinstance(config, GpioTrigger):
        return ByGpio(config)
    assert_never(config)
