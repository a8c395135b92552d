from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup

import train.report
from edge.errors import DatasetError
from train.report.figures import (
    Group,
    Spread,
    few_parts_figure,
    histogram,
    loss_curve,
    pro_figure,
    roc_figure,
)

BASE = Path(train.report.__file__).parent / "templates" / "base.html.j2"
STEPS = (np.array([0.0, 0.0, 1.0]), np.array([0.0, 0.5, 1.0]))
GROUPS = (Group("good", [1.0, 1.1, 1.3], "good"), Group("defective", [2.0, 3.0], "bad"))
SERIES = {
    "msd": [Spread(10, 0.8, 0.02), Spread(20, 0.9, 0.01)],
    "memory-bank": [Spread(10, 0.85, None), Spread(20, 0.95, None)],
}

DRAWN: dict[str, Callable[[], Markup]] = {
    "roc": lambda: roc_figure({"model": STEPS}),
    "roc of two": lambda: roc_figure({"msd": STEPS, "bank": STEPS}),
    "pro": lambda: pro_figure({"model": (STEPS[0] * 0.3, STEPS[1])}, (0.3, 0.05, 0.01)),
    "histogram": lambda: histogram(GROUPS, 1.5),
    "loss": lambda: loss_curve("teacher", [3.0 - i / 10 for i in range(40)]),
    "loss of one step": lambda: loss_curve("teacher", [3.0]),
    "few parts": lambda: few_parts_figure(SERIES, "I-AUROC"),
}


@pytest.fixture(params=DRAWN.values(), ids=DRAWN.keys())
def draw(request: pytest.FixtureRequest) -> Callable[[], Markup]:
    drawn: Callable[[], Markup] = request.param
    return drawn


def test_the_same_data_gives_the_same_bytes(draw: Callable[[], Markup]) -> None:
    first = draw()
    roc_figure({"another drawing in between": STEPS})
    assert draw() == first


def test_a_drawing_is_whole_and_takes_its_looks_from_the_page(draw: Callable[[], Markup]) -> None:
    svg = draw()
    root = ET.fromstring(svg)
    assert root.get("role") == "img"
    assert root.get("aria-label")
    assert root.get("width") is None
    assert root.get("viewBox")
    assert "<style" not in svg
    assert "metadata" not in svg
    assert not re.findall(r"(?:fill|stroke): *#[0-9a-f]+", svg)
    assert set(re.findall(r"font-family: *([^;\"]+)", svg)) == {"var(--font)"}
    wanted = set(re.findall(r"var\((--[\w-]+)\)", svg))
    assert wanted <= set(re.findall(r"(--[\w-]+):", BASE.read_text(encoding="utf-8")))


def test_drawings_on_one_page_do_not_share_identifiers() -> None:
    seen: set[str] = set()
    for draw in DRAWN.values():
        svg = draw()
        own = re.findall(r'\bid="([^"]+)"', svg)
        assert len(set(own)) == len(own)
        assert not seen & set(own)
        seen |= set(own)
        used = set(re.findall(r'(?:url\(#|href="#)([^")]+)', svg))
        assert used <= set(own)


def test_the_line_goes_through_the_points() -> None:
    root = ET.fromstring(roc_figure({"model": (np.array([0.0, 0.25, 1.0]), np.array([0.0, 0.5, 1.0]))}))
    lines = [
        [float(number) for number in re.findall(r"-?[\d.]+", path.get("d") or "")]
        for path in root.iter("{http://www.w3.org/2000/svg}path")
        if "--series-1" in (path.get("style") or "")
    ]
    assert len(lines) == 1
    x, y = lines[0][::2], lines[0][1::2]
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(0.25)
    assert (y[1] - y[0]) / (y[2] - y[0]) == pytest.approx(0.5)


def test_every_part_is_a_mark() -> None:
    root = ET.fromstring(histogram(GROUPS, None))
    uses = [use.get("style") or "" for use in root.iter("{http://www.w3.org/2000/svg}use")]
    assert sum("--good" in style for style in uses) == 3
    assert sum("--bad" in style for style in uses) == 2


def test_scores_over_many_decades_stand_on_a_logarithmic_axis() -> None:
    wide = (Group("good", [0.1, 0.2], "good"), Group("defective", [50.0], "bad"))
    assert "logarithmic" in histogram(wide, 0.5)
    assert "logarithmic" not in histogram(GROUPS, 1.5)


def test_a_threshold_of_zero_is_drawn() -> None:
    assert "threshold 0" in histogram((Group("good", [-1.0, -0.5], "good"),), 0.0)


def test_no_score_is_an_error() -> None:
    with pytest.raises(DatasetError, match="no score to draw"):
        histogram((Group("good", [], "good"),), 1.0)


def test_words_are_escaped() -> None:
    svg = loss_curve('<script>"&', [1.0, 2.0])
    assert "<script" not in svg
    ET.fromstring(svg)


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=20),
    st.lists(st.floats(1e-6, 1e6), max_size=20),
    st.none() | st.floats(-10, 10),
)
def test_any_finite_scores_can_be_drawn(good: list[float], bad: list[float], threshold: float | None) -> None:
    ET.fromstring(histogram((Group("good", good, "good"), Group("defective", bad, "bad")), threshold))
