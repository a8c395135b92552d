"""The live picture: what the camera sees, with the part's outline and where its depth is missing."""

from __future__ import annotations

import cv2
import numpy as np

from edge.capturing.session import Seen
from edge.frame import RgbImage

__all__ = ["live_picture"]

_WELL = (60, 220, 90)
_WORRY = (255, 170, 0)
_MISSING = np.array([255, 0, 200], np.float32)
_OPACITY = 0.6


def live_picture(seen: Seen) -> RgbImage:
    """uint8 (H, W, 3) RGB: the outline green, or amber where something speaks against the frame; magenta
    where the part has no depth."""
    measured = seen.measured
    picture = np.array(measured.frame.rgb)  # (H, W, 3)
    missing = measured.part & (measured.frame.depth_m <= 0)  # (H, W)
    picture[missing] = np.rint((1 - _OPACITY) * picture[missing] + _OPACITY * _MISSING).astype(np.uint8)
    outlines, _ = cv2.findContours(measured.part.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    cv2.drawContours(picture, outlines, -1, _WORRY if seen.worries else _WELL, 2)
    return picture
