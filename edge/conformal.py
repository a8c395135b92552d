"""What a threshold taken from good parts promises of the good parts of tomorrow.

A part is rejected where its score lies above the threshold, which is the k-th smallest of the scores of n
good parts that the model was not trained on. The share R of all good parts that it then rejects is a random
number, since the n parts were drawn by chance, and its law is known whatever the scores' is:
R ~ Beta(n + 1 − k, k) where no two scores are equal, and stochastically less where some are. What it takes:
the parts of tomorrow come as those n did (exchangeable for `marginal_rank`, independent and of one law for
the rest). Vovk, "Conditional validity of inductive conformal predictors", ACML 2012 (arXiv:1209.2673),
section 3; docs/calibration.md has the proof.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaincinv

from edge.errors import CalibrationError

__all__ = [
    "Promise",
    "check_rate",
    "finite_scores",
    "marginal_promise",
    "marginal_rank",
    "parts_needed",
    "promise_of_rank",
    "promised_alpha",
    "promised_delta",
    "promised_rank",
    "ranked_scores",
    "rate_interval",
    "training_conditional_promise",
]

_Scores = npt.NDArray[np.float64]

_HAIR = 1e-9
"""What is whole on paper must not be rounded up, and what is equal not refused, because floats miss it."""


@dataclass(frozen=True, slots=True)
class Promise:
    """What the `rank`-th smallest of `parts` good scores promises as a threshold.

    With `delta` None: a good part of tomorrow is rejected with a chance of at most `alpha`, on average over
    calibrations. Else: with a chance of at least 1 − `delta` over the calibration parts, at most the share
    `alpha` of all good parts of tomorrow is. `asked_alpha` and `asked_delta` are what was asked for; `kept`
    says whether that is promised.
    """

    parts: int
    rank: int
    alpha: float
    delta: float | None
    asked_alpha: float
    asked_delta: float | None

    @property
    def kept(self) -> bool:
        """Whether what is promised is no less than what was asked for."""
        if self.delta is None:
            return self.asked_delta is None and self.alpha <= self.asked_alpha + _HAIR
        return (
            self.asked_delta is not None
            and self.delta <= self.asked_delta + _HAIR
            and self.alpha <= self.asked_alpha + _HAIR
        )

    @property
    def expected_rate(self) -> float:
        """The mean false-reject rate of such thresholds: (n + 1 − k) / (n + 1), or less where scores tie."""
        return (self.parts + 1 - self.rank) / (self.parts + 1)

    @property
    def sentence(self) -> str:
        """The promise in words."""
        if self.delta is None:
            return (
                f"a good part is rejected with a chance of at most {self.alpha:.3g}, on average over such "
                "calibrations"
            )
        return (
            f"at most {100 * self.alpha:.3g} % of good parts are rejected, with {100 * (1 - self.delta):.4g} "
            f"% confidence ({self.parts} good parts)"
        )


def check_rate(value: float, name: str) -> float:
    """`value`, which must lie strictly between 0 and 1; raises `CalibrationError` naming it."""
    if not 0 < value < 1:
        raise CalibrationError(f"{name} is {value}; must lie between 0 and 1, such as 0.01 for 1 %")
    return value


def finite_scores(scores: npt.ArrayLike) -> _Scores:
    """The scores (n,) ascending; raises `CalibrationError` where there is none, or one is not finite."""
    return _ascending(scores, np.isfinite, "NaN or infinite")


def ranked_scores(scores: npt.ArrayLike) -> _Scores:
    """What parts are ranked by (n,), ascending: infinite where no threshold can pass a part, or fail it.

    Raises `CalibrationError` where there is none, or one is NaN.
    """
    return _ascending(scores, lambda values: ~np.isnan(values), "NaN")


def _ascending(
    scores: npt.ArrayLike, allowed: Callable[[_Scores], npt.NDArray[np.bool_]], otherwise: str
) -> _Scores:
    values = np.sort(np.asarray(scores, dtype=np.float64).ravel())  # (n,)
    if values.size == 0:
        raise CalibrationError(
            "no score of a good part to calibrate on; hold some good parts out of training"
        )
    broken = int((~allowed(values)).sum())
    if broken:
        raise CalibrationError(
            f"{broken} of {values.size} scores of good parts are {otherwise}; export the model anew"
        )
    return values


def marginal_rank(count: int, alpha: float) -> int | None:
    """⌈(n + 1)(1 − α)⌉, None where n is too small for it: the next part is rejected with a chance ≤ α.

    Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random World", 2005, section 4.2.
    """
    rank = max(1, math.ceil((count + 1) * (1.0 - alpha) - _HAIR))
    return rank if rank <= count else None


def promised_rank(count: int, alpha: float, delta: float) -> int | None:
    """The smallest rank k with P(Beta(n + 1 − k, k) ≤ α) ≥ 1 − δ, None where not even rank n has it."""
    if count < 1 or promised_delta(count, count, alpha) > delta + _HAIR:
        return None
    ranks = np.arange(1, count + 1)
    held = betainc(count + 1 - ranks, ranks, alpha)  # (n,), grows with the rank
    return int(ranks[np.argmax(held >= 1.0 - delta - _HAIR)])


def promised_alpha(count: int, rank: int, delta: float) -> float:
    """The least α that rank k of n promises at confidence 1 − δ."""
    return float(betaincinv(count + 1 - rank, rank, 1.0 - delta))


def promised_delta(count: int, rank: int, alpha: float) -> float:
    """The least δ at which rank k of n promises α: P(Beta(n + 1 − k, k) > α)."""
    return float(betainc(rank, count + 1 - rank, 1.0 - alpha))


def rate_interval(count: int, rank: int, confidence: float = 0.95) -> tuple[float, float]:
    """Where the false-reject rate of rank k of n lies, with equal chances to be below and above."""
    tail = (1.0 - confidence) / 2
    low, high = betaincinv(count + 1 - rank, rank, np.array([tail, 1.0 - tail]))
    return float(low), float(high)


def parts_needed(alpha: float, delta: float, above: int = 0) -> int:
    """How many good parts promise α at confidence 1 − δ by a threshold that `above` of them exceed.

    With 0 the threshold is the largest score: the smallest n with (1 − α)ⁿ ≤ δ.
    """
    check_rate(alpha, "alpha")
    check_rate(delta, "delta")
    low, high = above, above + 1
    while promised_delta(high, high - above, alpha) > delta + _HAIR:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        enough = promised_delta(middle, middle - above, alpha) <= delta + _HAIR
        low, high = (low, middle) if enough else (middle, high)
    return high


def training_conditional_promise(
    count: int, alpha: float, delta: float, *, best_effort: bool = False
) -> Promise:
    """The smallest rank that promises at most `alpha` at confidence 1 − `delta`.

    Where `count` parts are too few for that, `best_effort` gives what the largest score promises at this
    delta, and its absence raises `CalibrationError` with what can be promised and how many parts it takes.
    """
    check_rate(alpha, "alpha")
    check_rate(delta, "delta")
    rank = promised_rank(count, alpha, delta)
    if rank is not None:
        return Promise(count, rank, promised_alpha(count, rank, delta), delta, alpha, delta)
    at_delta = promised_alpha(count, count, delta)
    if best_effort:
        return Promise(count, count, at_delta, delta, alpha, delta)
    needed = parts_needed(alpha, delta)
    raise CalibrationError(
        f"{count} good parts can't promise a false-reject rate of {100 * alpha:g} % with "
        f"{100 * (1 - delta):g} % confidence: that takes {needed}. With the largest score as the threshold "
        f"they promise {100 * at_delta:.3g} % with that confidence, or {100 * alpha:g} % with "
        f"{100 * (1 - promised_delta(count, count, alpha)):.3g} % confidence. Collect {needed - count} more, "
        "ask for less (--alpha, --delta), or take what there is with --best-effort"
    )


def marginal_promise(count: int, alpha: float, *, best_effort: bool = False) -> Promise:
    """The ⌈(n + 1)(1 − α)⌉-th score: a promise on average over calibrations, without a confidence.

    Raises `CalibrationError` where n < 1/α − 1, unless `best_effort`: then what the largest score promises.
    """
    check_rate(alpha, "alpha")
    rank = marginal_rank(count, alpha)
    if rank is not None:
        return Promise(count, rank, (count + 1 - rank) / (count + 1), None, alpha, None)
    if best_effort:
        return Promise(count, count, 1 / (count + 1), None, alpha, None)
    needed = math.ceil(1 / alpha - 1 - _HAIR)
    raise CalibrationError(
        f"{count} good parts can't promise a false-reject rate of {100 * alpha:g} % on average: that takes "
        f"{needed}. With the largest score as the threshold they promise {100 / (count + 1):.3g} %. Collect "
        f"{needed - count} more, ask for less (--alpha), or take what there is with --best-effort"
    )


def promise_of_rank(count: int, rank: int, alpha: float, delta: float) -> Promise:
    """What a given rank promises at confidence 1 − `delta`, whatever was asked for."""
    return Promise(count, rank, promised_alpha(count, rank, delta), delta, alpha, delta)
