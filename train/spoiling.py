"""A simulated defect put into a real frame: as its surface would look with it, and only where it shows.

Height and colour are cut out of the frame as a relief, the defect is applied to that, and what it changed
is written back: depth by the difference of heights, so that the camera's noise and its missing pixels stay;
colour by how much more or less light the changed slopes would take from a lamp. A pixel that the defect does
not reach keeps every bit, so that nothing but the defect tells the two frames apart.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from edge.depth import BackgroundPlane, Mask, fill_holes, height_over_plane
from edge.errors import TrainingError
from edge.frame import Frame
from edge.preprocessing import Preprocessing, preprocess
from edge.simulation.defects import apply_defect
from edge.simulation.lighting import Light, shade
from edge.simulation.relief import FloatImage, Relief, float_image

__all__ = ["Spoiled", "spoil"]

# What counts as changed in the mask: as in the simulated rig, a quarter of a millimetre, ten grey levels.
_SEEN_HEIGHT_M = 0.25e-3
_SEEN_COLOUR = 0.04
_LEAST_PX = {"dent": 45, "foreign_same": 45}
_LEAST_COLOURED_PX = 16
_TRIES = 12
_MARGIN_M = 12e-3
"""Room around the part, for a foreign body on its edge and the shadow that it casts."""
_SHADOW_REACH_M = 6e-3


@dataclass(frozen=True, slots=True, eq=False)
class Spoiled:
    """A frame with a defect in it, and where it is: `mask` bool (H, W)."""

    frame: Frame
    mask: Mask


@dataclass(frozen=True, slots=True, eq=False)
class _Cut:
    """A part cut out of a frame: its relief, and what is needed to put it back.

    `exposure` is the linear brightness of what is brightest on the part, to which the albedo is relative.
    `depth_per_height` (h, w) says how much nearer a pixel is for a metre of height.
    """

    window: tuple[slice, slice]
    relief: Relief
    exposure: float
    depth_per_height: FloatImage


def spoil(
    frame: Frame, preprocessing: Preprocessing, kind: str, rng: np.random.Generator, severity: float = 1.0
) -> Spoiled:
    """The frame of a good part with one defect of that kind (`edge.simulation.DEFECTS`), drawn from `rng`.

    Sizes are absolute, millimetres as in `apply_defect`; one that does not show is drawn anew, a little
    larger each time. Raises `ConfigError` for an unknown kind, `DepthUnusable` where the background can't be
    found, `TrainingError` where no defect shows on the part.
    """
    cut = _cut_out(frame, preprocessing)
    least_px = _LEAST_PX.get(kind, _LEAST_COLOURED_PX) * (frame.height_px / 480) ** 2
    for attempt in range(_TRIES):
        bad = apply_defect(kind, cut.relief, rng, severity * 1.1**attempt)
        mask = np.zeros(frame.depth_m.shape, dtype=np.bool_)
        mask[cut.window] = _changed(cut, bad)
        if int(mask.sum()) < least_px:
            continue
        spoiled = _written_back(frame, cut, bad, rng)
        # Deep in a bore there may be neither light nor depth: nobody could find a defect there.
        if float((_visible(frame, spoiled) & mask).sum()) >= max(least_px, 0.5 * float(mask.sum())):
            return Spoiled(spoiled, mask)
    raise TrainingError(
        f"{frame.source}, {frame.part_id}: no {kind} of severity {severity:g} shows on {least_px:.0f} pixels "
        f"of the part in {_TRIES} tries; raise the severity"
    )


def _cut_out(frame: Frame, preprocessing: Preprocessing) -> _Cut:
    prepared = preprocess(frame, preprocessing, frozenset())
    part, plane = prepared.part, prepared.plane
    if not bool(part.any()):
        raise TrainingError(f"{frame.source}, {frame.part_id}: shows no part to put a defect on")
    window = _window_around(part, round(_MARGIN_M / (prepared.pixel_mm * 1e-3)))
    height_m = height_over_plane(frame.depth_m, plane, frame.intrinsics)[window]  # (h, w)
    solid = part[window]
    known = (frame.depth_m[window] > 0) & solid
    height_m = fill_holes(np.where(known, height_m, np.float32(0)), known | ~solid)
    linear = float_image(frame.rgb.astype(np.float32) / 255) ** 2  # (H, W, 3)
    exposure = float(np.clip(np.quantile(linear[part].max(axis=1), 0.98), 0.1, 1.0))
    return _Cut(
        window=window,
        relief=Relief(
            height_m=np.where(solid, np.maximum(height_m, 0), np.float32(0)),
            solid=solid,
            albedo=linear[window]
            / np.float32(exposure),  # above 1 in a highlight; cut off, it would be tinted
            gloss=np.zeros(solid.shape, dtype=np.float32),  # what shines already does so in the picture
            cell_m=prepared.pixel_mm * 1e-3,
        ),
        exposure=exposure,
        depth_per_height=_depth_per_height(frame, plane)[window],
    )


def _window_around(part: Mask, margin_px: int) -> tuple[slice, slice]:
    rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
    height, width = part.shape
    return (
        slice(max(0, int(rows[0]) - margin_px), min(height, int(rows[-1]) + margin_px + 1)),
        slice(max(0, int(columns[0]) - margin_px), min(width, int(columns[-1]) + margin_px + 1)),
    )


def _depth_per_height(frame: Frame, plane: BackgroundPlane) -> FloatImage:
    """(H, W): the depth along a pixel's ray falls by this much for a metre of height over the plane.

    height = (1 − Z / ground) · distance, with `ground` the plane's own depth along the ray.
    """
    columns = np.arange(frame.width_px, dtype=np.float32)[None, :]
    rows = np.arange(frame.height_px, dtype=np.float32)[:, None]
    return float_image(plane.depth_at(columns, rows, frame.intrinsics) / np.float32(plane.distance_m))


def _visible(good: Frame, bad: Frame) -> Mask:
    """Where two frames differ so that it can be seen, in depth or colour; (H, W)."""
    deeper = np.abs(bad.depth_m - good.depth_m) > np.float32(_SEEN_HEIGHT_M)
    repainted = cv2.absdiff(good.rgb, bad.rgb).max(axis=2) > 255 * _SEEN_COLOUR
    return np.asarray(deeper | repainted)


def _changed(cut: _Cut, bad: Relief) -> Mask:
    """Where the defect itself changes the surface, without the shadow that it casts; (h, w)."""
    good = cut.relief
    deeper = np.abs(bad.height_m - good.height_m) > np.float32(_SEEN_HEIGHT_M)
    repainted = np.abs(np.sqrt(bad.albedo) - np.sqrt(good.albedo)).max(axis=2) * np.float32(cut.exposure**0.5)
    return np.asarray((deeper | (repainted > np.float32(_SEEN_COLOUR))) & (good.solid | bad.solid))


def _written_back(frame: Frame, cut: _Cut, bad: Relief, rng: np.random.Generator) -> Frame:
    good, window = cut.relief, cut.window
    rise_m = bad.height_m - good.height_m  # (h, w)
    depth_m = np.array(frame.depth_m)
    there = (depth_m[window] > 0) & (rise_m != 0)
    moved = depth_m[window] - rise_m * cut.depth_per_height
    depth_m[window] = np.where(there, moved, depth_m[window])

    painted = np.any(bad.albedo != good.albedo, axis=2)
    near = _reached((rise_m != 0) | painted, _SHADOW_REACH_M / good.cell_m)  # (h, w) 0 to 1
    linear = _lit(cut, bad, rise_m, rng)  # (h, w, 3)
    edge = painted ^ cv2.erode(painted.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool)
    edge |= cv2.dilate(painted.astype(np.uint8), np.ones((3, 3), np.uint8)).astype(bool) & ~painted
    # A lens does not end a colour between two pixels.
    linear = np.where(edge[..., None], float_image(cv2.GaussianBlur(linear, (0, 0), 0.8)), linear)
    before = frame.rgb[window]
    colour = np.sqrt(np.clip(linear, 0, 1)) * 255 * near[..., None] + before * (1 - near[..., None])
    rgb = np.array(frame.rgb)
    rgb[window] = np.where(near[..., None] > 0, np.rint(colour), before).astype(np.uint8)
    return replace(frame, rgb=rgb, depth_m=depth_m)


def _lit(cut: _Cut, bad: Relief, rise_m: FloatImage, rng: np.random.Generator) -> FloatImage:
    """Linear colour (h, w, 3) of the part with its defect: the frame's own, times the change of its light."""
    good = cut.relief
    height, azimuth = rng.uniform(0.75, 0.95), rng.uniform(0, 2 * np.pi)
    level = (1 - height**2) ** 0.5
    lamp = Light((level * np.cos(azimuth), level * np.sin(azimuth), height), 0.5, (1.0, 1.0, 1.0))
    # The camera's noise is no slope; what the defect changes is.
    calm_m = float_image(cv2.GaussianBlur(good.height_m, (0, 0), 2.0))
    white, dull = np.ones_like(good.albedo), np.zeros_like(good.gloss)
    before = shade(replace(good, height_m=calm_m, albedo=white, gloss=dull), lamp)[0]  # (h, w, 3)
    # A body that was laid on hides what is beneath it, and its colour has no light and shade in it yet.
    own = (bad.gloss > 0) & np.any(bad.albedo != good.albedo, axis=2)  # (h, w)
    shape = replace(bad, height_m=np.where(own, bad.height_m, np.maximum(calm_m + rise_m, 0)))
    after = shade(replace(shape, albedo=white, gloss=dull), lamp)[0]
    change = np.clip(after / np.maximum(before, 0.05), 0.2, 2.0)
    lit = np.where(own[..., None], shade(shape, lamp)[0], bad.albedo * change)
    return float_image(lit * np.float32(cut.exposure))


def _reached(changed: npt.NDArray[np.bool_], reach_px: float) -> FloatImage:
    """1 where something changed, falling to 0 over `reach_px` around it; (h, w)."""
    distance = float_image(cv2.distanceTransform((~changed).astype(np.uint8), cv2.DIST_L2, 5))
    return float_image(np.clip(1 - distance / np.float32(reach_px), 0, 1))
