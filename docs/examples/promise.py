"""Draw how often good parts are rejected by thresholds that a quantile, or a promise, takes from n of them.

python docs/examples/promise.py docs/images/promise.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.stats import norm

from edge.conformal import parts_needed, training_conditional_promise
from edge.quantile import quantile_rank

ALPHA, DELTA = 0.01, 0.05
COUNTS = (20, 30, 50, 80, 120, 200, 299, 400, 473, 600, 800, 1000)
REPETITIONS = 4000


def main(picture: Path) -> None:
    """Bands: nine of ten calibrations lie in them, half of them on each side of the line."""
    rng = np.random.default_rng(0)
    by_quantile, by_promise = [], []
    for count in COUNTS:
        scores = np.sort(rng.standard_normal((REPETITIONS, count)), axis=1)  # (repetitions, n)
        promise = training_conditional_promise(count, ALPHA, DELTA, best_effort=True)
        for found, rank in ((by_quantile, quantile_rank(count, ALPHA)), (by_promise, promise.rank)):
            found.append(100 * norm.sf(scores[:, rank - 1]))
        broken = [float((np.array(rates[-1]) > 100 * ALPHA).mean()) for rates in (by_quantile, by_promise)]
        sys.stdout.write(
            f"n = {count}: above {ALPHA:.0%} {broken[0]:.1%} by quantile, {broken[1]:.1%} by promise\n"
        )
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    axes = figure.subplots()
    for label, rates in (("plain quantile (provisional)", by_quantile), ("with 95 % confidence", by_promise)):
        low, middle, high = (_of(rates, share) for share in (0.05, 0.5, 0.95))
        axes.plot(COUNTS, middle, marker="o", markersize=3, label=label)
        axes.fill_between(COUNTS, low, high, alpha=0.18, linewidth=0)
    axes.axhline(100 * ALPHA, color="black", linewidth=1, linestyle="--")
    axes.axvline(parts_needed(ALPHA, DELTA), color="grey", linewidth=1, linestyle=":")
    axes.text(parts_needed(ALPHA, DELTA) * 1.02, 9, "from 299 parts on\nthe promise can be given", va="top")
    axes.set(xscale="log", yscale="log", ylim=(0.02, 15), xlabel="good parts that the threshold is found on")
    axes.set_ylabel("good parts rejected, %")
    axes.set_xticks([20, 50, 100, 200, 500, 1000], ["20", "50", "100", "200", "500", "1000"])
    axes.set_yticks([0.03, 0.1, 0.3, 1, 3, 10], ["0.03", "0.1", "0.3", "1", "3", "10"])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(loc="lower left")
    figure.savefig(picture, dpi=110)


def _of(rates: list[npt.NDArray[np.float64]], share: float) -> list[float]:
    return [float(np.quantile(found, share)) for found in rates]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
