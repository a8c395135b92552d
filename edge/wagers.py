"""Evidence that grows while something differs: the wealth of a gambler who bets that it does.

A fair game can't make rich: of a gambler who begins with 1 and whose bets pay at most 1 on average while
nothing has changed, the chance ever to hold c or more is at most 1/c (Ville 1939). So wealth is evidence
that may be looked at after every part, for ever. Ramdas, Grünwald, Vovk, Shafer, "Game-theoretic statistics
and safe anytime-valid inference", Statistical Science 38(4), 2023.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

__all__ = ["SLOTS", "SPACING", "Wagers"]

SPACING = 32
"""Every so many parts fresh money is put on a change that begins now."""

SLOTS = 64
"""So many such bets run beside each other; the oldest is cashed in for the next."""

_Array = npt.NDArray[np.float64]


class Wagers:
    """The wealth of a gambler who does not know when a change begins, nor which of `bets` pays then.

    Every `SPACING` parts some of the cash is spread over all bets, as stakes that are multiplied by what
    they return, part for part; after `SLOTS` × `SPACING` parts what is left of them is cash again. Moving
    money between cash and stakes costs nothing, so this is a test martingale wherever each single bet is
    (Vovk et al. 2021, "Retrain or not retrain", arXiv:2102.10439, move some at each step).
    Were nothing returned, cash after j stakes would be 1 / (1 + ln(1 + j)): the first stake is 41 % of all,
    and the one after a million parts still a four-millionth, which costs a late change 15 nats, not its
    detection. Memory does not grow.

    `batch`: so many games at once, for simulations; () is one.
    """

    def __init__(self, bets: int, batch: tuple[int, ...] = ()) -> None:
        self._cash: _Array = np.ones(batch)
        self._stakes: _Array = np.zeros((*batch, SLOTS, bets))
        self._begun_with: _Array = np.ones(SLOTS)
        self._age: _Array = np.zeros(SLOTS)
        self._parts = 0
        self._begun = 0

    @property
    def wealth(self) -> _Array:
        """What the gambler holds: (*batch); 1 at the beginning."""
        return np.asarray(self._cash + self._stakes.sum(axis=(-2, -1)))

    def play(self, seen: int, returns: Callable[[_Array], _Array]) -> None:
        """Take one part in: bets are made before it is looked at, and then settled.

        `seen` parts were there before it. `returns` gives what the bets return, (*batch, slots, bets), for
        (slots, 1): the share that parts from before the slot's beginning have of those seen.
        """
        if self._parts % SPACING == 0:
            self._begin(seen)
        self._parts += 1
        used = min(self._begun, SLOTS)
        share = self._begun_with[:used] / (self._begun_with[:used] + self._age[:used])  # (slots,)
        self._stakes[..., :used, :] *= returns(share[:, None])
        self._age[:used] += 1

    def _begin(self, seen: int) -> None:
        slot = self._begun % SLOTS
        cash = self._cash + self._stakes[..., slot, :].sum(axis=-1)
        staked = 1.0 - _cash_after(self._begun + 1) / _cash_after(self._begun)
        self._cash = np.asarray(cash * (1.0 - staked))
        self._stakes[..., slot, :] = (cash * staked / self._stakes.shape[-1])[..., None]
        self._begun_with[slot] = max(1, seen)
        self._age[slot] = 0
        self._begun += 1


def _cash_after(stakes: int) -> float:
    return 1.0 / (1.0 + math.log1p(stakes))
