"""The score that decides: that of the map, by the region rules of a calibration; both sides call this."""

from __future__ import annotations

import math
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from edge.depth import Mask
from edge.errors import CalibrationError
from edge.framing import View
from edge.region_rules import RegionRules, Zone
from edge.scoring import ScoreSpec, image_score

__all__ = ["NoPieceSoLarge", "RuledMap", "RuledScore", "cell_mm2_of", "level_of_area", "zone_mask"]

_Float = npt.NDArray[np.float32] | npt.NDArray[np.float64]

_HAIR = 1e-9
"""An area that is a whole number of cells on paper must not ask for one more because floats miss it."""


class NoPieceSoLarge(CalibrationError):
    """What the model saw of the part covers less than `min_area_mm2`: nothing of it could ever fail."""


@dataclass(frozen=True, slots=True, eq=False)
class RuledMap:
    """A map (side, side) by the rules, where it counts, and how many cells a fail has at least."""

    square: _Float
    counts: Mask
    min_cells: int = 1

    def above(self, threshold: float) -> Mask:
        """(side, side) what lies above a threshold, at full precision, as the score is compared."""
        return (self.square.astype(np.float64) > threshold) & self.counts


class RuledScore:
    """The score function of one model with one calibration's rules; `side` is that of the depth square.

    "score > threshold means fail" stays true, for the threshold that the map was ruled by. Raises
    `CalibrationError` where the rules don't go with the kind of score.
    """

    def __init__(self, spec: ScoreSpec, rules: RegionRules | None, side: int) -> None:
        rules = rules or RegionRules()
        if spec.kind != "max" and (rules.min_area_mm2 is not None or rules.scales):
            raise CalibrationError(
                f"region rules with an area or a zone's own threshold go with a score of kind max, this "
                f"model's is {spec.kind}: the whole part's score says nothing of one place; leave them out"
            )
        self._spec = spec
        self._min_area_mm2 = rules.min_area_mm2
        self._ignored: Mask | None = None
        self._limits: npt.NDArray[np.float64] | None = None  # (side, side) the zones' thresholds, else inf
        self._limiting: list[tuple[str, Mask, float]] = []
        for zone in rules.zones:
            inside = zone_mask(zone, side)
            if zone.threshold is None:
                self._ignored = inside if self._ignored is None else self._ignored | inside
            else:
                before = np.full((side, side), np.inf) if self._limits is None else self._limits
                self._limits = np.where(inside, np.minimum(before, zone.threshold), before)
                self._limiting.append((zone.name, inside, zone.threshold))

    def ruled(
        self, square: npt.NDArray[np.float32], mask: Mask, threshold: float | None, cell_mm2: float
    ) -> RuledMap:
        """A smoothed map (side, side) by the rules; `cell_mm2` is what a cell covers (`cell_mm2_of`).

        In a zone with a threshold of its own the map is scaled by `threshold` / that one.
        """
        ruled: _Float = square
        if self._limits is not None and threshold is not None:
            ruled = _scaled(square, self._limits, threshold)
        return self._counted(ruled, mask, cell_mm2)

    def score(self, ruled: RuledMap) -> float:
        """The one number of a ruled map; raises `NoPieceSoLarge`."""
        if ruled.min_cells > 1:
            return level_of_area(ruled.square, ruled.counts, ruled.min_cells)
        return image_score(ruled.square, ruled.counts, self._spec)

    def critical_threshold(self, square: npt.NDArray[np.float32], mask: Mask, cell_mm2: float) -> float:
        """The lowest threshold at which a part passes: what calibrating ranks parts by.

        It depends on no threshold but the zones' own, and is the score where there are none; infinite where
        one of those fails the part, whatever the threshold, and -infinite where nothing else counts. A part
        with the score s at a threshold t has s > t where this is above t. Raises `NoPieceSoLarge`.
        """
        ruled: _Float = square
        if self._limits is not None:
            of_zone = np.where(square.astype(np.float64) > self._limits, np.inf, -np.inf)
            ruled = np.where(np.isfinite(self._limits), of_zone, square.astype(np.float64))
        return self.score(self._counted(ruled, mask, cell_mm2))

    def rejecting_zones(
        self, square: npt.NDArray[np.float32], mask: Mask, cell_mm2: float
    ) -> tuple[str, ...]:
        """The zones whose own thresholds alone make a part fail; some where its critical one is infinite."""
        if self._limits is None:
            return ()
        over = self._counted((square.astype(np.float64) > self._limits).astype(np.float32), mask, cell_mm2)
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            over.above(0.5).astype(np.uint8), connectivity=8
        )
        large = stats[:, cv2.CC_STAT_AREA] >= over.min_cells  # (pieces + 1,)
        large[0] = False  # what is not over
        failing = large[labels]  # (side, side)
        return tuple(
            name
            for name, inside, limit in self._limiting
            if bool((failing & inside & (square.astype(np.float64) > limit)).any())
        )

    def _counted(self, ruled: _Float, mask: Mask, cell_mm2: float) -> RuledMap:
        counts = mask
        if self._ignored is not None:
            ruled = np.where(self._ignored, np.zeros((), ruled.dtype), ruled)
            counts = mask & ~self._ignored
        cells = 1
        if self._min_area_mm2 is not None:
            cells = max(1, math.ceil(self._min_area_mm2 / cell_mm2 - _HAIR))
        return RuledMap(ruled, counts, cells)


def cell_mm2_of(view: View, side: int, pixel_mm: float) -> float:
    """What a cell of a view's `side`×`side` square covers; `pixel_mm` is the width of a frame's pixel."""
    frame_pixels = abs(float(np.linalg.det(view.to_frame(side)[:, :2])))
    return frame_pixels * pixel_mm**2


def level_of_area(square: _Float, counts: Mask, min_cells: int) -> float:
    """The largest t at which {square ≥ t} has an 8-connected piece of `min_cells`, where `counts` is set.

    Exact: t is one of the map's own values, found by bisection, as a lower level only joins pieces and adds
    to them. `square` and `counts` (side, side). Raises `NoPieceSoLarge` where there is no such level.
    """
    values = square[counts]
    if values.size < min_cells:
        raise _too_small(int(values.size), min_cells)
    # No piece of so many cells lies above the value of that rank.
    highest = np.partition(values, values.size - min_cells)[values.size - min_cells]
    levels = np.unique(values[values <= highest])  # ascending
    low, high = 0, levels.size - 1
    if not _has_piece((square >= levels[0]) & counts, min_cells):
        raise _too_small(_largest_piece(counts), min_cells)
    while low < high:  # levels[low] has such a piece, levels[high + 1] has none
        middle = (low + high + 1) // 2
        if _has_piece((square >= levels[middle]) & counts, min_cells):
            low = middle
        else:
            high = middle - 1
    return float(levels[low])


def zone_mask(zone: Zone, side: int) -> Mask:
    """(side, side) the cells whose centre lies in the zone's polygon, by the even-odd rule."""
    centres = (np.arange(side) + 0.5) / side
    x, y = centres[None, :], centres[:, None]
    inside = np.zeros((side, side), dtype=bool)
    corners = zone.corners
    for (x0, y0), (x1, y1) in zip(corners, corners[1:] + corners[:1], strict=True):
        if y0 == y1:
            continue
        crosses = (y0 > y) != (y1 > y)  # (side, 1)
        inside ^= crosses & (x < x0 + (y - y0) * (x1 - x0) / (y1 - y0))
    return inside


def _scaled(
    square: npt.NDArray[np.float32], limits: npt.NDArray[np.float64], threshold: float
) -> npt.NDArray[np.float64]:
    values = square.astype(np.float64)
    scaled = values * (threshold / limits)
    # Rounding must not move a value over the line: above its zone's threshold is above the threshold.
    exact = np.where(
        values > limits,
        np.maximum(scaled, np.nextafter(threshold, np.inf)),
        np.minimum(scaled, threshold),
    )
    return np.where(np.isfinite(limits), exact, values)


def _has_piece(above: Mask, min_cells: int) -> bool:
    return _largest_piece(above) >= min_cells


def _largest_piece(above: Mask) -> int:
    _, _, stats, _ = cv2.connectedComponentsWithStats(above.astype(np.uint8), connectivity=8)
    return int(stats[1:, cv2.CC_STAT_AREA].max(initial=0))


def _too_small(cells: int, min_cells: int) -> NoPieceSoLarge:
    return NoPieceSoLarge(
        f"the largest piece of the part that counts has {cells} cells of the map, and min_area_mm2 asks for "
        f"{min_cells}: nothing of this part could fail; lower min_area_mm2, or shrink the zones to ignore"
    )
