"""By how much the camera leans over the tray, and which way to turn it."""

from __future__ import annotations

import math

from edge.depth import BackgroundPlane

__all__ = ["LEVEL_DEG", "tilt_of", "turning"]

LEVEL_DEG = 0.3
"""Nearer than that nobody levels a camera by hand; one frame's figure strays by 0.03°."""


def tilt_of(plane: BackgroundPlane) -> tuple[float, float]:
    """(about x, about y) in degrees: how the tray falls away towards the top, and towards the right.

    The angles at which the tray's slope is seen from the side and from below, so tan² of the whole tilt is
    the sum of theirs. A camera that is turned right-handed about its own x (right) or y axis (down) by φ over
    a level tray gets φ.
    """
    a, b, g = plane.inverse_m
    return math.degrees(math.atan2(b, g)), math.degrees(math.atan2(-a, g))


def turning(tilt_x_deg: float, tilt_y_deg: float, *, least_deg: float = LEVEL_DEG) -> str | None:
    """Which way to turn the camera so that these tilts vanish, in a clause; None where both are small.

    Sides are those of the picture, since that is what stands before whoever turns the camera.
    """
    turns = []
    for tilt_deg, further, nearer in ((tilt_x_deg, "top", "bottom"), (tilt_y_deg, "right", "left")):
        if abs(tilt_deg) >= least_deg:
            side = further if tilt_deg > 0 else nearer
            turns.append(f"by {abs(tilt_deg):.1f}° so that its {side} side comes nearer to the tray")
    return f"turn the camera {' and '.join(turns)} (sides as in the picture)" if turns else None
