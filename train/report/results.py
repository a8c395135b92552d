"""What a report says of the test parts, as far as it can be said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edge.camera.sample import Sample
from edge.errors import CaptureError, DatasetError
from train.evaluation import EvaluationOptions, Predictor, evaluate, judge
from train.metrics import AUPRO_LIMITS, CurvePoints, pro_curve_points, roc_curve_points
from train.metrics.figures import AuproFigures, Figures, Interval
from train.metrics.lazy import Lazy, picked

__all__ = [
    "Decision",
    "JudgedParts",
    "KeyFigure",
    "PixelRow",
    "TypeRow",
    "decide",
    "judge_parts",
    "key_figures",
    "pixel_rows",
    "pro_points",
    "roc_points",
    "type_rows",
]

_Float = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True, eq=False)
class JudgedParts:
    """Test parts, in one order: samples, names, defects (None: good), scores and maps (H, W).

    `figures` is None where the parts allow none: without a good or without a defective one.
    """

    samples: Sequence[Sample]
    names: Sequence[str]
    defects: Sequence[str | None]
    scores: Sequence[float]
    maps: Sequence[_Float]
    figures: Figures | None

    @property
    def defective(self) -> tuple[bool, ...]:
        return tuple(defect is not None for defect in self.defects)

    def of(self, *, defective: bool) -> tuple[float, ...]:
        """The scores of the defective, or of the good parts."""
        return tuple(s for s, bad in zip(self.scores, self.defective, strict=True) if bad == defective)


@dataclass(frozen=True, slots=True)
class Decision:
    """How many parts fell on which side of the threshold."""

    found: int
    missed: int
    passed: int
    rejected: int


@dataclass(frozen=True, slots=True)
class KeyFigure:
    """One large number, the interval that holds it, and what it means."""

    label: str
    value: float
    interval: Interval | None
    meaning: str


@dataclass(frozen=True, slots=True)
class TypeRow:
    """One anomaly type against all good parts (or all types); None where a figure is not known."""

    name: str
    parts: int
    found: int | None
    i_auroc: float
    p_auroc: float | None
    aupro: tuple[float | None, float | None, float | None]


@dataclass(frozen=True, slots=True)
class PixelRow:
    """Localisation, computed another way."""

    name: str
    p_auroc: float | None
    aupro: tuple[float, float, float]


def judge_parts(
    predictor: Predictor,
    samples: Sequence[Sample],
    progress: Callable[[int], None],
    options: EvaluationOptions,
) -> JudgedParts:
    """Judge the samples, with figures where there are both good and defective ones among them.

    Raises `DatasetError` where there is none, or one can't be judged (its file is named), `TrainingError`
    where a map is not finite.
    """
    if not samples:
        raise DatasetError("no test part: a report needs at least one; name a folder that holds some")
    if len({sample.defect is None for sample in samples}) == 2:
        whole = evaluate(predictor, samples, progress, options)
        return JudgedParts(samples, whole.names, whole.defects, whole.scores, whole.maps, whole.figures)
    split = judge(predictor, samples, progress, options)
    return JudgedParts(
        samples, split.names, split.judged.defects, split.judged.scores, split.judged.maps, None
    )


def decide(judged: JudgedParts, threshold: float | None) -> Decision | None:
    """Right and wrong verdicts at the threshold, as the device gives them: above it, a part fails."""
    if threshold is None:
        return None
    bad, good = judged.of(defective=True), judged.of(defective=False)
    found, rejected = sum(s > threshold for s in bad), sum(s > threshold for s in good)
    return Decision(found, len(bad) - found, len(good) - rejected, rejected)


def roc_points(judged: JudgedParts) -> CurvePoints:
    """The ROC curve of the parts; see `train.metrics.roc_curve_points`."""
    return roc_curve_points(judged.defective, judged.scores)


def pro_points(judged: JudgedParts) -> CurvePoints | None:
    """The per-region overlap up to the largest limit of AUPRO; None where no defect is marked.

    Defective parts without a mark are left out, as in AUPRO. Raises `DatasetError` naming a mask's file.
    """
    if judged.figures is None or judged.figures.aupro_30 is None:
        return None
    marked = [bool(_mask(sample).any()) for sample in judged.samples]
    known = [i for i, defect in enumerate(judged.defects) if defect is None or marked[i]]
    masks = Lazy(len(known), lambda i: _mask(judged.samples[known[i]]))
    return pro_curve_points(masks, picked(judged.maps, known), max(AUPRO_LIMITS))


def _mask(sample: Sample) -> npt.NDArray[np.bool_]:
    try:
        return sample.mask()
    except CaptureError as error:
        raise DatasetError(str(error)) from error


def key_figures(figures: Figures) -> tuple[KeyFigure, ...]:
    """The figures by which models are compared; those that can't be had are left out."""
    within, fpr = figures.intervals, figures.fpr_at_detection
    found = [
        KeyFigure(
            "I-AUROC",
            figures.i_auroc,
            None if within is None else within.i_auroc,
            "chance that a defective part outscores a good one",
        )
    ]
    for limit, value, interval in (
        (30, figures.aupro_30, None if within is None else within.aupro_30),
        (5, figures.aupro_5, None if within is None else within.aupro_5),
        (1, figures.aupro_1, None if within is None else within.aupro_1),
    ):
        if value is not None:
            meaning = f"overlap with defects, up to {limit}\u00a0% FPR"
            found.append(KeyFigure(f"AUPRO@{limit}", value, interval, meaning))
    found.append(
        KeyFigure(
            f"FPR@{100 * fpr.detection_rate:.4g}",
            fpr.rate,
            Interval(low=fpr.low, high=fpr.high),
            f"good parts rejected ({fpr.false_positives} of {fpr.good}) where {fpr.detected} of "
            f"{fpr.defective} defective ones are found",
        )
    )
    return tuple(found)


def type_rows(judged: JudgedParts, threshold: float | None) -> tuple[TypeRow, ...]:
    """All types, then each for itself in the order of their names; none without figures."""
    figures = judged.figures
    if figures is None:
        return ()

    def found(kind: str | None) -> int | None:
        if threshold is None:
            return None
        own = zip(judged.scores, judged.defects, strict=True)
        return sum(s > threshold for s, defect in own if defect is not None and kind in (None, defect))

    whole = TypeRow(
        "all",
        figures.defective,
        found(None),
        figures.i_auroc,
        figures.p_auroc,
        (figures.aupro_30, figures.aupro_5, figures.aupro_1),
    )
    return (
        whole,
        *(
            TypeRow(
                name,
                own.defective,
                found(name),
                own.i_auroc,
                own.p_auroc,
                (own.aupro_30, own.aupro_5, own.aupro_1),
            )
            for name, own in sorted(figures.by_defect.items())
        ),
    )


def pixel_rows(figures: Figures) -> tuple[PixelRow, ...]:
    """The localisation at 224×224 and by the published code's thresholds, as far as they were computed."""
    legacy = figures.legacy
    rows: list[tuple[str, float | None, AuproFigures | None]] = [
        ("at 224 × 224", None if figures.at_224 is None else figures.at_224.p_auroc, figures.at_224),
        ("thresholds of the published code", None, legacy),
        ("the same at 224 × 224", None, None if legacy is None else legacy.at_224),
    ]
    return tuple(
        PixelRow(name, p_auroc, (areas.aupro_30, areas.aupro_5, areas.aupro_1))
        for name, p_auroc, areas in rows
        if areas is not None
    )
