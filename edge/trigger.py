"""When to inspect: every frame, or once per part that has come to rest under the camera."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np

from edge.config import EveryFrameTrigger, PartPresentTrigger, TriggerConfig
from edge.depth import fit_background_plane, foreground_mask, height_over_plane
from edge.errors import DepthUnusable
from edge.frame import Frame
from edge.preprocessing import ForegroundConfig

__all__ = ["EveryFrame", "PartPresent", "Trigger", "trigger_from_config"]


class Trigger(ABC):
    """Asked once for each frame, in order."""

    @abstractmethod
    def due(self, frame: Frame) -> bool:
        """Whether this frame is to be inspected; raises `DepthUnusable` where depth can't tell."""


class EveryFrame(Trigger):
    """Each frame is inspected, an empty tray too."""

    def due(self, frame: Frame) -> bool:
        return True


class PartPresent(Trigger):
    """One inspection per part, however long it lies there: when it is there, and still.

    A part is there when the foreground covers `min_area_mm2`; it is still when, for `still_frames` frames
    in a row, neither its area nor its middle moved by more than the configuration allows. The next part
    can come when the foreground has fallen below the lower limit: the two limits keep a part at the edge
    of the view from being inspected twice.
    """

    def __init__(self, config: PartPresentTrigger, foreground: ForegroundConfig) -> None:
        self._config = config
        self._foreground = foreground
        self._armed = True
        self._still = 0
        self._last: tuple[float, float, float] | None = None

    def due(self, frame: Frame) -> bool:
        try:
            area_mm2, x_mm, y_mm = self._measure(frame)
        except DepthUnusable:
            self._still, self._last = 0, None  # what it did meanwhile nobody saw
            raise
        if area_mm2 < self._config.rearm_below_mm2:
            self._armed, self._still, self._last = True, 0, None
            return False
        last, self._last = self._last, (area_mm2, x_mm, y_mm)
        if not self._armed:
            return False
        if area_mm2 < self._config.min_area_mm2:
            self._still = 0
            return False
        moved = last is None or (
            abs(area_mm2 - last[0]) > self._config.still_area_change * area_mm2
            or float(np.hypot(x_mm - last[1], y_mm - last[2])) > self._config.still_move_mm
        )
        self._still = 1 if moved else self._still + 1
        if self._still < self._config.still_frames:
            return False
        self._armed = False
        return True

    def _measure(self, frame: Frame) -> tuple[float, float, float]:
        """Area of the foreground in mm², and its middle on the plane in mm."""
        plane = fit_background_plane(
            frame.depth_m, frame.intrinsics, border_share=self._foreground.border_share
        )
        height_m = height_over_plane(frame.depth_m, plane, frame.intrinsics)  # (H, W)
        pixel_mm = plane.distance_m / frame.intrinsics.fx_px * 1e3
        part = foreground_mask(
            height_m,
            threshold_m=self._foreground.part_threshold_m,
            closing_px=self._foreground.closing_px,
            opening_px=self._foreground.opening_px,
            min_area_px=max(1, round(self._foreground.min_area_mm2 / pixel_mm**2)),
            fill=self._foreground.fill,
        )
        rows, columns = np.nonzero(part)
        if rows.size == 0:
            return 0.0, 0.0, 0.0
        return rows.size * pixel_mm**2, float(columns.mean()) * pixel_mm, float(rows.mean()) * pixel_mm


def trigger_from_config(config: TriggerConfig, foreground: ForegroundConfig) -> Trigger:
    """The trigger that the rig's configuration asks for; `foreground` is that of the bundle."""
    if isinstance(config, EveryFrameTrigger):
        return EveryFrame()
    return PartPresent(config, foreground)
