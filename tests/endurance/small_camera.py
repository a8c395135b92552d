"""A D405 of 64 × 48 pixels made of software, that frames come from by themselves, and what befalls it.

Everything above librealsense's driver is the real thing; the pictures are drawn in microseconds, so that a
daemon can inspect thousands of parts in a minute.
"""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edge.camera.config import LiveCamera
from edge.camera.realsense import RealSenseSource
from edge.camera.software_device import SoftwareD405
from edge.camera.source import FrameSource, SourceHealth
from edge.frame import Frame, Intrinsics

__all__ = ["FPS", "HEIGHT_PX", "SERIAL", "WIDTH_PX", "SmallCamera", "Switch"]

WIDTH_PX, HEIGHT_PX, FPS = 64, 48, 60
SERIAL = "42"

_VIEW = Intrinsics(WIDTH_PX, HEIGHT_PX, 61.25, 60.5, 31.5, 23.5)
_UNIT_M = 0.0001
_TRAY, _PART = 2400, 2280  # depth in units: a part of 12 mm on a tray 0.24 m away
_NOISE = 4
_WHERE = (slice(16, 32), slice(22, 42))  # 78 × 63 mm
_GREY, _MARK = 110, 250
_MARKED = (slice(20, 26), slice(28, 36))
_DEFECTIVE_EVERY = 5

_DAY_S = 86_400.0


class Switch:
    """A word in a file that says what is wrong at the moment, for a process that may be started again."""

    def __init__(self, path: Path | None) -> None:
        self._path = path

    @property
    def word(self) -> str:
        """What it is set to; "" where it is not."""
        if self._path is None:
            return ""
        try:
            return self._path.read_text(encoding="ascii")
        except FileNotFoundError:
            return ""

    def set(self, word: str) -> None:
        if self._path is None:
            raise ValueError("a switch without a file can't be set")
        new = self._path.with_suffix(".new")
        new.write_text(word, encoding="ascii")
        new.replace(self._path)


class SmallCamera(FrameSource):
    """The live source over a software device that makes `FPS` frames a second while it is read.

    Every fifth part has a bright mark, the others are good. What is wrong with it, its switch says:
    `stalled`: it sends nothing; `noise`: nothing but random numbers; `jumped`: its clock is a day ahead;
    `elsewhere`: when it is opened next, it is one that came back from the factory, with other options.
    """

    def __init__(self, config: LiveCamera, switch: Switch) -> None:
        self._switch = switch
        self._device = SoftwareD405(_VIEW, _UNIT_M, fps=FPS, serial=SERIAL)
        self._config = config
        self._live = RealSenseSource(config, device=self._device.device)
        self._rng = np.random.default_rng()
        self._number = 0
        self._tick = 0
        self._next_s = 0.0

    @property
    def name(self) -> str:
        return self._live.name

    def open(self) -> None:
        if self._switch.word == "elsewhere":
            self._device = SoftwareD405(_VIEW, _UNIT_M, fps=FPS, serial=SERIAL)
            self._live._given = self._device.device
        self._live.open()
        self._number = 0

    def read(self, timeout_s: float = 5.0) -> Frame | None:
        word = self._switch.word
        if word != "stalled":
            self._wait_for_exposure()
            self._push(word)
        return self._live.read(timeout_s)

    def close(self) -> None:
        self._live.close()

    def health(self) -> SourceHealth:
        return self._live.health()

    def reset(self) -> bool:
        return self._live.reset()

    def _wait_for_exposure(self) -> None:
        now_s = time.monotonic()
        time.sleep(max(0.0, self._next_s - now_s))
        self._next_s = max(self._next_s, now_s) + 1 / FPS

    def _push(self, word: str) -> None:
        self._number += 1
        self._tick = max(self._tick + 1, int(time.monotonic() * FPS))  # its clock ticks with its frames
        picture = self._noise() if word == "noise" else self._part()
        ahead_s = _DAY_S if word == "jumped" else 0.0
        self._device.push(self._number, *picture, taken_s=self._tick / FPS + ahead_s)

    def _part(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        rgb = np.full((HEIGHT_PX, WIDTH_PX, 3), 40, np.uint8)
        rgb[_WHERE] = _GREY
        if self._tick % _DEFECTIVE_EVERY == 0:
            rgb[_MARKED] = _MARK
        z16 = np.full((HEIGHT_PX, WIDTH_PX), _TRAY, np.int64)
        z16[_WHERE] = _PART
        z16 += self._rng.integers(-_NOISE, _NOISE + 1, z16.shape)
        return rgb, z16.astype(np.uint16)

    def _noise(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint16]]:
        rgb = self._rng.integers(0, 256, (HEIGHT_PX, WIDTH_PX, 3), dtype=np.uint8)
        return rgb, self._rng.integers(0, 65_536, (HEIGHT_PX, WIDTH_PX), dtype=np.uint16)
