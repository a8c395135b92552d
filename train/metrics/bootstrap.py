"""How far chance in the choice of test images moves the figures: a stratified bootstrap over images.

An image is drawn whole, so that what its pixels have in common stays together. For AUPRO no resample sorts
a pixel: each image's counts at a fixed grid of thresholds are taken once (`pro_grid`), and the curve of any
resample is their weighted sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.errors import ConfigError, DatasetError
from train.metrics.checks import Mask, ScoreMap, check_limits, check_pair, check_same_length
from train.metrics.detection import Labels, Scores, checked_labels
from train.metrics.localisation import area_up_to
from train.metrics.ranking import component_sizes

__all__ = [
    "GRID_LEVELS",
    "MIN_RESAMPLES",
    "ProGrid",
    "draws",
    "percentile_interval",
    "pro_grid",
    "resampled_auroc",
]

GRID_LEVELS = 2048
"""Scores of good pixels in the grid; each is two thresholds, with and without the pixels that have it."""

MIN_RESAMPLES = 40
"""Fewer have no 2.5th percentile."""

_SAMPLED_PIXELS = 1 << 22
_WEIGHTS_AT_ONCE = 64

_Counts = npt.NDArray[np.int64]
_Figures = npt.NDArray[np.float64]


def draws(strata: Sequence[int] | npt.NDArray[np.integer], resamples: int, seed: int) -> _Counts:
    """How often each image is drawn in each resample, int64 (resamples, N).

    `strata` (N,) names the group of each image; from each group as many are drawn as it has, with
    replacement. Raises `ConfigError` for fewer than `MIN_RESAMPLES` resamples.
    """
    if resamples < MIN_RESAMPLES:
        raise ConfigError(f"{resamples} bootstrap resamples; give at least {MIN_RESAMPLES}, 1000 is usual")
    groups = np.asarray(strata)
    random = np.random.default_rng(seed)
    times = np.zeros((resamples, groups.size), dtype=np.int64)  # (R, N)
    for group in np.unique(groups):
        rows = np.flatnonzero(groups == group)
        times[:, rows] = random.multinomial(rows.size, np.full(rows.size, 1 / rows.size), size=resamples)
    return times


def resampled_auroc(labels: Labels, scores: Scores, times: _Counts) -> _Figures:
    """I-AUROC (R,) of each resample, exact; `times` (R, N) says how often each image is in it.

    Raises `DatasetError` as `image_auroc` does. Each resample must hold both classes.
    """
    truth, values = checked_labels(labels, scores)
    defective, good = values[truth], values[~truth]  # (D,), (G,)
    # 2 for a won pair, 1 for a tie: whole numbers until the end.
    wins = 2.0 * (defective[:, None] > good[None, :]) + (defective[:, None] == good[None, :])  # (D, G)
    drawn_d, drawn_g = times[:, truth].astype(np.float64), times[:, ~truth].astype(np.float64)
    won = ((drawn_d @ wins) * drawn_g).sum(axis=1)  # (R,)
    return np.asarray(won / (2.0 * drawn_d.sum(axis=1) * drawn_g.sum(axis=1)))


@dataclass(frozen=True, slots=True, eq=False)
class ProGrid:
    """Each image's part in the PRO curve at fixed thresholds, highest first.

    `good_found` (N, T) good pixels with at least the threshold, `good_pixels` (N,) all; `overlap` (N, T) the
    sum over the image's components of |P∩C|/|C|, `components` (N,) their number.
    """

    good_found: _Figures
    good_pixels: _Figures
    overlap: _Figures
    components: _Figures

    def aupro(self, times: npt.NDArray[np.integer], limits: Iterable[float]) -> _Figures:
        """AUPRO (R, limits) of resamples in which each image is `times` (R, N) times.

        The curve is joined by straight lines between the grid's thresholds, where the exact one may bend
        once more. Each resample must hold a good pixel and a component. Raises `ConfigError` for a limit
        outside (0, 1].
        """
        checked = check_limits(limits)
        rows = []
        for start in range(0, len(times), _WEIGHTS_AT_ONCE):
            weights = times[start : start + _WEIGHTS_AT_ONCE].astype(np.float64)  # (r, N)
            fpr = (weights @ self.good_found) / (weights @ self.good_pixels)[:, None]  # (r, T)
            pro = (weights @ self.overlap) / (weights @ self.components)[:, None]  # (r, T)
            corner = np.zeros((len(weights), 1))
            # The lowest threshold takes in every pixel; sums of fractions end a rounding away from 1.
            fpr, pro = np.hstack([corner, fpr]), np.hstack([corner, np.minimum(pro, 1.0)])  # (r, T + 1)
            rows += [[area_up_to(x, y, limit) for limit in checked] for x, y in zip(fpr, pro, strict=True)]
        return np.asarray(rows, dtype=np.float64)


def pro_grid(masks: Sequence[Mask], maps: Sequence[ScoreMap], levels: int = GRID_LEVELS) -> ProGrid:
    """Count each image's pixels at a grid of thresholds that is dense where false positives are few.

    The thresholds are scores of good pixels at ranks u²·n from the top, u spread evenly over 0 … 1: at a
    false positive rate of 1 % they lie 0.01 % apart. Where the good pixels have at most `levels` distinct
    scores all of them are taken, and every curve is exact. Of more than four million good pixels every k-th
    is looked at for the thresholds; counted are all.

    `masks` bool (H, W), `maps` float (H, W), one per image; gone through twice. Raises `DatasetError` as
    `rank_pixels` does.
    """
    check_same_length(masks, maps, "maps")
    scores = _grid_scores(masks, maps, levels)  # (S,) rising; each is two thresholds, ≥ and >
    count = (len(masks), 2 * scores.size)
    good_found, overlap = np.zeros(count), np.zeros(count)
    good_pixels, components = np.zeros(len(masks)), np.zeros(len(masks))
    for index, (mask, score_map) in enumerate(zip(masks, maps, strict=True)):
        # How many thresholds a pixel reaches; added up from the top, that is how many pixels reach each.
        # Not by a threshold at the next larger number: above 0 that is a denormal one, which a CPU told to
        # flush them takes for 0.
        not_above = np.searchsorted(scores, score_map, side="right")  # (H, W), 1 at least
        reached = 2 * not_above - (scores[not_above - 1] == score_map)  # (H, W)
        good_pixels[index] = mask.size - np.count_nonzero(mask)
        good_found[index] = _at_least(reached[~mask], None, 2 * scores.size)
        if mask.any():
            labels, sizes = component_sizes(mask)  # (H, W), (K + 1,)
            components[index] = sizes.size - 1
            overlap[index] = _at_least(reached[mask], 1.0 / sizes[labels[mask]], 2 * scores.size)
    if not components.any() or not good_pixels.any():
        raise DatasetError(
            f"{len(masks)} masks hold {int(components.sum())} defects and {int(good_pixels.sum())} good "
            "pixels; AUPRO needs both: add defective test images, and check that the masks are not inverted"
        )
    return ProGrid(good_found, good_pixels, overlap, components)


def _at_least(reached: npt.NDArray[np.intp], weights: _Figures | None, count: int) -> _Figures:
    """(T,) highest threshold first: the weight of the pixels that reach it, from the thresholds reached."""
    at = np.bincount(reached, weights=weights, minlength=count + 1)  # (T + 1,) entry 0: below all thresholds
    return np.cumsum(at[:0:-1]).astype(np.float64)


def _grid_scores(masks: Sequence[Mask], maps: Sequence[ScoreMap], levels: int) -> ScoreMap:
    total = sum(mask.size - int(np.count_nonzero(mask)) for mask in masks)
    # Odd, so that in an image of even width not always the same columns are looked at.
    step = 1 if total <= _SAMPLED_PIXELS else (total // _SAMPLED_PIXELS) | 1
    lowest, looked_at = np.inf, []
    for index, (mask, score_map) in enumerate(zip(masks, maps, strict=True)):
        check_pair(mask, score_map, index)
        lowest = min(lowest, float(score_map.min()))
        good = score_map[~mask]
        if good.size:
            looked_at += [good[::step].copy(), good.max(keepdims=True)]  # a view would keep all of them
    if not looked_at:
        raise DatasetError(
            f"every pixel of all {len(masks)} masks is a defect: there is no false positive rate; "
            "are the masks inverted?"
        )
    scores = np.unique(np.concatenate(looked_at)) if total <= _SAMPLED_PIXELS else None
    if scores is None or scores.size > levels:
        scores = np.sort(np.concatenate(looked_at))
        from_top = np.rint(np.linspace(0, 1, levels) ** 2 * (scores.size - 1)).astype(np.int64)
        scores = np.unique(scores[scores.size - 1 - from_top])
    return np.unique(np.append(scores, scores.dtype.type(lowest)))


def percentile_interval(values: _Figures, confidence: float) -> tuple[float, float]:
    """The percentile interval of resampled figures (R,)."""
    low, high = np.quantile(values, [(1 - confidence) / 2, (1 + confidence) / 2])
    return float(low), float(high)
