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
    """What growth is allowed after `warm_up` inspections, KiB per 1000: steadily, and overall."""

    warm_up: int
    steady: float
    overall: float


LONG = Bar(warm_up=10_000, steady=30.0, overall=96.0)
"""After what is kept of the last parts is full, and SQLite's cache.

The smallest thing that Python can leak with each inspection and that says anything (a float, an int, an empty
tuple, in a list that holds it) takes 32 bytes: 31 KiB in 1000, and steadily so. Overall there are steps that
are no leak: the table of the last 4096 commands is made anew every 6826 commands, and takes 0.3 MB more each
time, until the places that the ones before left fit: alone, for 80,000 commands, after the third time.
"""

SHORT = Bar(warm_up=5000, steady=512.0, overall=512.0)
"""Half a KiB per inspection, while caches still fill: no verdict, no frame and no picture is that small."""


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
        """Whether it is more than the bar allows, beyond the doubt of its interval."""
        return self.steady > bar.steady or self.low > bar.overall

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
