"""What can be said of a frame before it is kept: where the part lies, how sharp, how full, how bright."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from edge.background import height_over_background
from edge.capturing.likeness import Thumbnail, thumbnail_of
from edge.capturing.sharpness import sharpness_of
from edge.depth import BackgroundPlane, Mask
from edge.errors import DepthUnusable
from edge.frame import Frame
from edge.preprocessing import ForegroundConfig, mask_above

__all__ = ["Measured", "foreground_for", "measure"]

_BRIGHT = 254
_DARK = 2
_BORDER_PX = 4
_KNOWN_SHARE = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class Measured:
    """A frame and its figures.

    `part` (H, W), empty where there is none; `plane` the tray's, None (and `unusable` says why) where depth
    does not show it. `fill_share` of the part has depth; `sharpness` of the part; both None without one.
    `bright_share` and `dark_share` of its pixels (else of the frame's) are at an end of the scale.
    """

    frame: Frame
    part: Mask
    plane: BackgroundPlane | None
    unusable: str | None
    area_mm2: float
    fill_share: float | None
    sharpness: float | None
    bright_share: float
    dark_share: float
    at_border: bool
    thumbnail: Thumbnail

    @property
    def has_part(self) -> bool:
        return self.area_mm2 > 0


def foreground_for(part_height_m: float) -> ForegroundConfig:
    """What stands more than that above the tray is the part; stereo's notches in its outline are closed."""
    return ForegroundConfig(part_threshold_m=part_height_m, closing_px=9)


def measure(frame: Frame, foreground: ForegroundConfig) -> Measured:
    """All figures of a frame; none of them fails for what the frame shows."""
    plane, unusable = None, None
    part = np.zeros(frame.depth_m.shape, dtype=bool)  # (H, W)
    area_mm2 = 0.0
    try:
        plane, height_m = height_over_background(
            frame.depth_m, frame.intrinsics, foreground.background, foreground.border_share
        )  # height_m (H, W)
    except DepthUnusable as error:
        unusable = str(error)
    else:
        pixel_m = plane.distance_m / frame.intrinsics.fx_px
        part = mask_above(height_m, foreground.part_threshold_m, pixel_m, foreground)
        area_mm2 = float(part.sum()) * (pixel_m * 1e3) ** 2
    there = area_mm2 > 0
    looked_at = frame.rgb[part] if there else frame.rgb.reshape(-1, 3)  # (k, 3)
    return Measured(
        frame=frame,
        part=part,
        plane=plane,
        unusable=unusable,
        area_mm2=area_mm2,
        fill_share=float((frame.depth_m[part] > 0).mean()) if there else None,
        sharpness=sharpness_of(frame.rgb, part),
        bright_share=float((looked_at >= _BRIGHT).any(axis=1).mean()),
        dark_share=float((looked_at <= _DARK).all(axis=1).mean()),
        at_border=_at_border(part, frame.depth_m > 0),
        thumbnail=thumbnail_of(frame, part, plane.rms_m if plane is not None else 0.0),
    )


def _at_border(part: Mask, valid: Mask) -> bool:
    """Whether the part reaches the border of what has depth: stereo has none in a strip on the left."""
    columns, rows = np.asarray(part.any(axis=0)), np.asarray(part.any(axis=1))  # (W,), (H,)
    return any(
        bool(there[: first + _BORDER_PX].any() or there[last + 1 - _BORDER_PX :].any())
        for there, (first, last) in ((columns, _known(valid, 0)), (rows, _known(valid, 1)))
    )


def _known(valid: Mask, axis: int) -> tuple[int, int]:
    """The first and the last column (axis 0) or row (1) of which enough has depth."""
    found = np.flatnonzero(valid.mean(axis=axis) >= _KNOWN_SHARE)
    return (int(found[0]), int(found[-1])) if found.size else (0, valid.shape[1 - axis] - 1)
