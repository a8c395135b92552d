"""How good a model is: detection of defective parts, and localisation of their defects.

docs/metrics.md says in words, with sources, what each number means and where other code differs.
"""

from __future__ import annotations

from train.metrics.aggregate import MeanFigures, MeanTypeFigures, mean_over_categories
from train.metrics.bootstrap import (
    MIN_RESAMPLES,
    ProGrid,
    draws,
    percentile_interval,
    pro_grid,
    resampled_auroc,
)
from train.metrics.curves import CurvePoints, pro_curve_points, roc_curve_points
from train.metrics.detection import (
    FalsePositiveRate,
    checked_labels,
    false_positive_rate_at,
    image_auroc,
)
from train.metrics.figures import (
    AuproFigures,
    Figures,
    Interval,
    Intervals,
    LegacyFigures,
    OutsideMask,
    PixelFigures,
    ResizedFigures,
    TypeFigures,
)
from train.metrics.judging import Judged, intervals, legacy_figures, pixel_figures, resized_figures
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
from train.metrics.resize import PUBLISHED_PX, lost_components, resize_map, resize_mask

__all__ = [
    "AUPRO_LIMITS",
    "MIN_RESAMPLES",
    "PUBLISHED_PX",
    "AuproFigures",
    "CurvePoints",
    "FalsePositiveRate",
    "Figures",
    "Interval",
    "Intervals",
    "Judged",
    "LegacyFigures",
    "MeanFigures",
    "MeanTypeFigures",
    "OutsideMask",
    "PixelFigures",
    "PixelRanking",
    "ProCurve",
    "ProGrid",
    "ResizedFigures",
    "TypeFigures",
    "aupro",
    "aupro_legacy",
    "checked_labels",
    "draws",
    "false_positive_rate_at",
    "image_auroc",
    "intervals",
    "legacy_figures",
    "lost_components",
    "lost_ground_truth_fraction",
    "mean_over_categories",
    "percentile_interval",
    "pixel_auroc",
    "pixel_figures",
    "pro_curve",
    "pro_curve_points",
    "pro_grid",
    "rank_pixels",
    "resampled_auroc",
    "resize_map",
    "resize_mask",
    "resized_figures",
    "roc_curve_points",
]
