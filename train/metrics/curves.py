"""Points of ROC and PRO curves, few enough to draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_curve

from edge.errors import ConfigError
from train.metrics.checks import Mask, ScoreMap, check_limits
from train.metrics.detection import Labels, Scores, checked_labels
from train.metrics.localisation import pro_curve

__all__ = ["CurvePoints", "pro_curve_points", "roc_curve_points"]

CurvePoints = tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]
"""x and y, (N,) each; x never falls. Straight lines join the points."""


def roc_curve_points(labels: Labels, scores: Scores) -> CurvePoints:
    """False and true positive rates of the images, from (0, 0) to (1, 1): all corners of the ROC curve.

    `labels` (N,) True or 1 for defective; `scores` (N,). The area under the points is `image_auroc`.
    Raises `DatasetError` as it does.
    """
    truth, values = checked_labels(labels, scores)
    fpr, tpr, _ = roc_curve(truth, values)
    return np.asarray(fpr, dtype=np.float64), np.asarray(tpr, dtype=np.float64)


def pro_curve_points(
    masks: Sequence[Mask], maps: Sequence[ScoreMap], limit: float, points: int = 1000
) -> CurvePoints:
    """False positive rates from 0 to `limit` and the per-region overlap at each, for a drawing.

    `masks` bool (H, W), `maps` float (H, W), one per image. Each point lies on the exact curve
    (`pro_curve`), which has as many corners as the defects have distinct scores; where they are more than
    `points`, they are thinned evenly along the false positive rate. For the area take `aupro`: it is exact.

    Raises `ConfigError` for a limit outside (0, 1] or fewer than two points, `DatasetError` as `pro_curve`.
    """
    (end,) = check_limits((limit,))
    if points < 2:
        raise ConfigError(f"{points} points make no curve; give at least 2")
    curve = pro_curve(masks, maps)
    inside = int(np.searchsorted(curve.fpr, end, side="right"))
    kept = np.arange(inside)
    if inside > points:
        # The last corner at or below each rate: on a vertical stretch its upper end.
        steps = np.searchsorted(curve.fpr, np.linspace(0.0, end, points), side="right") - 1
        kept = np.unique(np.append(0, np.minimum(steps, inside - 1)))
    fpr, pro = curve.fpr[kept], curve.pro[kept]
    if fpr[-1] < end:
        fpr, pro = np.append(fpr, end), np.append(pro, np.interp(end, curve.fpr, curve.pro))
    return fpr, pro
