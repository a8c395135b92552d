"""From labels, scores, masks and maps of a test split to its figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from train.metrics.bootstrap import draws, percentile_interval, pro_grid, resampled_auroc
from train.metrics.checks import Mask, ScoreMap
from train.metrics.detection import image_auroc
from train.metrics.figures import (
    AuproFigures,
    Interval,
    Intervals,
    LegacyFigures,
    PixelFigures,
    ResizedFigures,
    TypeFigures,
)
from train.metrics.lazy import mapped, picked
from train.metrics.legacy import aupro_legacy
from train.metrics.localisation import AUPRO_LIMITS, pixel_auroc_of, pro_curve_of
from train.metrics.ranking import rank_pixels
from train.metrics.resize import lost_components, resize_map, resize_mask

__all__ = ["CONFIDENCE", "Judged", "intervals", "legacy_figures", "pixel_figures", "resized_figures"]

CONFIDENCE = 0.95


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """A test split and what a model said of it; `masks` bool and `maps` float (H, W), scores (N,).

    `marked` says of each image whether its mask has a pixel. An image with a defect and none marked has no
    ground truth: what its pixels are is not known, so they are in no figure.
    """

    defects: Sequence[str | None]
    scores: Sequence[float]
    masks: Sequence[Mask]
    maps: Sequence[ScoreMap]
    marked: Sequence[bool]

    @property
    def labels(self) -> list[bool]:
        return [defect is not None for defect in self.defects]

    def of_type(self, kind: str) -> Judged:
        """The good parts and those with that type of defect."""
        return self._rows([i for i, defect in enumerate(self.defects) if defect in (None, kind)])

    def with_ground_truth(self) -> Judged:
        """Without the defective parts on which nothing is marked."""
        rows = zip(self.defects, self.marked, strict=True)
        return self._rows([i for i, (defect, marked) in enumerate(rows) if defect is None or marked])

    def at_224(self) -> Judged:
        """With masks and maps at 224×224."""
        return Judged(
            self.defects,
            self.scores,
            mapped(self.masks, resize_mask),
            mapped(self.maps, resize_map),
            self.marked,
        )

    def type_figures(self, kind: str, *, legacy: bool) -> TypeFigures:
        """The figures of the good parts and those with that type of defect."""
        own = self.of_type(kind)
        known = own.with_ground_truth()
        pixels = pixel_figures(known)
        return TypeFigures(
            defective=sum(own.labels),
            i_auroc=image_auroc(own.labels, own.scores),
            p_auroc=None if pixels is None else pixels.p_auroc,
            aupro_30=None if pixels is None else pixels.aupro_30,
            aupro_5=None if pixels is None else pixels.aupro_5,
            aupro_1=None if pixels is None else pixels.aupro_1,
            at_224=resized_figures(known),
            legacy=legacy_figures(known) if legacy else None,
        )

    def _rows(self, rows: list[int]) -> Judged:
        return Judged(
            [self.defects[i] for i in rows],
            [self.scores[i] for i in rows],
            picked(self.masks, rows),
            picked(self.maps, rows),
            [self.marked[i] for i in rows],
        )


def pixel_figures(judged: Judged) -> PixelFigures | None:
    """Exact localisation figures, from one ranking of all pixels; None where nothing is marked."""
    if not any(judged.marked):
        return None
    ranking = rank_pixels(judged.masks, judged.maps)
    curve = pro_curve_of(ranking)
    areas = _areas({limit: curve.area(limit) for limit in AUPRO_LIMITS})
    return PixelFigures(**dict(areas), p_auroc=pixel_auroc_of(ranking), components=ranking.components)


def resized_figures(judged: Judged) -> ResizedFigures | None:
    """`pixel_figures` at 224×224; None where no piece of the ground truth has a pixel left."""
    pieces = [
        lost_components(mask) for mask, marked in zip(judged.masks, judged.marked, strict=True) if marked
    ]
    total, lost = sum(n for n, _ in pieces), sum(n for _, n in pieces)
    if total == lost:
        return None
    pixels = pixel_figures(judged.at_224())
    return None if pixels is None else ResizedFigures(**dict(pixels), components_lost=lost)


def legacy_figures(judged: Judged) -> LegacyFigures | None:
    """AUPRO by the published thresholds; None where nothing is marked."""
    if not any(judged.marked):
        return None
    small = judged.at_224()
    visible = any(bool(mask.any()) for mask in small.masks)
    return LegacyFigures(
        **dict(_areas(aupro_legacy(judged.masks, judged.maps, AUPRO_LIMITS))),
        at_224=_areas(aupro_legacy(small.masks, small.maps, AUPRO_LIMITS)) if visible else None,
    )


def intervals(judged: Judged, resamples: int, seed: int) -> Intervals:
    """Percentile intervals; good parts, marked and unmarked defective ones are drawn each among themselves.

    So every resample has as many of each as the split, and always something to find. Raises `ConfigError`
    for too few resamples.
    """
    strata = [2 * label + mark for label, mark in zip(judged.labels, judged.marked, strict=True)]
    times = draws(strata, resamples, seed)  # (R, N)
    found: dict[str, Interval | None] = {"aupro_30": None, "aupro_5": None, "aupro_1": None}
    if any(judged.marked):
        pairs = zip(judged.defects, judged.marked, strict=True)
        known = [i for i, (defect, marked) in enumerate(pairs) if defect is None or marked]
        grid = pro_grid(picked(judged.masks, known), picked(judged.maps, known))
        areas = grid.aupro(times[:, known], AUPRO_LIMITS)  # (R, 3)
        found = {
            name: _interval(percentile_interval(areas[:, i], CONFIDENCE)) for i, name in enumerate(found)
        }
    return Intervals(
        resamples=resamples,
        seed=seed,
        confidence=CONFIDENCE,
        i_auroc=_interval(
            percentile_interval(resampled_auroc(judged.labels, judged.scores, times), CONFIDENCE)
        ),
        **found,
    )


def _interval(ends: tuple[float, float]) -> Interval:
    return Interval(low=ends[0], high=ends[1])


def _areas(by_limit: dict[float, float]) -> AuproFigures:
    return AuproFigures(aupro_30=by_limit[0.3], aupro_5=by_limit[0.05], aupro_1=by_limit[0.01])
