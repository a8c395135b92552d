"""What is told of a model on one test split: the figures of the papers' tables, as one frozen value.

docs/metrics.md says of each how it is defined. None stands where a figure can't be had, never a number.
"""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict

from edge.region_rules import RegionRules
from edge.scoring import ScoreSpec
from train.metrics.detection import FalsePositiveRate

__all__ = [
    "AuproFigures",
    "Figures",
    "Interval",
    "Intervals",
    "LegacyFigures",
    "OutsideMask",
    "PixelFigures",
    "ResizedFigures",
    "TypeFigures",
]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class AuproFigures(_Frozen):
    """The area under the PRO curve up to that false positive rate in percent."""

    aupro_30: float
    aupro_5: float
    aupro_1: float


class PixelFigures(AuproFigures):
    """Localisation over `components` pieces of ground truth."""

    p_auroc: float
    components: int


class ResizedFigures(PixelFigures):
    """Localisation at 224×224, where `components_lost` pieces of the ground truth have no pixel left."""

    components_lost: int


class LegacyFigures(AuproFigures):
    """AUPRO as the published code samples it (100 ranks), at the original resolution and at 224×224."""

    at_224: AuproFigures | None


class TypeFigures(_Frozen):
    """The good parts and those with one type of defect; None where no pixel of the type is marked."""

    defective: int
    i_auroc: float
    p_auroc: float | None
    aupro_30: float | None
    aupro_5: float | None
    aupro_1: float | None
    at_224: ResizedFigures | None
    legacy: LegacyFigures | None = None


class OutsideMask(_Frozen):
    """Ground truth outside the foreground, as shares of each marked image: their mean, and the worst."""

    mean: float
    worst: float
    worst_part: str


class Interval(_Frozen):
    """A figure's percentile interval."""

    low: float
    high: float


class Intervals(_Frozen):
    """Intervals over `resamples` stratified resamples of the test images, drawn from `seed`."""

    resamples: int
    seed: int
    confidence: float
    i_auroc: Interval
    aupro_30: Interval | None
    aupro_5: Interval | None
    aupro_1: Interval | None


class Figures(_Frozen):
    """The field's figures over one test split; exact, at the frames' own resolution where not said otherwise.

    `unmarked` defective images have no ground truth: they count for I-AUROC, and are left out of all that
    is said of pixels, which is None where no image has any. `score` is the score function that was used;
    where it is not the model's own, `score_overridden` is True. `region_rules` are those of the calibration
    that the images' scores are by; what is said of pixels is of the model's map, whatever they are.
    """

    images: int
    good: int
    defective: int
    unmarked: int
    i_auroc: float
    p_auroc: float | None
    aupro_30: float | None
    aupro_5: float | None
    aupro_1: float | None
    ground_truth_outside_mask: float | None
    outside_mask: OutsideMask | None
    fpr_at_detection: FalsePositiveRate
    by_defect: dict[str, TypeFigures]
    at_224: ResizedFigures | None
    legacy: LegacyFigures | None = None
    intervals: Intervals | None = None
    score: ScoreSpec
    score_overridden: bool = False
    region_rules: RegionRules | None = None
