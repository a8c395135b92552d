"""How many good parts a promise takes: as a table, and as a drawing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge.conformal import marginal_rank, parts_needed

__all__ = ["ALPHAS", "DELTAS", "Need", "needs"]

ALPHAS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05)
DELTAS = (0.1, 0.05, 0.01)
_MOST_ABOVE = 100_000


@dataclass(frozen=True, slots=True)
class Need:
    """Good parts that promise `alpha` at confidence 1 − `delta`.

    `parts` by the largest score as the threshold; with `parts_for_half` the threshold may lie so low that it
    rejects half of alpha on average; `parts_on_average` for the promise without a confidence.
    """

    alpha: float
    delta: float
    parts: int
    parts_for_half: int
    parts_on_average: int


def needs(alphas: Sequence[float] = ALPHAS, deltas: Sequence[float] = DELTAS) -> tuple[Need, ...]:
    """One row for each pair; raises `CalibrationError` for a rate that is none."""
    return tuple(
        Need(alpha, delta, parts_needed(alpha, delta), _for_half(alpha, delta), _on_average(alpha))
        for alpha in alphas
        for delta in deltas
    )


def _for_half(alpha: float, delta: float) -> int:
    """The smallest `parts_needed(α, δ, above)` n whose mean rate, (above + 1) / (n + 1), is α / 2 or more."""
    for above in range(_MOST_ABOVE):
        parts = parts_needed(alpha, delta, above)
        if (above + 1) / (parts + 1) >= alpha / 2:
            return parts
    return parts


def _on_average(alpha: float) -> int:
    low = int(1 / alpha) - 2
    return next(count for count in range(max(1, low), low + 4) if marginal_rank(count, alpha) is not None)
