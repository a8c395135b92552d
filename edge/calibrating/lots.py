"""Parts that come in lots (days, batches, shifts): whether lots differ, and what may then be promised."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.conformal import Promise, check_rate, parts_needed, ranked_scores, training_conditional_promise
from edge.errors import CalibrationError

__all__ = ["LotTest", "new_lot_threshold", "test_lots", "worst_lot_threshold"]

_PERMUTATIONS = 999
_AT_ONCE = 1_000_000
"""So many numbers are held in memory by the permutations that are looked at together."""
_LEAST_PARTS = 3
_Scores = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class LotTest:
    """A permutation test of whether the lots' scores are of one law.

    `lot` is the one that differs most from the others, `distance` by how much (the largest difference of the
    two distribution functions), `median_shift` by how much its median is above theirs. `p_value`: so often
    lots that differ by nothing but chance differ by as much.
    """

    p_value: float
    lot: str
    distance: float
    median_shift: float
    parts_by_lot: dict[str, int]

    @property
    def differ(self) -> bool:
        """Whether it is seen at the level of 1 %."""
        return self.p_value <= 0.01


def test_lots(scores: Sequence[float], lots: Sequence[str]) -> LotTest | None:
    """Compare each lot with all others by their empirical distribution functions; None for a single lot.

    The statistic is the largest two-sample Kolmogorov–Smirnov distance of a lot from the rest, weighted by
    √(n m / (n + m)); its law if lots meant nothing comes from 999 permutations of the labels (p-value (1 +
    those as large) / 1000, exact: Phipson & Smyth 2010). Lots of fewer than 3 parts are left out.
    """
    names = [name for name in dict.fromkeys(lots) if lots.count(name) >= _LEAST_PARTS]
    kept = [index for index, name in enumerate(lots) if name in names]
    if len(names) < 2:
        return None
    values = np.asarray(scores, dtype=np.float64)[kept]  # (n,)
    codes = np.array([names.index(lots[index]) for index in kept])  # (n,)
    order = np.argsort(values, kind="stable")
    last_of_ties = np.append(values[order][1:] > values[order][:-1], True)  # (n,)
    codes = codes[order]
    distances = _distances(codes[None], last_of_ties, len(names))[0]  # (lots,)
    found = float(_weighted(distances, codes).max())
    rng = np.random.default_rng(0)
    at_once = max(1, _AT_ONCE // (len(codes) * len(names)))
    as_large = 0
    for first in range(0, _PERMUTATIONS, at_once):
        count = min(at_once, _PERMUTATIONS - first)
        shuffled = rng.permuted(np.tile(codes, (count, 1)), axis=1)  # (count, n)
        by_chance = _weighted(_distances(shuffled, last_of_ties, len(names)), codes).max(axis=1)
        as_large += int((by_chance >= found - 1e-12).sum())
    worst = int(np.argmax(_weighted(distances, codes)))
    bounded = _bounded(values[order])
    inside, outside = bounded[codes == worst], bounded[codes != worst]
    return LotTest(
        p_value=(1 + as_large) / (1 + _PERMUTATIONS),
        lot=names[worst],
        distance=float(distances[worst]),
        median_shift=float(np.median(inside) - np.median(outside)),
        parts_by_lot={name: lots.count(name) for name in dict.fromkeys(lots)},
    )


def _bounded(values: _Scores) -> _Scores:
    """Infinite ones as the farthest that is not: two medians must have a difference."""
    finite = values[np.isfinite(values)]
    return np.clip(values, finite.min(), finite.max()) if finite.size else np.zeros_like(values)


test_lots.__test__ = False  # type: ignore[attr-defined]


def _distances(codes: npt.NDArray[np.int64], last_of_ties: npt.NDArray[np.bool_], lots: int) -> _Scores:
    """Of each lot from the rest: (b, lots); `codes` (b, n) in the order of the scores."""
    inside = np.cumsum(np.eye(lots)[codes], axis=1)[:, last_of_ties]  # (b, m, lots)
    below = np.flatnonzero(last_of_ties)[:, None] + 1.0  # (m, 1): parts up to here
    counts = inside[:, -1:]  # (b, 1, lots)
    rest = codes.shape[1] - counts
    return np.asarray(np.abs(inside / counts - (below - inside) / rest).max(axis=1))


def _weighted(distances: _Scores, codes: npt.NDArray[np.int64]) -> _Scores:
    counts = np.bincount(codes)  # (lots,)
    return np.asarray(distances * np.sqrt(counts * (len(codes) - counts) / len(codes)))


def worst_lot_threshold(
    scores: Sequence[float], lots: Sequence[str], alpha: float, delta: float, *, best_effort: bool = False
) -> tuple[float, Promise]:
    """The largest of the lots' own thresholds: each lot, for all of them at once, is rejected by at most α.

    Each lot's threshold holds at 1 − δ / J, so all J hold together at 1 − δ (Bonferroni). Promises nothing
    of a lot that was not seen. Raises `CalibrationError` where a lot has too few parts, unless `best_effort`.
    """
    check_rate(alpha, "alpha")
    check_rate(delta, "delta")
    names = list(dict.fromkeys(lots))
    each = delta / len(names)
    found: list[tuple[float, Promise]] = []
    for name in names:
        values = ranked_scores([score for score, lot in zip(scores, lots, strict=True) if lot == name])
        if not best_effort and values.size < (needed := parts_needed(alpha, each)):
            raise CalibrationError(
                f"lot {name!r} has {values.size} good parts; a promise for each of {len(names)} lots takes "
                f"{needed} of each at {100 * alpha:g} % and {100 * (1 - delta):g} % confidence. Collect "
                "more, promise for all together (--lots pooled), or take what there is with --best-effort"
            )
        promise = training_conditional_promise(values.size, alpha, each, best_effort=True)
        found.append((float(values[promise.rank - 1]), promise))
    threshold = max(found, key=lambda lot: lot[0])[0]
    everyone = ranked_scores(scores)
    return threshold, Promise(
        parts=everyone.size,
        rank=int((everyone <= threshold).sum()),
        alpha=max(promise.alpha for _, promise in found),
        delta=delta,
        asked_alpha=alpha,
        asked_delta=delta,
    )


def new_lot_threshold(
    scores: Sequence[float], lots: Sequence[str], alpha: float, *, best_effort: bool = False
) -> tuple[float, Promise]:
    """A threshold for a part of a lot that was not seen: rejected with a chance of at most α, on average.

    Hierarchical conformal prediction: the (1 − α)-quantile of all scores, where each of K lots weighs
    1 / (K + 1), its parts share that, and the rest of the weight lies at infinity. It takes K ≥ 1/α − 1 lots
    that come like the next ones (exchangeable), and parts that are exchangeable within each. Lee, Barber,
    Willett, "Distribution-free inference with hierarchical data", arXiv:2306.06342, theorem 1; Dunn,
    Wasserman, Ramdas, JASA 118, 2023 ("two-layer hierarchical models"). Raises `CalibrationError` where
    there are too few lots, unless `best_effort`: then what the largest score promises, 1 / (K + 1).
    """
    check_rate(alpha, "alpha")
    names = list(dict.fromkeys(lots))
    count = len(names)
    values = np.asarray(scores, dtype=np.float64)  # (n,)
    everyone = ranked_scores(values)
    needed = math.ceil(1 / alpha - 1 - 1e-9)
    if count < needed:
        if not best_effort:
            raise CalibrationError(
                f"{count} lots can't promise {100 * alpha:g} % for a lot that was not seen: that takes "
                f"{needed} lots, {count} promise {100 / (count + 1):.3g} %. Collect more lots (a few parts "
                "of each are enough), ask for less (--alpha), or take what there is with --best-effort"
            )
        promise = Promise(everyone.size, everyone.size, 1 / (count + 1), None, alpha, None)
        return float(everyone[-1]), promise
    weights = np.array([1 / ((count + 1) * lots.count(lot)) for lot in lots])  # (n,)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order]) >= 1 - alpha - 1e-9  # (n,)
    threshold = float(values[order][np.argmax(reached)])
    return threshold, Promise(everyone.size, int((everyone <= threshold).sum()), alpha, None, alpha, None)
