"""Means over the categories of a data set, as the papers' tables have them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from pydantic import BaseModel, ConfigDict

from edge.errors import DatasetError
from train.metrics.figures import AuproFigures, Figures, TypeFigures

__all__ = ["MeanAupro", "MeanFigures", "MeanLegacy", "MeanPixels", "MeanTypeFigures", "mean_over_categories"]


class MeanAupro(BaseModel):
    """AUPRO, the mean over categories; None where one of them has none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    aupro_30: float | None
    aupro_5: float | None
    aupro_1: float | None


class MeanPixels(MeanAupro):
    """Localisation, the mean over categories; None where one of them has none."""

    p_auroc: float | None


class MeanLegacy(MeanAupro):
    """AUPRO by the published thresholds, the mean over categories, and the same at 224×224."""

    at_224: MeanAupro | None


class MeanTypeFigures(MeanPixels):
    """The mean over the `categories` that have the type of defect, and no others."""

    categories: int
    i_auroc: float
    at_224: MeanPixels | None
    legacy: MeanLegacy | None


class MeanFigures(MeanTypeFigures):
    """The unweighted mean over `categories`, whatever their numbers of images; and per type of defect."""

    fpr_at_detection: float
    by_defect: dict[str, MeanTypeFigures]


def mean_over_categories(figures: Mapping[str, Figures]) -> MeanFigures:
    """The unweighted mean over categories; of a type of defect, over the categories that have it.

    The tables of MVTec 3D-AD papers are made so, and per type those of multi-scale distillation. A figure
    that one category lacks (nothing is marked there) has no mean: it is None, not the mean of the rest.

    Raises `DatasetError` where there is no category, or where they were judged at different detection rates.
    """
    every = list(figures.values())
    if not every:
        raise DatasetError("no category to take a mean over; evaluate at least one")
    rates = sorted({one.fpr_at_detection.detection_rate for one in every})
    if len(rates) > 1:
        raise DatasetError(
            f"the categories {', '.join(figures)} were judged at detection rates "
            f"{', '.join(f'{rate:g}' for rate in rates)}; evaluate all of them at one"
        )
    kinds = sorted({kind for one in every for kind in one.by_defect})
    having = {kind: [one.by_defect[kind] for one in every if kind in one.by_defect] for kind in kinds}
    return MeanFigures(
        **_five(every),
        fpr_at_detection=fmean(one.fpr_at_detection.rate for one in every),
        by_defect={kind: MeanTypeFigures(**_five(those)) for kind, those in having.items()},
    )


def _five(every: Sequence[Figures] | Sequence[TypeFigures]) -> dict[str, Any]:
    small = [one.at_224 for one in every if one.at_224 is not None]
    legacy = [one.legacy for one in every if one.legacy is not None]
    small_legacy = [one.at_224 for one in legacy if one.at_224 is not None]
    count = len(every)
    return {
        "categories": count,
        "i_auroc": fmean(one.i_auroc for one in every),
        "p_auroc": _mean([one.p_auroc for one in every]),
        **_aupro(every),
        "at_224": MeanPixels(p_auroc=fmean(one.p_auroc for one in small), **_aupro(small))
        if len(small) == count
        else None,
        "legacy": MeanLegacy(
            **_aupro(legacy),
            at_224=MeanAupro(**_aupro(small_legacy)) if len(small_legacy) == count else None,
        )
        if len(legacy) == count
        else None,
    }


def _aupro(
    every: Sequence[AuproFigures] | Sequence[Figures] | Sequence[TypeFigures],
) -> dict[str, float | None]:
    return {
        "aupro_30": _mean([one.aupro_30 for one in every]),
        "aupro_5": _mean([one.aupro_5 for one in every]),
        "aupro_1": _mean([one.aupro_1 for one in every]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    present = [value for value in values if value is not None]
    return fmean(present) if len(present) == len(values) else None
