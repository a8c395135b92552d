"""How far a frame's scene lies from the tray as it was learnt, and which drift is worth a warning."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.scene.config import SceneLimits
from edge.scene.figures import PlaneFigures, SceneFigures
from edge.scene.health import SceneDrift, SceneReason
from edge.scene.look import Look
from edge.scene.tilt import turning
from edge.scene.tray import Tray

__all__ = ["Excess", "LearntCells", "drifts"]

_LUMINANCE = np.array([0.2126, 0.7152, 0.0722], dtype=np.float32)  # of linear light, ITU-R BT.709
_DARK = np.float32(1e-4)
_LEAST_NOISE_MM = 0.02
"""Ideal depth has none, and nothing divides by it."""

_Float = npt.NDArray[np.float32]


class LearntCells:
    """The grid of a tray, ready to be compared with that of a frame."""

    def __init__(self, tray: Tray) -> None:
        self._tray = tray
        self._light = np.array(tray.cell_light, dtype=np.float32)  # (rows, columns, 3)
        self._fill = np.array(tray.cell_fill, dtype=np.float32)  # (rows, columns)

    def drift_of(self, look: Look) -> SceneDrift:
        """The drift that one frame shows."""
        light = np.nanmedian(_bright(look.light) / _bright(self._light))
        red, blue = (
            np.nanmedian(_to_green(look.light, channel) / _to_green(self._light, channel))
            for channel in (0, 2)
        )
        now, learnt = look.figures, self._tray
        plane = None if now.plane is None else (now.plane, learnt.plane)
        return SceneDrift(
            tilt_x_deg=plane and plane[0].tilt_x_deg - plane[1].tilt_x_deg,
            tilt_y_deg=plane and plane[0].tilt_y_deg - plane[1].tilt_y_deg,
            distance_share=plane and plane[0].distance_mm / plane[1].distance_mm - 1,
            noise_share=plane and _noise_share(*plane),
            fill_share=float(np.nanmean(look.fill - self._fill)),
            clipped_share=now.light.clipped_share - learnt.light.clipped_share,
            light_share=float(light) - 1,
            red_to_green_share=float(red) - 1,
            blue_to_green_share=float(blue) - 1,
        )


def _bright(light: _Float) -> _Float:
    return np.asarray(np.maximum(light @ _LUMINANCE, _DARK), dtype=np.float32)


def _to_green(light: _Float, channel: int) -> _Float:
    floor = np.maximum(light, _DARK)
    return np.asarray(floor[..., channel] / floor[..., 1], dtype=np.float32)


def _noise_share(now: PlaneFigures, learnt: PlaneFigures) -> float:
    return max(now.noise_mm, _LEAST_NOISE_MM) / max(learnt.noise_mm, _LEAST_NOISE_MM) - 1


@dataclass(frozen=True, slots=True)
class Excess:
    """One kind of drift: `share` is what it is of its limit, so above 1 is too far."""

    reason: SceneReason
    share: float
    detail: str


def drifts(
    drift: SceneDrift, now: SceneFigures, learnt: SceneFigures, limits: SceneLimits
) -> Iterator[Excess]:
    """Each kind of drift in terms of its limit, with a sentence that says how much and what to do.

    Those that are told by the plane are left out where there is none.
    """
    if now.plane is None or learnt.plane is None:
        yield Excess(
            SceneReason.PLANE_LOST,
            math.inf,
            "the tray's plane is found in less than half of the frames; clear the tray's border, and see to "
            "light and lens",
        )
    else:
        yield Excess(SceneReason.PLANE_LOST, 0.0, "")
        yield from _place(drift, now.plane, learnt.plane, limits)
    yield Excess(
        SceneReason.FILL_LOW,
        -drift.fill_share / limits.fill_share,
        f"depth is missing on {-drift.fill_share:.0%} more of the tray than at set-up "
        f"({now.fill_share:.0%} has depth now); clean the lens, see to light and reflections",
    )
    yield from _light(drift, now, learnt, limits)


def _place(
    drift: SceneDrift, now: PlaneFigures, learnt: PlaneFigures, limits: SceneLimits
) -> Iterator[Excess]:
    about_x, about_y = drift.tilt_x_deg or 0.0, drift.tilt_y_deg or 0.0
    tilt_deg = math.degrees(math.atan(math.hypot(*(math.tan(math.radians(t)) for t in (about_x, about_y)))))
    back = turning(about_x, about_y) or "turn the camera back"
    yield Excess(
        SceneReason.CAMERA_TILTED,
        tilt_deg / limits.tilt_deg,
        f"the camera leans {tilt_deg:.1f}° from where it was at set-up: {back}, and see what came loose",
    )
    moved_mm = now.distance_mm - learnt.distance_mm
    which = "further from" if moved_mm > 0 else "nearer to"
    yield Excess(
        SceneReason.CAMERA_MOVED,
        abs(drift.distance_share or 0.0) / limits.distance_share,
        f"the camera is {abs(moved_mm):.1f} mm {which} the tray than at set-up ({now.distance_mm:.1f} mm, "
        f"was {learnt.distance_mm:.1f} mm): move it back",
    )
    yield Excess(
        SceneReason.DEPTH_NOISY,
        (drift.noise_share or 0.0) / limits.noise_share,
        f"depth strays by {now.noise_mm:.2f} mm over the tray, at set-up by {learnt.noise_mm:.2f} mm: clean "
        "the lens, see to light and focus",
    )


def _light(
    drift: SceneDrift, now: SceneFigures, learnt: SceneFigures, limits: SceneLimits
) -> Iterator[Excess]:
    brightness = f"median {now.light.luma:.0f} of 255, at set-up {learnt.light.luma:.0f}"
    yield Excess(
        SceneReason.LIGHT_LOW,
        -drift.light_share / limits.light_share,
        f"the tray gets {-drift.light_share:.0%} less light than at set-up ({brightness}): see to the lamps, "
        "the lens, and the camera's exposure and gain",
    )
    yield Excess(
        SceneReason.LIGHT_HIGH,
        drift.light_share / limits.light_share,
        f"the tray gets {drift.light_share:.0%} more light than at set-up ({brightness}): keep daylight and "
        "other lamps off it, see to the camera's exposure and gain",
    )
    yield Excess(
        SceneReason.LIGHT_CLIPPED,
        drift.clipped_share / limits.clipped_share,
        f"{now.light.clipped_share:.1%} of the tray is overexposed, at set-up "
        f"{learnt.light.clipped_share:.1%}: shade what is reflected, or lower the exposure",
    )
    red, blue = drift.red_to_green_share, drift.blue_to_green_share
    yield Excess(
        SceneReason.COLOUR_SHIFTED,
        max(abs(red), abs(blue)) / limits.colour_share,
        f"against green the tray has {red:+.0%} of red and {blue:+.0%} of blue since set-up: see to the "
        "lamps' kind, daylight, and the camera's white balance",
    )
