"""What a camera saw at one moment: colour and depth, with the units and the optics to read them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime, timezone

import numpy as np
import numpy.typing as npt

from edge.errors import FrameError

__all__ = ["CameraStamp", "DepthImage", "Frame", "Intrinsics", "RgbImage"]

RgbImage = npt.NDArray[np.uint8]
"""(H, W, 3), 8 bit, red first."""

DepthImage = npt.NDArray[np.float32]
"""(H, W), metres along the optical axis, 0 = invalid."""


@dataclass(frozen=True, slots=True)
class Intrinsics:
    """A pinhole camera without distortion: how pixels of a frame become rays.

    `fx_px`, `fy_px`: focal lengths; `cx_px`, `cy_px`: principal point, measured from the centre of the
    top-left pixel (it may lie outside a cropped image). All in pixels of a `width_px` × `height_px` frame.
    """

    width_px: int
    height_px: int
    fx_px: float
    fy_px: float
    cx_px: float
    cy_px: float

    def __post_init__(self) -> None:
        if self.width_px < 1 or self.height_px < 1:
            raise FrameError(
                f"intrinsics for a {self.width_px}×{self.height_px} frame; both must be positive"
            )
        values = (self.fx_px, self.fy_px, self.cx_px, self.cy_px)
        if not all(math.isfinite(v) for v in values) or self.fx_px <= 0 or self.fy_px <= 0:
            raise FrameError(
                f"intrinsics fx={self.fx_px} fy={self.fy_px} cx={self.cx_px} cy={self.cy_px} px are not a "
                "camera's; read them from the device, or mend `intrinsics` in capture.yaml"
            )


@dataclass(frozen=True, slots=True)
class CameraStamp:
    """What a camera itself says of a frame: the numbers of its two images, and when it took them.

    The numbers begin anew when the camera is opened. The times are on the camera's own clock, or on the
    wall clock of the machine where the camera has none to offer (`wall_clock`); they say how much time
    lies between two frames, no more.
    """

    number: int
    colour_number: int
    time_s: float
    colour_time_s: float
    wall_clock: bool


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One aligned pair of colour and depth; validated when made, its arrays read-only and its own.

    `rgb` uint8 (H, W, 3); `depth_m` float32 (H, W) in metres, 0 = invalid; `depth_unit_m` the step of the
    integers that the depth was read from (1.0 where it was stored as metres); `captured_ns` monotonic
    clock, `captured_utc` wall clock, both of the moment at which the frame arrived; `seq` counts the
    frames of one source from 0; `source` names the camera (its serial) or the folder;
    `part_id` is the part's own name where the source knows it (a file, a serial), else None; `stamp` is
    what the camera says of the frame; `stale` says in a sentence why the frame does not show what is under
    the camera now, None where nothing speaks against it: such a frame gives no decision.

    Raises `FrameError` where an array has another shape or dtype, or depth is negative, NaN or infinite.
    """

    rgb: RgbImage
    depth_m: DepthImage
    depth_unit_m: float
    intrinsics: Intrinsics
    captured_ns: int
    captured_utc: datetime
    seq: int
    source: str
    part_id: str | None = None
    stamp: CameraStamp | None = None
    stale: str | None = None

    def __post_init__(self) -> None:
        height, width = self.intrinsics.height_px, self.intrinsics.width_px
        if self.rgb.dtype != np.uint8 or self.rgb.shape != (height, width, 3):
            raise FrameError(
                f"{self._name()}: rgb is {self.rgb.dtype}{self.rgb.shape}, must be uint8{(height, width, 3)}"
            )
        if self.depth_m.dtype != np.float32 or self.depth_m.shape != (height, width):
            raise FrameError(
                f"{self._name()}: depth_m is {self.depth_m.dtype}{self.depth_m.shape}, must be "
                f"float32{(height, width)}; depth must be aligned to colour"
            )
        if not math.isfinite(self.depth_unit_m) or self.depth_unit_m <= 0:
            raise FrameError(f"{self._name()}: depth_unit_m is {self.depth_unit_m}; read it from the device")
        # NaN and inf are a driver's or a writer's mistake: the one code for "no depth" is 0.
        wrong = ~np.isfinite(self.depth_m) | (self.depth_m < 0)  # (H, W)
        if bool(wrong.any()):
            row, column = np.argwhere(wrong)[0]
            raise FrameError(
                f"{self._name()}: {int(wrong.sum())} of {wrong.size} values of depth_m are NaN, infinite or "
                f"negative, the first is {self.depth_m[row, column]} in row {row}, column {column}; the code "
                "for missing depth is 0"
            )
        if self.captured_utc.tzinfo is None or self.captured_utc.utcoffset() != timezone.utc.utcoffset(None):
            raise FrameError(
                f"{self._name()}: captured_utc {self.captured_utc} is not in UTC; give it tzinfo=timezone.utc"
            )
        object.__setattr__(self, "rgb", _own(self.rgb))
        object.__setattr__(self, "depth_m", _own(self.depth_m))

    @property
    def height_px(self) -> int:
        return self.intrinsics.height_px

    @property
    def width_px(self) -> int:
        return self.intrinsics.width_px

    def _name(self) -> str:
        return f"frame {self.seq} of {self.source}" + (f" ({self.part_id})" if self.part_id else "")


def _own(array: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
    """A contiguous read-only copy: a driver's buffer is reused, and pins its memory while it is looked at."""
    copy = np.array(array, order="C", copy=True)
    copy.setflags(write=False)
    return copy
