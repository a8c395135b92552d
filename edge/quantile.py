"""A provisional threshold: a plain quantile of the scores of good parts, without a guarantee."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import numpy as np
import numpy.typing as npt

from edge.calibration import MAX_GOOD_SCORES, Calibration
from edge.conformal import finite_scores, marginal_rank
from edge.errors import CalibrationError

__all__ = ["calibrate_by_quantile", "quantile_rank", "some_of"]


def quantile_rank(count: int, false_reject_rate: float) -> int:
    """Which of `count` good scores, from the smallest (1), is the threshold: ⌈(n + 1)(1 − α)⌉, at most n."""
    return marginal_rank(count, false_reject_rate) or count


def calibrate_by_quantile(
    scores: Sequence[float], *, false_reject_rate: float, model_sha256: str, created_utc: datetime
) -> Calibration:
    """A provisional threshold: the ⌈(n + 1)(1 − α)⌉-th smallest of n good scores, at most the largest.

    α is `false_reject_rate`, between 0 and 1. Raises `CalibrationError` where it is not, where there is
    no score, or one is not finite.
    """
    if not 0 < false_reject_rate < 1:
        raise CalibrationError(
            f"false_reject_rate is {false_reject_rate}; must lie between 0 and 1, such as 0.02 for 2 %"
        )
    values = finite_scores(scores)
    return Calibration(
        calibration_id=f"{created_utc:%Y%m%dT%H%M%SZ}-quantile",
        model_sha256=model_sha256,
        threshold=float(values[quantile_rank(values.size, false_reject_rate) - 1]),
        false_reject_rate=false_reject_rate,
        good_parts=values.size,
        created_utc=created_utc,
        good_scores=some_of(values),
    )


def some_of(values: npt.NDArray[np.float64]) -> tuple[float, ...]:
    """What a calibration keeps of all good scores, ascending: all, or some drawn by chance, the same ones
    each time.
    """
    if values.size > MAX_GOOD_SCORES:
        # By chance, and not evenly spaced: a new score must rank among them as it would among all.
        values = np.sort(np.random.default_rng(0).choice(values, MAX_GOOD_SCORES, replace=False))
    return tuple(values.tolist())
