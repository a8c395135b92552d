"""The one interface behind which every camera stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import TracebackType

from typing_extensions import Self

from edge.frame import Frame

__all__ = ["CareCounts", "FrameSource", "SourceHealth"]


@dataclass(frozen=True, slots=True)
class CareCounts:
    """What it took to keep a camera going, since the first `open`.

    `reopened` how often it went away and came back, `attempts` how often it was opened again for that,
    `resets` of its hardware; `stale`, `garbage` and `time_jumps` count frames; `down_s` and `down_reason`
    (one stable word) say how long it has been away and why, None while it is there.
    """

    reopened: int = 0
    attempts: int = 0
    resets: int = 0
    stale: int = 0
    garbage: int = 0
    time_jumps: int = 0
    down_s: float | None = None
    down_reason: str | None = None


@dataclass(frozen=True, slots=True)
class SourceHealth:
    """How a source feels: counters since `open`, and what it knows of its camera.

    `frames` delivered; `gaps` frames lost before they reached us, None where the camera does not say;
    `serial`, `firmware`, `usb` as the device gives them; `temperature_c` of the ASIC where supported;
    `details` what else an operator would want to read; `depth_unit_m` and `options` (by name) as the camera
    holds them; `metadata` whether frames carry the camera's own count (without it lost frames can't be
    seen), None where no frame has come or there is no camera; `care` where somebody looks after it.
    """

    frames: int
    gaps: int | None = None
    serial: str | None = None
    firmware: str | None = None
    usb: str | None = None
    temperature_c: float | None = None
    details: dict[str, str] = field(default_factory=dict)
    depth_unit_m: float | None = None
    options: dict[str, float] = field(default_factory=dict)
    metadata: bool | None = None
    care: CareCounts | None = None


class FrameSource(ABC):
    """Where frames come from: a camera, a recording, a folder, a simulated rig.

    `open`, then `read` until it returns None (the source has ended: only a recording, a folder or a
    bounded simulation does), then `close`. One thread owns a source. Also a context manager and an
    iterator over its frames.
    """

    @property
    @abstractmethod
    def name(self) -> str:
        """What this source is, for messages: a serial, a path."""

    @abstractmethod
    def open(self) -> None:
        """Make ready to read; raises `CameraError` at once where that can't be."""

    @abstractmethod
    def read(self, timeout_s: float = 5.0) -> Frame | None:
        """The next frame, or None at the source's end.

        Raises `CameraStalled` after `timeout_s` without one, `CameraLost`, `RecordingCorrupt`,
        `CaptureError` or `FrameError`.
        """

    @abstractmethod
    def close(self) -> None:
        """Release the camera; harmless when called twice."""

    @abstractmethod
    def health(self) -> SourceHealth:
        """How the source feels now; may be called from another thread."""

    def reset(self) -> bool:
        """Reset the hardware, between `close` and `open`; False where there is none that could be reset.

        Raises `CameraError` where there is, and it fails.
        """
        return False

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __iter__(self) -> Iterator[Frame]:
        while (frame := self.read()) is not None:
            yield frame
