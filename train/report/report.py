"""Story, figures and pictures → the report's page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from markupsafe import Markup

from edge.heatmap import threshold_range
from edge.preprocessing import Preprocessing
from train.metrics import AUPRO_LIMITS
from train.report.choice import best_and_worst
from train.report.few_parts import CurveRow, spreads
from train.report.figures import Group, few_parts_figure, histogram, loss_curve, pro_figure, roc_figure
from train.report.page import render
from train.report.pictures import PartPictures, colour_bar, cut_out, height_range_mm, part_pictures
from train.report.results import (
    JudgedParts,
    decide,
    key_figures,
    pixel_rows,
    pro_points,
    roc_points,
    type_rows,
)
from train.report.story import RunStory

__all__ = ["Card", "report_html"]


@dataclass(frozen=True, slots=True)
class Card:
    """One part as it is shown; `right` is None where there is no threshold to decide by."""

    name: str
    truth: str
    score: float
    verdict: str
    right: bool | None
    pictures: PartPictures


@dataclass(frozen=True, slots=True)
class Scale:
    """A colour bar: its picture, and what stands below its low end, its middle and its high end."""

    bar: Markup
    low: str
    middle: str
    high: str


def report_html(
    story: RunStory,
    judged: JudgedParts,
    preprocessing: Preprocessing,
    curve: Sequence[CurveRow] = (),
) -> str:
    """The report as HTML; the same model and parts give the same bytes.

    What the test parts don't allow to compute, it says. Raises `DatasetError` naming a file that can't be
    read.
    """
    threshold = story.threshold
    best, worst = best_and_worst(judged.defective, judged.scores, threshold)
    cuts = {i: cut_out(judged.samples[i], judged.maps[i], preprocessing) for i in sorted({*best, *worst})}
    map_range, heights_mm = _map_range(judged, threshold), height_range_mm(list(cuts.values()))

    overlap = None if judged.figures is None else pro_points(judged)

    def cards(indices: Sequence[int]) -> list[Card]:
        return [_card(judged, i, threshold, part_pictures(cuts[i], map_range, heights_mm)) for i in indices]

    return render(
        "report.html.j2",
        title=f"{story.product} – {story.method_title}",
        story=story,
        when=_when(story.provenance.get("trained utc")),
        good=len(judged.of(defective=False)),
        bad=len(judged.of(defective=True)),
        gaps=_gaps(judged, story),
        keys=() if judged.figures is None else key_figures(judged.figures),
        figures=judged.figures,
        decision=decide(judged, threshold),
        roc=None if judged.figures is None else roc_figure({"model": roc_points(judged)}),
        pro=None if overlap is None else pro_figure({"model": overlap}, AUPRO_LIMITS),
        scores=_histogram(judged, story),
        rows=type_rows(judged, threshold),
        other_rows=() if judged.figures is None else pixel_rows(judged.figures),
        losses={phase: loss_curve(phase, losses) for phase, losses in story.curves.items() if losses},
        few_parts=_few_parts(curve),
        best=cards(best),
        worst=cards(worst),
        map_scale=_map_scale(map_range, threshold),
        height_scale=Scale(
            colour_bar("height"),
            f"{heights_mm[0]:.1f} mm",
            f"{sum(heights_mm) / 2:.1f}",
            f"{heights_mm[1]:.1f} mm",
        ),
    )


def _card(judged: JudgedParts, index: int, threshold: float | None, pictures: PartPictures) -> Card:
    score, defect = judged.scores[index], judged.defects[index]
    verdict, right = "not judged", None
    if threshold is not None:
        failed = score > threshold
        right = failed == (defect is not None)
        verdict = ("found" if right else "false alarm") if failed else ("passed" if right else "missed")
    return Card(
        name=judged.names[index],
        truth=defect or "good",
        score=score,
        verdict=verdict,
        right=right,
        pictures=pictures,
    )


def _map_range(judged: JudgedParts, threshold: float | None) -> tuple[float, float]:
    """The device's colours: 0 to twice the threshold. Without one, up to the largest value of all maps."""
    if threshold is not None:
        return threshold_range(threshold)
    top = max((float(anomaly_map.max()) for anomaly_map in judged.maps), default=0.0)
    return 0.0, top if top > 0 else 1.0


def _map_scale(ends: tuple[float, float], threshold: float | None) -> Scale:
    middle = sum(ends) / 2
    return Scale(
        colour_bar("map"),
        f"{ends[0]:.3g}",
        f"{middle:.4g}"
        + (" = threshold" if threshold is not None and abs(middle - threshold) < 1e-9 else ""),
        f"{ends[1]:.4g} and more",
    )


def _histogram(judged: JudgedParts, story: RunStory) -> Markup:
    groups = (
        Group("held out", tuple(story.held_out_scores.values()), "held-out"),
        Group("good", judged.of(defective=False), "good"),
        Group("defective", judged.of(defective=True), "bad"),
    )
    return histogram(groups, story.threshold)


def _few_parts(curve: Sequence[CurveRow]) -> list[Markup]:
    found = {
        "I-AUROC": spreads(curve, lambda row: row.i_auroc),
        "AUPRO@30": spreads(curve, lambda row: row.aupro_30),
    }
    return [few_parts_figure(series, label) for label, series in found.items() if series]


def _gaps(judged: JudgedParts, story: RunStory) -> list[str]:
    """What is missing, why, and how to get it."""
    said = []
    if not judged.of(defective=True):
        said.append(
            "There is no defective part among the test parts, so I-AUROC, AUPRO, the curves and the table of "
            "anomaly types can't be computed. How often good parts are rejected is below. Capture some "
            "defective parts, with masks, to learn what is missed."
        )
    elif not judged.of(defective=False):
        said.append(
            "There is no good part among the test parts, so I-AUROC, the curves and false alarms can't be "
            "computed. Add good parts that the model was not trained on."
        )
    if story.threshold is None:
        said.append("There is no threshold, so no part is called right or wrong: calibrate the model.")
    if judged.figures is not None and judged.figures.region_rules is not None:
        said.append("Scores are by the region rules of the calibration, as on the device; maps are without.")
    return said


def _when(trained_utc: str | None) -> str | None:
    if trained_utc is None:
        return None
    return f"{datetime.fromisoformat(trained_utc):%d %B %Y, %H:%M} UTC"
