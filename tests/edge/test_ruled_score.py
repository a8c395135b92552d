"""Region rules are part of the score: what fails by them scores above the threshold, and nothing else."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from edge.errors import CalibrationError
from edge.framing import View
from edge.region_rules import RegionRules, Zone
from edge.ruled_score import NoPieceSoLarge, RuledScore, cell_mm2_of, level_of_area, zone_mask
from edge.scoring import ScoreSpec

SIDE = 6
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
TOP = ((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5))
ALL = np.ones((SIDE, SIDE), dtype=bool)

# Few values, so that plateaus and ties are the rule.
maps = arrays.arrays(np.float32, (SIDE, SIDE), elements=st.sampled_from([-1.0, 0.0, 0.5, 1.0, 1.5, 2.0, 3.0]))
masks = arrays.arrays(np.bool_, (SIDE, SIDE))


def pieces(above: npt.NDArray[np.bool_]) -> list[set[tuple[int, int]]]:
    """The 8-connected pieces, by walking from cell to cell."""
    left = {(int(row), int(column)) for row, column in np.argwhere(above)}
    found = []
    while left:
        edge = [left.pop()]
        piece = set(edge)
        while edge:
            row, column = edge.pop()
            near = {(row + dr, column + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)} & left
            left -= near
            piece |= near
            edge += near
        found.append(piece)
    return found


def levels_with(square: npt.NDArray[np.float32], counts: npt.NDArray[np.bool_], cells: int) -> list[float]:
    values = {float(value) for value in square[counts]}
    return [t for t in values if any(len(piece) >= cells for piece in pieces((square >= t) & counts))]


@given(maps, masks, st.integers(1, 12))
def test_the_level_of_an_area_is_that_of_brute_force(
    square: npt.NDArray[np.float32], counts: npt.NDArray[np.bool_], cells: int
) -> None:
    levels = levels_with(square, counts, cells)
    if levels:
        assert level_of_area(square, counts, cells) == max(levels)
    else:
        with pytest.raises(NoPieceSoLarge, match=f"asks for {cells}: nothing of this part could fail"):
            level_of_area(square, counts, cells)


def test_large_maps_of_many_values_are_exact_too() -> None:
    rng = np.random.default_rng(7)
    square = rng.random((48, 48)).astype(np.float32)
    counts = rng.random((48, 48)) < 0.9
    assert level_of_area(square, counts, 9) == max(levels_with(square, counts, 9))


rules = st.builds(
    RegionRules,
    min_area_mm2=st.none() | st.sampled_from([1.0, 3.0, 5.0]),
    zones=st.lists(
        st.builds(Zone, name=st.sampled_from("ab"), corners=st.just(LEFT), ignore=st.just(True))
        | st.builds(
            Zone,
            name=st.sampled_from("cd"),
            corners=st.sampled_from([LEFT, TOP]),
            threshold=st.sampled_from([0.3, 0.5, 1.0, 2.0, 1 / 3]),
        ),
        max_size=3,
        unique_by=lambda zone: zone.name,
    ).map(tuple),
)


def fails_by_definition(
    square: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], rule: RegionRules, threshold: float
) -> bool:
    """A piece of the area, each cell above the threshold that holds there, outside what is ignored."""
    limit = np.full((SIDE, SIDE), threshold)
    own = np.full((SIDE, SIDE), np.inf)
    for zone in rule.zones:
        if zone.threshold is not None:
            own = np.where(zone_mask(zone, SIDE), np.minimum(own, zone.threshold), own)
    limit = np.where(np.isfinite(own), own, limit)
    counts = mask.copy()
    for zone in rule.zones:
        if zone.ignore:
            counts &= ~zone_mask(zone, SIDE)
    above = (square.astype(np.float64) > limit) & counts
    return any(len(piece) >= (rule.min_area_mm2 or 1.0) for piece in pieces(above))


@given(maps, masks, rules, st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.5]))
def test_a_score_above_the_threshold_is_a_fail_and_nothing_else_is(
    square: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], rule: RegionRules, threshold: float
) -> None:
    scoring = RuledScore(ScoreSpec(), rule, SIDE)
    ruled = scoring.ruled(square, mask, threshold, cell_mm2=1.0)
    expected = fails_by_definition(square, mask, rule, threshold)
    try:
        score = scoring.score(ruled)
    except NoPieceSoLarge:
        assert not expected
        return
    assert (score > threshold) is expected
    large = [piece for piece in pieces(ruled.above(threshold)) if len(piece) >= ruled.min_cells]
    assert bool(large) is expected


@given(maps, masks, rules, st.sampled_from([0.1, 0.5, 1.0, 1.5, 2.5]))
def test_what_parts_are_ranked_by_says_at_which_threshold_they_fail(
    square: npt.NDArray[np.float32], mask: npt.NDArray[np.bool_], rule: RegionRules, threshold: float
) -> None:
    scoring = RuledScore(ScoreSpec(), rule, SIDE)
    expected = fails_by_definition(square, mask, rule, threshold)
    try:
        critical = scoring.critical_threshold(square, mask, cell_mm2=1.0)
    except NoPieceSoLarge:
        assert not expected
        return
    assert (critical > threshold) is expected


def test_without_rules_it_is_the_score_of_the_map() -> None:
    square = np.arange(36, dtype=np.float32).reshape(SIDE, SIDE)
    for kind, score in (("max", 35.0), ("mean", 17.5)):
        scoring = RuledScore(ScoreSpec.model_validate({"kind": kind}), None, SIDE)
        ruled = scoring.ruled(square, ALL, 1.0, cell_mm2=1.0)
        assert ruled.square is square
        assert scoring.score(ruled) == scoring.critical_threshold(square, ALL, cell_mm2=1.0) == score


def test_zones_that_are_ignored_are_0_and_do_not_count() -> None:
    square = np.full((SIDE, SIDE), 5.0, dtype=np.float32)
    rule = RegionRules(zones=(Zone(name="label", corners=LEFT, ignore=True),))
    ruled = RuledScore(ScoreSpec(kind="mean"), rule, SIDE).ruled(square, ALL, 1.0, cell_mm2=1.0)
    assert ruled.square[:, :3].max() == 0.0
    assert ruled.square[:, 3:].min() == 5.0
    assert RuledScore(ScoreSpec(kind="mean"), rule, SIDE).score(ruled) == 5.0


@pytest.mark.parametrize(
    "rule",
    [RegionRules(min_area_mm2=2.0), RegionRules(zones=(Zone(name="thread", corners=LEFT, threshold=0.5),))],
)
def test_rules_about_places_need_a_score_about_places(rule: RegionRules) -> None:
    with pytest.raises(CalibrationError, match="this model's is mean"):
        RuledScore(ScoreSpec(kind="mean"), rule, SIDE)


def test_an_area_is_that_on_the_plane_whatever_the_view() -> None:
    view = View((100.0, 100.0), (60.0, 30.0), angle_deg=30.0)
    assert cell_mm2_of(view, SIDE, pixel_mm=0.5) == pytest.approx(10 * 5 * 0.25)
    square = np.zeros((SIDE, SIDE), dtype=np.float32)
    square[2, 2:4] = 1.0
    for area_mm2, score in ((25.0, 1.0), (25.1, 0.0)):
        scoring = RuledScore(ScoreSpec(), RegionRules(min_area_mm2=area_mm2), SIDE)
        ruled = scoring.ruled(square, ALL, 0.5, cell_mm2_of(view, SIDE, pixel_mm=0.5))
        assert scoring.score(ruled) == score


def test_a_polygon_takes_the_cells_whose_centre_it_holds() -> None:
    triangle = Zone(name="corner", corners=((0.0, 0.0), (1.0, 0.0), (0.0, 1.0)), ignore=True)
    rows, columns = np.mgrid[0:8, 0:8]
    inside = zone_mask(triangle, 8)
    assert (inside == (rows + columns + 1 < 8)).all()
    everywhere = Zone(name="all", corners=((0, 0), (1, 0), (1, 1), (0, 1)), ignore=True)
    assert zone_mask(everywhere, 8).all()
