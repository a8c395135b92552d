"""The figures of a split as tables for a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from train.metrics import AuproFigures, Figures, Interval, PixelFigures, TypeFigures

__all__ = ["Metrics", "figures_tables"]

Metrics = Literal["exact", "legacy", "both"]

_AUPRO = (("AUPRO @ 30 %", "aupro_30"), ("AUPRO @ 5 %", "aupro_5"), ("AUPRO @ 1 %", "aupro_1"))


def figures_tables(figures: Figures, metrics: Metrics) -> RenderableType:
    """A table of all parts, one per type of defect, and below them what is to be known when reading them."""
    parts: list[RenderableType] = [_whole(figures, metrics)]
    if len(figures.by_defect) > 1:
        parts.append(_types(figures, metrics))
    return Group(*parts, *(Text(line) for line in _notes(figures)))


def _whole(figures: Figures, metrics: Metrics) -> Table:
    table = Table(title=f"{figures.good} good and {figures.defective} defective parts")
    table.add_column("figure")
    within = figures.intervals
    columns: list[tuple[str, AuproFigures | Figures | None]] = []
    if metrics != "legacy":
        columns += [("original", figures), ("at 224", figures.at_224)]
    if metrics != "exact" and figures.legacy is not None:
        columns += [("legacy", figures.legacy), ("legacy at 224", figures.legacy.at_224)]
    for name, _ in columns:
        table.add_column(name, justify="right")
    if within is not None:
        table.add_column(f"{within.confidence:.0%} interval", justify="right")
    # Scores of images know neither of resolution nor of thresholds: one number, in the first column.
    blank = [""] * (len(columns) - 1)
    table.add_row("I-AUROC", _number(figures.i_auroc), *blank, *_between("i_auroc", figures))
    table.add_row(
        "P-AUROC",
        *(_number(one.p_auroc) if isinstance(one, Figures | PixelFigures) else "" for _, one in columns),
        *_between("", figures),
    )
    for name, field in _AUPRO:
        values = [_number(None if one is None else getattr(one, field)) for _, one in columns]
        table.add_row(name, *values, *_between(field, figures))
    return table


def _types(figures: Figures, metrics: Metrics) -> Table:
    """Each type at the original resolution; AUPRO is the published where that alone is asked for."""
    table = Table(title="good parts and one type of defect" + (", legacy" if metrics == "legacy" else ""))
    for name in ("type", "parts", "I-AUROC", "P-AUROC", "@ 30 %", "@ 5 %", "@ 1 %"):
        table.add_column(name, justify="left" if name == "type" else "right")
    for kind, own in figures.by_defect.items():
        areas: TypeFigures | AuproFigures | None = own.legacy if metrics == "legacy" else own
        table.add_row(
            kind,
            str(own.defective),
            _number(own.i_auroc),
            _number(own.p_auroc),
            *(_number(None if areas is None else getattr(areas, field)) for _, field in _AUPRO),
        )
    return table


def _notes(figures: Figures) -> Iterator[str]:
    if figures.score_overridden:
        yield f"score overridden: {figures.score!r} in place of the model's own"
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


def _between(field: str, figures: Figures) -> list[str]:
    """The cell of the interval's column, where there is one; empty for a figure that has no interval."""
    if figures.intervals is None:
        return []
    interval: Interval | None = getattr(figures.intervals, field) if field else None
    return ["" if interval is None else f"{interval.low:.4f} – {interval.high:.4f}"]
