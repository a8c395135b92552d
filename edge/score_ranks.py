"""How a new score ranks among all that were seen, in memory that does not grow."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

__all__ = ["ScoreRanks"]

_LARGEST = float(np.finfo(np.float32).max)


class ScoreRanks:
    """All scores seen, counted in bins; gives conformal p-values.

    While the scores come in an order that says nothing (they are exchangeable), their p-values are
    independent and uniform in [0, 1], exactly: Vovk, Gammerman, Shafer, "Algorithmic Learning in a Random
    World", theorem 8.1. That asks of a p-value to depend on the scores so far as a set only, and on chance
    between equals. Bins keep that: a score is taken as float32, whose low bits are dropped as soon as more
    than `bins` different values have been seen; how many are dropped follows from the set. Scores in one bin
    are equals. So bounded memory costs resolution, but no exactness.
    """

    def __init__(self, scores: Sequence[float] = (), *, bins: int = 4096) -> None:
        self._bins = bins
        self._dropped_bits = 0
        # Made once, one longer than may stay: arrays that grow by one with each part leave holes everywhere.
        self._keys = np.zeros(bins + 1, dtype=np.int64)  # (bins + 1,), the first `used` ascending
        self._counts = np.zeros(bins + 1, dtype=np.int64)  # (bins + 1,)
        self._used = 0
        self._seen = 0
        for score in scores:
            self.add(score)

    def __len__(self) -> int:
        return self._seen

    @property
    def resolution(self) -> float:
        """How wide a bin is, of the score's size."""
        return float(2.0 ** (self._dropped_bits - 23))

    def add(self, score: float) -> None:
        """Count a finite score in."""
        self._place(score)

    def p_value(self, score: float, chance: float) -> float:
        """Count a score in, and say which share of all is larger; small for a large score.

        `chance`, uniform in (0, 1) and drawn anew each time, says where it stands among its equals.
        """
        place = self._place(score)
        larger = int(self._counts[place + 1 : self._used].sum())
        return (larger + chance * int(self._counts[place])) / self._seen

    def _place(self, score: float) -> int:
        key = _ordered_bits(score)
        place = self._find(key)
        if place == self._used or self._keys[place] != key >> self._dropped_bits:
            for array, new in ((self._keys, key >> self._dropped_bits), (self._counts, 0)):
                array[place + 1 : self._used + 1] = array[place : self._used]
                array[place] = new
            self._used += 1
        self._counts[place] += 1
        self._seen += 1
        while self._used > self._bins:
            self._coarsen()
            place = self._find(key)
        return place

    def _find(self, key: int) -> int:
        return int(np.searchsorted(self._keys[: self._used], key >> self._dropped_bits))

    def _coarsen(self) -> None:
        self._dropped_bits += 1
        keys, first = np.unique(self._keys[: self._used] >> 1, return_index=True)
        self._counts[: keys.size] = np.add.reduceat(self._counts[: self._used], first)
        self._keys[: keys.size] = keys
        self._used = keys.size


def _ordered_bits(score: float) -> int:
    """A float32's bits as an integer that grows with it."""
    single = np.float32(min(_LARGEST, max(-_LARGEST, score)))
    bits = int(single.view(np.int32))
    return bits if bits >= 0 else -(bits & 0x7FFFFFFF)
