"""Whether a promised false-reject rate is still kept: evidence that may be looked at after every part.

The null hypothesis: each good part, whatever went before, is rejected with a chance of at most α. A gambler
who bets against it with a prior over the larger rates p, and is paid (p/α) for a rejected good part and
(1 − p)/(1 − α) for a passed one, can't get rich while it holds: the chance ever to hold c or more is at most
1/c (Ville 1939). Robbins, Annals of Mathematical Statistics 41, 1970 (the mixture); Waudby-Smith & Ramdas,
"Estimating means of bounded random variables by betting", JRSS B 86, 2024 (the wager, and what is bounded by
all rates that it does not refute).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaincc, betaln

from edge.conformal import check_rate

__all__ = ["PromiseCount", "e_values", "lower_bound"]

_PRIOR_EXCESS = 3.0
"""The gambler's prior Beta(1, 1/(3α) − 1) has the mean 3α: he expects a promise to break plainly."""

_Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class PromiseCount:
    """Parts since a calibration: `good` that count as good, of which `rejected`.

    Passed parts count as good unless somebody says otherwise, rejected ones only if somebody says they are.
    So it is enough to label the rejected parts: a passed bad part, and a rejected part that nobody labels,
    make the evidence smaller, never larger.
    """

    good: int
    rejected: int

    def e_value(self, alpha: float) -> float:
        """The evidence against "at most `alpha`": 1 at the beginning; c or more with a chance of ≤ 1/c."""
        check_rate(alpha, "alpha")
        values = e_values(np.array([self.good]), np.array([self.rejected]), alpha, alpha)
        return float(values[0])


def e_values(good: _Counts, rejected: _Counts, rate: float, alpha: float) -> npt.NDArray[np.float64]:
    """The e-values against "at most `rate`", of counts (n,) each, by the prior that belongs to `alpha`."""
    a, b = 1.0, max(1.0 / (_PRIOR_EXCESS * alpha) - 1.0, 1.0)
    posterior_a, posterior_b = a + rejected, b + good - rejected
    # Of the prior and of the posterior only what lies above the rate counts. Where that is too little for a
    # float, far fewer were rejected than allowed, and the e-value is next to nothing.
    beyond = betaincc(posterior_a, posterior_b, rate)
    log_beyond = np.where(beyond > 0, np.log(np.where(beyond > 0, beyond, 1.0)), -np.inf)
    log_e = (
        betaln(posterior_a, posterior_b)
        + log_beyond
        - betaln(a, b)
        - np.log(betaincc(a, b, rate))
        - rejected * np.log(rate)
        - (good - rejected) * np.log1p(-rate)
    )
    return np.asarray(np.exp(np.minimum(log_e, 700.0)))


def lower_bound(count: PromiseCount, alpha: float, level: float) -> float:
    """What the false-reject rate is at least: wrong with a chance of at most `level`, over all looks.

    The smallest rate that the evidence does not refute; 0 where it refutes none.
    """
    check_rate(level, "level")
    low, high = 0.0, 1.0 - 1e-9
    good, rejected = np.array([count.good]), np.array([count.rejected])
    for _ in range(50):
        middle = (low + high) / 2
        refuted = float(e_values(good, rejected, middle, alpha)[0]) >= 1 / level
        low, high = (middle, high) if refuted else (low, middle)
    return low
