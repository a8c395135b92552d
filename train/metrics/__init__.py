"""How good a model is: detection of defective parts, and localisation of their defects.

docs/metrics.md says in words, with sources, what each number means and where other code differs.
"""

from __future__ import annotations

from train.metrics.curves import CurvePoints, pro_curve_points, roc_curve_points
from train.metrics.detection import FalsePositiveRate, false_positive_rate_at, image_auroc
from train.metrics.legacy import aupro_legacy
from train.metrics.localisation import (
    AUPRO_LIMITS,
    ProCurve,
    aupro,
    lost_ground_truth_fraction,
    pixel_auroc,
    pro_curve,
)
from train.metrics.ranking import PixelRanking, rank_pixels

__all__ = [
    "AUPRO_LIMITS",
    "CurvePoints",
    "FalsePositiveRate",
    "PixelRanking",
    "ProCurve",
    "aupro",
    "aupro_legacy",
    "false_positive_rate_at",
    "image_auroc",
    "lost_ground_truth_fraction",
    "pixel_auroc",
    "pro_curve",
    "pro_curve_points",
    "rank_pixels",
    "roc_curve_points",
]
