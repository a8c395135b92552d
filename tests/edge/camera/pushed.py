"""A software D405 under the live source, with noise under it."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from edge.camera.config import LiveCamera
from edge.camera.realsense import RealSenseSource
from edge.camera.software_device import SoftwareD405
from edge.camera.source import FrameSource, SourceHealth
from edge.frame import Frame, Intrinsics

W, H = 64, 48
VIEW = Intrinsics(W, H, 61.25, 60.5, 32.75, 23.5)


class PushedCamera(FrameSource):
    """The live source over a software device that makes a frame when it is asked for one, in camera time."""

    def __init__(self, device: SoftwareD405 | None = None, **config: Any) -> None:
        self.device = device or SoftwareD405(VIEW, serial="42")
        self.live = RealSenseSource(LiveCamera(width_px=W, height_px=H, **config), device=self.device.device)
        self.push: Callable[[int, float], None] = self.push_noise
        self._number = 0
        self._taken = 0
        self._shown = 0

    @property
    def name(self) -> str:
        return self.live.name

    def noise(self, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        rng = np.random.default_rng(seed)
        rgb = rng.integers(0, 256, (H, W, 3), dtype=np.uint8)
        return rgb, rng.integers(1000, 5000, (H, W)).astype(np.uint16)

    def push_noise(self, number: int, taken_s: float) -> None:
        self._shown += 1  # numbers begin anew with each opening, pictures don't
        self.device.push(number, *self.noise(self._shown), taken_s=taken_s)

    def plug_in(self, device: SoftwareD405) -> None:
        """Instead of the one that is there; found at the next opening."""
        self.device = device
        self.live._given = device.device

    def open(self) -> None:
        self.live.open()
        self._number = 0

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        self._number += 1
        self._taken = max(self._taken + 1, int(time.monotonic() * 30))  # a clock that ticks with the frames
        self.push(self._number, self._taken / 30)
        return self.live.read(timeout_s)

    def close(self) -> None:
        self.live.close()

    def health(self) -> SourceHealth:
        return self.live.health()

    def reset(self) -> bool:
        return self.live.reset()
