"""What a threshold does to good and to bad parts: rates with exact intervals, the curve, the cheapest one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest

from edge.conformal import check_rate, promised_alpha, ranked_scores
from edge.errors import CalibrationError

__all__ = ["Costs", "CurvePoint", "Rate", "cheapest_threshold", "curve", "measured_rate", "weaker_alpha"]

_MOST_POINTS = 400
_Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Rate:
    """`count` of `of` parts, and the exact 95 % interval of the rate behind it (Clopper & Pearson 1934)."""

    count: int
    of: int
    low: float
    high: float

    @property
    def share(self) -> float:
        return self.count / self.of


@dataclass(frozen=True, slots=True)
class Costs:
    """What a rejected good part and a passed bad one cost, in one unit, and which share of parts is bad."""

    rejected_good: float
    passed_bad: float
    prevalence: float

    def __post_init__(self) -> None:
        if not all(math.isfinite(cost) and cost > 0 for cost in (self.rejected_good, self.passed_bad)):
            raise CalibrationError(
                f"costs of {self.rejected_good:g} : {self.passed_bad:g}; both must be above 0, such as 1:50"
            )
        check_rate(self.prevalence, "prevalence")


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """One threshold: which share of the good parts lies above it, and of the bad ones (None without any)."""

    threshold: float
    rejected_good: float
    found_bad: float | None
    cost_per_part: float | None = None


def measured_rate(count: int, of: int, confidence: float = 0.95) -> Rate:
    """`count` of `of` with its Clopper–Pearson interval."""
    interval = binomtest(count, of).proportion_ci(confidence, method="exact")
    return Rate(count, of, float(interval.low), float(interval.high))


def curve(good: Sequence[float], bad: Sequence[float], costs: Costs | None = None) -> tuple[CurvePoint, ...]:
    """Every threshold at which something changes, ascending; at most 400, evenly spaced among them.

    The first is -infinite where there are parts that pass at any threshold.
    """
    goods, bads = ranked_scores(good), np.sort(np.asarray(bad, dtype=np.float64))
    steps = np.unique(np.concatenate([goods, bads]))
    steps = steps[steps < np.inf]
    if steps.size > _MOST_POINTS:
        steps = steps[np.unique(np.linspace(0, steps.size - 1, _MOST_POINTS).round().astype(int))]
    return tuple(_point(float(threshold), goods, bads, costs) for threshold in steps)


def cheapest_threshold(
    good: Sequence[float], bad: Sequence[float], costs: Costs, *, at_least: float = -math.inf
) -> CurvePoint:
    """The threshold of least mean cost per part as measured, none below `at_least`.

    Of equal ones the smallest: what nobody has seen yet is found by a small threshold. Raises
    `CalibrationError` without a bad part, or where no part has a finite score.
    """
    goods, bads = ranked_scores(good), np.sort(np.asarray(bad, dtype=np.float64))
    if bads.size == 0:
        raise CalibrationError("costs need bad parts to weigh: give some, with a label other than good")
    steps = np.unique(np.concatenate([goods, bads]))
    steps = steps[np.isfinite(steps)]
    if steps.size == 0:
        raise CalibrationError("no part's verdict depends on the threshold, so none is cheaper than another")
    allowed = np.unique(
        np.append(steps[steps >= at_least], at_least if math.isfinite(at_least) else steps[0])
    )
    points = [_point(float(threshold), goods, bads, costs) for threshold in allowed]
    return min(points, key=lambda point: (point.cost_per_part or 0.0, point.threshold))


def weaker_alpha(count: int, rank: int, delta: float) -> float:
    """The α that rank k of n promises at 1 − δ although k was chosen by looking at the scores.

    By the union bound over all n ranks: each holds at 1 − δ / n.
    """
    return promised_alpha(count, rank, delta / count)


def _point(threshold: float, goods: _Scores, bads: _Scores, costs: Costs | None) -> CurvePoint:
    rejected = (goods.size - int(np.searchsorted(goods, threshold, "right"))) / goods.size
    if bads.size == 0:
        return CurvePoint(threshold, rejected, None)
    found = (bads.size - int(np.searchsorted(bads, threshold, "right"))) / bads.size
    cost = (
        None
        if costs is None
        else (1 - costs.prevalence) * costs.rejected_good * rejected
        + costs.prevalence * costs.passed_bad * (1 - found)
    )
    return CurvePoint(threshold, rejected, found, cost)
