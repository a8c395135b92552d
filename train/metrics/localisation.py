"""Localisation of defects: pixel AUROC, and the area under the per-region-overlap curve (AUPRO)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.integrate import trapezoid

from edge.errors import DatasetError
from train.metrics.checks import Mask, ScoreMap, check_limits, check_mask, check_same_length
from train.metrics.ranking import PixelRanking, rank_pixels

__all__ = [
    "AUPRO_LIMITS",
    "ProCurve",
    "area_up_to",
    "aupro",
    "lost_ground_truth_fraction",
    "pixel_auroc",
    "pixel_auroc_of",
    "pro_curve",
    "pro_curve_of",
]

AUPRO_LIMITS = (0.3, 0.05, 0.01)
"""False positive rates up to which the PRO curve is integrated where nothing else is asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class ProCurve:
    """The corner points of the exact PRO curve, from (0, 0) to (1, 1), joined by straight lines.

    `fpr` and `pro` float64 (N,), neither ever falling. Points on a straight line between two corners are
    left out.
    """

    fpr: npt.NDArray[np.float64]
    pro: npt.NDArray[np.float64]

    def area(self, limit: float) -> float:
        """The mean of the curve over false positive rates from 0 to `limit`: AUPRO, 1 is perfect."""
        (checked,) = check_limits((limit,))
        return area_up_to(self.fpr, self.pro, checked)


def area_up_to(fpr: npt.NDArray[np.float64], pro: npt.NDArray[np.float64], limit: float) -> float:
    """Trapezoid under a curve from fpr 0 to `limit`, divided by `limit`; straight between the points.

    `fpr` (N,) rises from 0 to 1 and may repeat values (the curve is vertical there).
    """
    inside = int(np.searchsorted(fpr, limit, side="right"))
    x, y = fpr[:inside], pro[:inside]
    if inside < fpr.size:
        x0, x1, y0, y1 = fpr[inside - 1], fpr[inside], pro[inside - 1], pro[inside]
        x = np.append(x, limit)
        y = np.append(y, y0 + (y1 - y0) * (limit - x0) / (x1 - x0))
    return float(trapezoid(y, x)) / limit


def pro_curve(masks: Sequence[Mask], maps: Sequence[ScoreMap]) -> ProCurve:
    """The exact PRO curve of a category: every distinct score is a threshold, and ties cross together.

    With P = all pixels of all test images whose score is at least the threshold, PRO is the mean of
    |P∩C|/|C| over all 8-connected components C of the ground truth, each counting the same whatever its
    size, and FPR is the share of the good pixels of all images, good and defective, that lie in P. A
    threshold above every score gives (0, 0), the lowest score gives (1, 1). Bergmann et al., "The MVTec
    3D-AD dataset for unsupervised 3D anomaly detection and localization" (2021), section on evaluation.

    `masks` bool (H, W), `maps` float (H, W), one per image. Raises `DatasetError` as `rank_pixels` does.
    """
    return pro_curve_of(rank_pixels(masks, maps))


def aupro(
    masks: Sequence[Mask], maps: Sequence[ScoreMap], limits: Iterable[float] = AUPRO_LIMITS
) -> dict[float, float]:
    """The area under the exact PRO curve up to each false positive rate of `limits`, divided by it.

    `masks` bool (H, W), `maps` float (H, W), one per image of a category's test split, good and defective.
    Returns limit → AUPRO; 1 is perfect, and a constant map has limit / 2. `pro_curve` names the source.

    Raises `ConfigError` for a limit outside (0, 1], `DatasetError` as `rank_pixels` does.
    """
    checked = check_limits(limits)
    curve = pro_curve(masks, maps)
    return {limit: curve.area(limit) for limit in checked}


def pixel_auroc(masks: Sequence[Mask], maps: Sequence[ScoreMap]) -> float:
    """The area under the ROC curve of all pixels of all images pooled; a tie counts one half.

    `masks` bool (H, W), `maps` float (H, W), one per image. Raises `DatasetError` as `rank_pixels` does.
    """
    return pixel_auroc_of(rank_pixels(masks, maps))


def pixel_auroc_of(ranking: PixelRanking) -> float:
    """`pixel_auroc` of pixels that are ranked already."""
    # Twice the Mann-Whitney statistic, in integers: a good pixel below counts 2, one at the same score 1.
    below_or_above = ranking.good_at_or_above + ranking.good_above  # (L,)
    wins = ranking.defect_count * (2 * ranking.good_pixels - below_or_above)  # (L,)
    return int(wins.sum()) / (2 * int(ranking.defect_count.sum()) * ranking.good_pixels)


def lost_ground_truth_fraction(masks: Sequence[Mask], foreground_masks: Sequence[Mask]) -> float:
    """The fraction of all defect pixels that lie outside the foreground, where no map can find them.

    `masks` and `foreground_masks` bool (H, W), one of each per image (True where the part is); pixels of
    all images pooled. A method that masks its map can't reach a pixel AUROC or AUPRO of 1 where this is
    above 0. Raises `DatasetError`, naming the image, where shapes differ, and where there is no defect pixel.
    """
    check_same_length(masks, foreground_masks, "foreground masks")
    lost = total = 0
    for index, (mask, foreground) in enumerate(zip(masks, foreground_masks, strict=True)):
        check_mask(mask, index)
        check_mask(foreground, index, "foreground mask")
        if foreground.shape != mask.shape:
            raise DatasetError(
                f"image {index}: foreground mask is {foreground.shape}, mask is {mask.shape}; bring the "
                "foreground mask back to the original resolution first"
            )
        total += int(np.count_nonzero(mask))
        lost += int(np.count_nonzero(mask & ~foreground))
    if total == 0:
        raise DatasetError(
            f"none of the {len(masks)} masks has a defect pixel, so none can be lost; add defective images"
        )
    return lost / total


def pro_curve_of(ranking: PixelRanking) -> ProCurve:
    """`pro_curve` of pixels that are ranked already."""
    # Each level is a straight line: good and defect pixels of one score cross the threshold together.
    # From a level's end to the next one's start only good pixels cross, and the curve runs level.
    count = ranking.levels.size
    fpr = np.empty(2 * count + 2)
    pro = np.empty(2 * count + 2)
    fpr[0], pro[0], fpr[-1], pro[-1] = 0.0, 0.0, 1.0, 1.0
    fpr[1:-1:2] = ranking.good_above / ranking.good_pixels
    fpr[2:-1:2] = ranking.good_at_or_above / ranking.good_pixels
    pro[1:-1:2] = np.concatenate(([0.0], ranking.overlap[:-1]))
    pro[2:-1:2] = ranking.overlap
    return ProCurve(fpr=fpr, pro=pro)
