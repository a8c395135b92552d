"""Detection of defective parts from one score per image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import binomtest
from sklearn.metrics import roc_auc_score

from edge.errors import ConfigError, DatasetError

__all__ = [
    "FalsePositiveRate",
    "Labels",
    "Scores",
    "checked_labels",
    "false_positive_rate_at",
    "image_auroc",
]

Labels = Sequence[bool] | Sequence[int] | npt.NDArray[np.bool_] | npt.NDArray[np.integer]
"""(N,), True or 1 for a defective image, False or 0 for a good one."""

Scores = Sequence[float] | npt.NDArray[np.floating]
"""(N,), larger is more anomalous."""


@dataclass(frozen=True, slots=True)
class FalsePositiveRate:
    """The share of good parts that are rejected when a fixed share of defective ones is found.

    `detection_rate` is what was asked for; `rate` = `false_positives` / `good`; `low` and `high` bound it
    with `confidence` (Clopper-Pearson). An image is rejected where its score is at least `threshold`, which
    finds `detected` of `defective`.
    """

    detection_rate: float
    rate: float
    low: float
    high: float
    confidence: float
    threshold: float
    false_positives: int
    good: int
    detected: int
    defective: int


def image_auroc(labels: Labels, scores: Scores) -> float:
    """The area under the ROC curve of the images: a defective one outscores a good one; a tie is one half.

    `labels` (N,) True or 1 for defective; `scores` (N,). Raises `DatasetError` where a class is missing, the
    lengths differ, a label is neither 0 nor 1, or a score is NaN or infinite (its image is named).
    """
    truth, values = checked_labels(labels, scores)
    return float(roc_auc_score(truth, values))


def false_positive_rate_at(
    labels: Labels, scores: Scores, detection_rate: float, confidence: float = 0.95
) -> FalsePositiveRate:
    """The false positive rate at the highest threshold that finds at least `detection_rate` of the defects.

    `labels` (N,) True or 1 for defective; `scores` (N,); `detection_rate` in (0, 1]; `confidence` in (0, 1).
    The interval is the exact one for a binomial rate (Clopper and Pearson, 1934) given the threshold: it
    says how far chance in the choice of good parts goes, not how far the threshold itself might move.

    Raises `ConfigError` for a rate or confidence out of range, `DatasetError` as `image_auroc` does.
    """
    if not 0.0 < detection_rate <= 1.0 or not 0.0 < confidence < 1.0:
        raise ConfigError(
            f"detection rate {detection_rate}, confidence {confidence}; the first must lie in (0, 1], "
            "the second in (0, 1), such as 0.95"
        )
    truth, values = checked_labels(labels, scores)
    defective = np.sort(values[truth])[::-1]  # (D,), highest first
    good = values[~truth]  # (G,)
    # As k/D ≥ rate and not as ceil(rate·D): 0.07·100 is above 7 in floating point, 7/100 is not below 0.07.
    enough = np.arange(1, defective.size + 1) / defective.size >= detection_rate  # (D,)
    threshold = defective[np.argmax(enough)]
    false_positives = int(np.count_nonzero(good >= threshold))
    interval = binomtest(false_positives, good.size).proportion_ci(confidence, method="exact")
    return FalsePositiveRate(
        detection_rate=detection_rate,
        rate=false_positives / good.size,
        low=float(interval.low),
        high=float(interval.high),
        confidence=confidence,
        threshold=float(threshold),
        false_positives=false_positives,
        good=int(good.size),
        detected=int(np.count_nonzero(defective >= threshold)),
        defective=int(defective.size),
    )


def checked_labels(labels: Labels, scores: Scores) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Labels (N,) as bool and scores (N,) as float64; `DatasetError` where no figure can be made of them."""
    truth, values = np.asarray(labels), np.asarray(scores, dtype=np.float64)
    if truth.ndim != 1 or truth.shape != values.shape:
        raise DatasetError(
            f"labels are {truth.shape}, scores are {values.shape}; give one of each per image, in one order"
        )
    odd = np.flatnonzero((truth != 0) & (truth != 1))
    if odd.size:
        raise DatasetError(
            f"image {odd[0]}: label is {truth[odd[0]]!r}, must be 0 or False (good) or 1 or True (defective)"
        )
    lost = np.flatnonzero(~np.isfinite(values))
    if lost.size:
        raise DatasetError(
            f"image {lost[0]}: score is {values[lost[0]]}, and so are {lost.size - 1} more; such a score "
            "can't be ranked: find out in which stage the number is lost"
        )
    is_defective = truth.astype(np.bool_)
    defects = int(np.count_nonzero(is_defective))
    if defects in {0, truth.size}:
        raise DatasetError(
            f"{truth.size - defects} good and {defects} defective images; there must be at least one of "
            "each: add the missing kind to the test split"
        )
    return is_defective, values
