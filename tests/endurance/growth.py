"""Whether something grows with the number of inspections, or only wanders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

__all__ = ["LONG", "SHORT", "Bar", "Growth", "growth_of"]

_CONFIDENCE = 0.95
_WINDOW = 1000


@dataclass(frozen=True, slots=True)
class Bar:
    """What growth is allowed after `warm_up` inspections, KiB per 1000; overall at the interval's end."""

    warm_up: int
    steady: float
    overall: float


SMALLEST_LEAK = 32 * 1000 / 1024
"""KiB per 1000 inspections of the smallest thing that Python can leak with each and that says anything: a
float, an int or an empty tuple, in a list that holds it, takes 32 bytes."""

LONG = Bar(warm_up=10_000, steady=SMALLEST_LEAK / 2, overall=SMALLEST_LEAK)
"""After what is kept of the last parts is full, and SQLite's cache.

Steadily half of the smallest leak, which is what pages that are touched for the first time come to; and
overall, with all its steps, not as much as that leak even at the upper end of the interval.
"""

SHORT = Bar(warm_up=5000, steady=128.0, overall=256.0)
"""Some hundred bytes per inspection, while caches still fill: no verdict and no picture is that small."""


@dataclass(frozen=True, slots=True)
class Growth:
    """KiB per 1000 inspections.

    `steady`: the median of what 1000 inspections add, which a few steps don't move; `overall`: the Theil–Sen
    slope, which they do, with its 95 % interval.
    """

    steady: float
    overall: float
    low: float
    high: float

    def beyond(self, bar: Bar) -> bool:
        """Whether it is more than the bar allows, or might be by its interval."""
        return self.steady > bar.steady or self.high > bar.overall

    def __str__(self) -> str:
        interval = f"{self.low:+.1f} … {self.high:+.1f}"
        slope = f"{self.overall:+.1f} ({interval})"
        return f"steadily {self.steady:+.1f} KiB, overall {slope} KiB per 1000 inspections"


def growth_of(inspections: Sequence[int], kib: Sequence[float]) -> Growth:
    """The growth of what was sampled after more than 1000 inspections (Theil 1950, Sen 1968)."""
    slopes = stats.theilslopes(kib, [count / _WINDOW for count in inspections], alpha=_CONFIDENCE)
    starts = [count for count in inspections if count + _WINDOW <= inspections[-1]]
    there = np.interp([start + _WINDOW for start in starts], inspections, kib)
    here = np.interp(starts, inspections, kib)
    return Growth(
        steady=float(np.median(there - here)),
        overall=float(slopes.slope),
        low=float(slopes.low_slope),
        high=float(slopes.high_slope),
    )
