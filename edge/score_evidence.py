"""Evidence of a drift, from p-values, and of too many fails, from a count."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import numpy.typing as npt

from edge.wagers import Wagers

__all__ = ["SHIFT_BETS", "TESTS", "DriftEvidence", "FailEvidence", "shift_returns"]

TESTS = 3
"""Up, down, and too many fails: each has a third of the level."""

_SHIFTS = (0.6, 1.2)
"""What is bet on, in standard deviations of scores that are normal. A bet pays only on more than half its
shift: drifts of less than 0.3 are no evidence, however long they last, as no rig is ever quite at rest."""

SHIFT_BETS = len(_SHIFTS)

_EXCESS = (0.3, 0.6, 0.9)
"""Bets on the share of fails: so far from the limit to all."""

_NORMAL = NormalDist()
_Array = npt.NDArray[np.float64]


def shift_returns(normal_scores: _Array, share: _Array) -> _Array:
    """What bets on a shift return, (*batch, slots, bets), for (*batch, 1, 1) and `share` (slots, 1).

    A p-value p is the normal score z = Φ⁻¹(1 − p); a bet on a shift of θ returns exp(θz − θ²/2), of mean 1
    where p is uniform. Ranked among scores of which only a share is from before the change, the shift looks
    smaller by about that share; and so does the bet.
    """
    shift = share * np.asarray(_SHIFTS)  # (slots, bets)
    return np.asarray(np.exp(shift * normal_scores - shift**2 / 2))


class _Evidence:
    """An e-value; it stops at `limit`, where nothing is left to be proven. `batch` as of `Wagers`."""

    def __init__(self, limit: float, bets: int) -> None:
        self._limit = limit
        self._wagers = Wagers(bets)
        self._e_value = 1.0

    @property
    def e_value(self) -> float:
        return self._e_value

    @property
    def proven(self) -> bool:
        return self._e_value >= self._limit

    def _settle(self) -> None:
        self._e_value = min(self._limit, float(self._wagers.wealth))


class DriftEvidence(_Evidence):
    """Evidence that scores are larger than before (`sign` 1), or smaller (-1)."""

    def __init__(self, sign: int, limit: float) -> None:
        super().__init__(limit, SHIFT_BETS)
        self._sign = sign

    def add(self, p_value: float, seen: int) -> None:
        """Take in the p-value, between 0 and 1, of a score before which `seen` were there."""
        if self.proven:
            return
        normal_score = np.asarray(-self._sign * _NORMAL.inv_cdf(p_value))
        self._wagers.play(seen, lambda share: shift_returns(normal_score, share))
        self._settle()


class FailEvidence(_Evidence):
    """Evidence that parts fail with a chance of more than `max_share`, whatever went before."""

    def __init__(self, max_share: float, limit: float) -> None:
        super().__init__(limit, len(_EXCESS))
        bet = max_share + (1.0 - max_share) * np.asarray(_EXCESS)  # (bets,)
        self._on_fail, self._on_pass = bet / max_share, (1.0 - bet) / (1.0 - max_share)

    def add(self, failed: bool, seen: int) -> None:
        """Take in a part before which `seen` were there."""
        if self.proven:
            return
        returned = self._on_fail if failed else self._on_pass
        self._wagers.play(seen, lambda share: np.broadcast_to(returned, (share.shape[0], returned.size)))
        self._settle()
