"""The figures of a split as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from edge.region_rules import RegionRules
from edge.scoring import ScoreSpec
from train.metrics import AuproFigures, Figures, Interval, TypeFigures

__all__ = ["Metrics", "figures_tables"]

Metrics = Literal["exact", "legacy", "both"]

_AUPRO = (("AUPRO @ 30 %", "aupro_30"), ("AUPRO @ 5 %", "aupro_5"), ("AUPRO @ 1 %", "aupro_1"))


def figures_tables(figures: Figures, metrics: Metrics) -> RenderableType:
    """A table of all parts, one per type of defect, and what is to be known when reading them."""
    parts: list[RenderableType] = []
    if figures.score_overridden:
        parts.append(Text(f"score overridden: {_score(figures.score)}, in place of the model's own", "bold"))
    if figures.region_rules is not None:
        parts.append(Text(f"scores by region rules: {_rules(figures.region_rules)}; pixels by the whole map"))
    parts.append(_whole(figures, metrics))
    if len(figures.by_defect) > 1:
        parts.append(_types(figures, metrics))
    return Group(*parts, *(Text(line) for line in _notes(figures)))


def _score(score: ScoreSpec) -> str:
    share = f" of {score.top_share:g}" if score.kind == "top_mean" else ""
    return f"{score.kind}{share}, smoothing {score.smoothing_px:g} px"


def _rules(rules: RegionRules) -> str:
    said = [
        f"{zone.name} " + ("ignored" if zone.ignore else f"above {zone.threshold:g}") for zone in rules.zones
    ]
    said += [] if rules.min_area_mm2 is None else [f"{rules.min_area_mm2:g} mm² at least"]
    return ", ".join(said) or "none"


def _whole(figures: Figures, metrics: Metrics) -> Table:
    """One column per way of computing; the interval stands beside the figures that it is of."""
    names = ("I-AUROC", "P-AUROC", *(name for name, _ in _AUPRO))
    image = _number(figures.i_auroc)
    columns: list[tuple[str, list[str]]] = []
    if metrics != "legacy":
        columns.append(("original", [image, _number(figures.p_auroc), *_areas(figures)]))
        small = figures.at_224
        columns.append(("at 224", ["", _number(None if small is None else small.p_auroc), *_areas(small)]))
    if metrics != "exact":
        # Scores of images know neither of resolution nor of thresholds: one number, in the first column.
        first = image if metrics == "legacy" else ""
        legacy = figures.legacy
        columns.append(("legacy", [first, "", *_areas(legacy)]))
        columns.append(("legacy at 224", ["", "", *_areas(None if legacy is None else legacy.at_224)]))
    if figures.intervals is not None:
        within = figures.intervals
        areas = [_between(getattr(within, field)) if metrics != "legacy" else "" for _, field in _AUPRO]
        columns.insert(1, (f"{within.confidence:.0%} interval", [_between(within.i_auroc), "", *areas]))
    table = Table(title=f"{figures.good} good and {figures.defective} defective parts")
    table.add_column("figure")
    for name, _ in columns:
        table.add_column(name, justify="right")
    for row, name in enumerate(names):
        table.add_row(name, *(cells[row] for _, cells in columns))
    return table


def _types(figures: Figures, metrics: Metrics) -> Table:
    """Each type at the original resolution; AUPRO is the published where that alone is asked for."""
    table = Table(title="good parts and one type of defect" + (", legacy" if metrics == "legacy" else ""))
    for name in ("type", "defective", "I-AUROC", "P-AUROC", "@ 30 %", "@ 5 %", "@ 1 %"):
        table.add_column(name, justify="left" if name == "type" else "right")
    for kind, own in figures.by_defect.items():
        table.add_row(
            kind,
            str(own.defective),
            _number(own.i_auroc),
            _number(own.p_auroc),
            *_areas(own.legacy if metrics == "legacy" else own),
        )
    return table


def _notes(figures: Figures) -> Iterator[str]:
    at = figures.fpr_at_detection
    yield (
        f"good parts rejected when {at.detection_rate:.4g} of the defective are found: {at.rate:.4f} "
        f"({at.false_positives} of {at.good}; {at.confidence:.0%} interval {at.low:.4f} to {at.high:.4f})"
    )
    outside = figures.outside_mask
    if outside is not None and figures.ground_truth_outside_mask is not None:
        yield f"ground truth outside the mask: {figures.ground_truth_outside_mask:.4f} of all its pixels"
        if outside.worst > 0:
            yield f"  mean of the parts {outside.mean:.4f}, worst {outside.worst:.4f} in {outside.worst_part}"
    if figures.unmarked:
        yield (
            f"{figures.unmarked} defective parts have no ground truth: they are in I-AUROC and in nothing "
            "that is said of pixels"
        )
    if figures.at_224 is not None and figures.at_224.components_lost:
        pieces = figures.at_224
        total = pieces.components_lost + pieces.components
        yield f"at 224 {pieces.components_lost} of about {total} pieces of ground truth have no pixel left"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _areas(own: AuproFigures | Figures | TypeFigures | None) -> list[str]:
    return [_number(None if own is None else getattr(own, field)) for _, field in _AUPRO]


def _between(interval: Interval | None) -> str:
    return "–" if interval is None else f"{interval.low:.4f} – {interval.high:.4f}"
