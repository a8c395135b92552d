"""Frames to test with."""

from __future__ import annotations

import time

import numpy as np

from edge.clock import utc_now
from edge.frame import Frame, Intrinsics

__all__ = ["flat_frame"]


def flat_frame(
    seq: int = 0,
    *,
    width_px: int = 64,
    height_px: int = 48,
    depth_m: float = 0.3,
    part_height_m: float = 0.0,
    age_s: float = 0.0,
    part_id: str | None = None,
) -> Frame:
    """A grey frame of a flat table `depth_m` away, captured `age_s` ago.

    With `part_height_m` a block of that height stands in its middle, half the frame wide and high.
    """
    depth = np.full((height_px, width_px), depth_m, np.float32)
    rows, columns = slice(height_px // 4, -(height_px // 4)), slice(width_px // 4, -(width_px // 4))
    depth[rows, columns] -= np.float32(part_height_m)
    return Frame(
        rgb=np.full((height_px, width_px, 3), 128, np.uint8),
        depth_m=depth,
        depth_unit_m=0.0001,
        intrinsics=Intrinsics(
            width_px, height_px, float(width_px), float(width_px), (width_px - 1) / 2, (height_px - 1) / 2
        ),
        captured_ns=time.monotonic_ns() - round(age_s * 1e9),
        captured_utc=utc_now(),
        seq=seq,
        source="replay",
        part_id=part_id,
    )
