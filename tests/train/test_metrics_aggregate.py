"""Means over categories: unweighted, and per type of defect over those that have it."""

from __future__ import annotations

import pytest

from edge.errors import DatasetError
from edge.scoring import ScoreSpec
from train.metrics import (
    AuproFigures,
    FalsePositiveRate,
    Figures,
    LegacyFigures,
    ResizedFigures,
    TypeFigures,
    mean_over_categories,
)


def of_type(value: float, *, marked: bool = True) -> TypeFigures:
    known = value if marked else None
    return TypeFigures(
        defective=3, i_auroc=value, p_auroc=known, aupro_30=known, aupro_5=known, aupro_1=known, at_224=None
    )


def category(
    value: float, images: int, types: dict[str, TypeFigures], *, detection_rate: float = 0.95
) -> Figures:
    areas = {"aupro_30": value, "aupro_5": value / 2, "aupro_1": value / 4}
    small = {name: area - 0.1 for name, area in areas.items()}
    return Figures(
        images=images,
        good=images - 3,
        defective=3,
        unmarked=0,
        i_auroc=value,
        p_auroc=value,
        **areas,
        ground_truth_outside_mask=0.0,
        outside_mask=None,
        fpr_at_detection=FalsePositiveRate(detection_rate, value / 10, 0.0, 1.0, 0.95, 1.0, 1, 10, 3, 3),
        by_defect=types,
        at_224=ResizedFigures(**small, p_auroc=value - 0.1, components=3, components_lost=0),
        legacy=LegacyFigures(**areas, at_224=AuproFigures(**small)),
        score=ScoreSpec(),
    )


def test_each_category_counts_the_same_whatever_its_size() -> None:
    found = mean_over_categories({"bagel": category(0.6, 10, {}), "rope": category(0.9, 1000, {})})
    assert found.categories == 2
    assert found.i_auroc == found.p_auroc == found.aupro_30 == pytest.approx(0.75, abs=1e-15)
    assert found.aupro_1 == pytest.approx(0.1875, abs=1e-15)
    assert found.fpr_at_detection == pytest.approx(0.075, abs=1e-15)
    assert found.at_224 is not None
    assert found.at_224.aupro_30 == pytest.approx(0.65, abs=1e-15)
    assert found.legacy is not None
    assert found.legacy.at_224 is not None
    assert found.legacy.at_224.aupro_5 == pytest.approx(0.275, abs=1e-15)


def test_a_type_is_the_mean_over_the_categories_that_have_it() -> None:
    found = mean_over_categories(
        {
            "bagel": category(0.5, 10, {"crack": of_type(0.4), "hole": of_type(0.9)}),
            "rope": category(0.5, 10, {"cut": of_type(0.7)}),
            "tire": category(0.5, 10, {"cut": of_type(0.8), "hole": of_type(0.6)}),
        }
    )
    assert {kind: one.categories for kind, one in found.by_defect.items()} == {
        "crack": 1,
        "cut": 2,
        "hole": 2,
    }
    assert found.by_defect["hole"].i_auroc == pytest.approx(0.75, abs=1e-15)
    assert found.by_defect["cut"].aupro_30 == pytest.approx(0.75, abs=1e-15)


def test_a_figure_that_one_lacks_has_no_mean() -> None:
    found = mean_over_categories(
        {
            "a": category(0.5, 10, {"hole": of_type(0.9)}),
            "b": category(0.5, 10, {"hole": of_type(0.7, marked=False)}).model_copy(
                update={"at_224": None, "legacy": None}
            ),
        }
    )
    assert (found.at_224, found.legacy) == (None, None)
    assert found.by_defect["hole"].i_auroc == pytest.approx(0.8, abs=1e-15)
    assert found.by_defect["hole"].aupro_30 is None


def test_what_has_no_mean_is_refused() -> None:
    with pytest.raises(DatasetError, match="no category"):
        mean_over_categories({})
    with pytest.raises(DatasetError, match=r"detection rates 0\.9, 0\.95"):
        mean_over_categories({"a": category(0.5, 9, {}), "b": category(0.5, 9, {}, detection_rate=0.9)})
