"""What must not change when a camera comes back: a threshold holds for what it was found with."""

from __future__ import annotations

import logging
import math
import re

from edge.camera.config import CareConfig
from edge.camera.source import SourceHealth
from edge.errors import (
    CameraOptionRefused,
    CameraReplaced,
    CameraUsbSlow,
    CameraViewChanged,
    DepthUnitWrong,
)
from edge.frame import Frame, Intrinsics

__all__ = ["Identity"]

_log = logging.getLogger(__name__)

_SAME = 1e-6
"""Options and intrinsics come through float32; the same number twice differs by no more."""


class Identity:
    """What a camera was when it was first opened; checked at each opening and at its first frame.

    One thread owns it.
    """

    def __init__(self, care: CareConfig) -> None:
        self._care = care
        self._serial: str | None = None
        self._unit_m = care.depth_unit_m
        self._options: dict[str, float] | None = None
        self._intrinsics: Intrinsics | None = None
        self.replaced = 0

    def check_opened(self, name: str, health: SourceHealth) -> None:
        """Raises `CameraUsbSlow`, `CameraReplaced`, `DepthUnitWrong` or `CameraOptionRefused`."""
        self._check_usb(name, health.usb)
        self._check_serial(name, health.serial)
        if health.depth_unit_m is not None:
            self._check_unit(name, health.depth_unit_m)
        self._check_options(name, health.options)

    def check_frame(self, frame: Frame) -> None:
        """The first frame of an opening; raises `DepthUnitWrong` or `CameraViewChanged`."""
        self._check_unit(frame.source, frame.depth_unit_m)
        before, now = self._intrinsics, frame.intrinsics
        if before is not None and not _same_view(before, now):
            raise CameraViewChanged(
                f"{frame.source}: has the intrinsics {_view(now)} and had {_view(before)} before; if it was "
                "calibrated anew, or is another camera, check the threshold with good parts and restart the "
                "daemon; else reset the camera"
            )
        self._intrinsics = now

    def _check_usb(self, name: str, usb: str | None) -> None:
        version = re.match(r"(\d+)", usb or "")
        if version is None or int(version[1]) >= 3 or self._care.allow_usb2:
            return
        raise CameraUsbSlow(
            f"{name}: is connected by USB {usb}, which can't carry its depth and colour; take a USB 3 cable "
            "of at most 2 m and a USB 3 port, and plug it in again, or set camera.care.allow_usb2 if its "
            "resolution and fps are low enough"
        )

    def _check_serial(self, name: str, serial: str | None) -> None:
        before = self._serial
        if serial is None or serial == before:
            return
        if before is not None and not self._care.allow_other_camera:
            raise CameraReplaced(
                f"{name}: has the serial {serial}, and the rig began with {before}; plug that one in again, "
                "or calibrate with this one and restart the daemon (camera.care.allow_other_camera takes "
                "any camera: its depth differs by more than a threshold's margin)"
            )
        self._serial = serial
        if before is not None:
            _log.warning("camera %s has taken the place of %s", serial, before)
            self.replaced += 1
            self._intrinsics = None  # each camera has its own

    def _check_unit(self, name: str, unit_m: float) -> None:
        expected_m = self._unit_m
        if expected_m is not None and not math.isclose(unit_m, expected_m, rel_tol=_SAME):
            since = "camera.care.depth_unit_m expects" if self._care.depth_unit_m else "it was before"
            raise DepthUnitWrong(
                f"{name}: counts depth in {unit_m:g} m, {since} {expected_m:g} m; set the camera's depth "
                "unit back (a D405 counts in 0.0001 m), or reset the camera"
            )
        self._unit_m = unit_m

    def _check_options(self, name: str, options: dict[str, float]) -> None:
        before = self._options
        if before is not None:
            for option in sorted(before.keys() | options.keys()):
                was, now = before.get(option), options.get(option)
                if was is None or now is None or not math.isclose(was, now, rel_tol=_SAME, abs_tol=_SAME):
                    raise CameraOptionRefused(
                        f"{name}: {option} reads {_shown(now)} and was {_shown(was)} when the rig began; "
                        "name it in camera.options, so that it is set each time, or find who changes it"
                    )
        self._options = dict(options)


def _same_view(a: Intrinsics, b: Intrinsics) -> bool:
    return (a.width_px, a.height_px) == (b.width_px, b.height_px) and all(
        math.isclose(x, y, rel_tol=_SAME)
        for x, y in ((a.fx_px, b.fx_px), (a.fy_px, b.fy_px), (a.cx_px, b.cx_px), (a.cy_px, b.cy_px))
    )


def _view(view: Intrinsics) -> str:
    return (
        f"{view.width_px}×{view.height_px}, f ({view.fx_px:.3f}, {view.fy_px:.3f}) px, "
        f"c ({view.cx_px:.3f}, {view.cy_px:.3f}) px"
    )


def _shown(value: float | None) -> str:
    return "missing" if value is None else f"{value:g}"
