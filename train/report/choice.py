"""Which parts a report shows: the clearest right ones and the most wrong ones."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edge.errors import DatasetError

__all__ = ["best_and_worst"]


def best_and_worst(
    defective: Sequence[bool], scores: Sequence[float], threshold: float | None, count: int = 12
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Indices of the `count` clearest right parts, clearest first, and of the most wrong ones, worst first.

    Wrong at the threshold (where there is one) comes before right. Among those of one verdict the
    lowest-scored defective and the highest-scored good parts are worst, each by its rank in its own class,
    so that both classes are shown in proportion to their number. No part is in both lists: of few parts,
    fewer are shown. Raises `DatasetError` for a score that is not finite, or lengths that differ.
    """
    truth, values = np.asarray(defective, dtype=np.bool_), np.asarray(scores, dtype=np.float64)  # (N,)
    if truth.shape != values.shape or truth.ndim != 1:
        raise DatasetError(f"{truth.size} labels but {values.size} scores; give one of each for every part")
    if not np.isfinite(values).all():
        raise DatasetError(
            f"part {int(np.argmin(np.isfinite(values)))}: its score is not finite and can't be ranked; find "
            "out in which stage the number is lost"
        )
    wrong = np.zeros(values.size, dtype=np.bool_) if threshold is None else (values > threshold) != truth
    rank = np.zeros(values.size)  # above 0 to 1 in the own class: 1 is the most wrong
    for members, sign in ((truth, -1.0), (~truth, 1.0)):
        places = np.flatnonzero(members)
        order = places[np.argsort(sign * values[places], kind="stable")]
        rank[order] = (np.arange(order.size) + 1) / max(1, order.size)
    clearest_first = np.lexsort((np.arange(values.size), rank, wrong))
    worst = clearest_first[::-1][: min(count, (values.size + 1) // 2)]
    best = clearest_first[: min(count, values.size - worst.size)]
    return tuple(int(i) for i in best), tuple(int(i) for i in worst)
