"""Zones with a threshold of their own: what is promised beside them is what the rig then does."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import binom

from edge.calibrating.drawing import draw
from edge.calibrating.fitting import Asked, Lots, fit
from edge.calibrating.result import FitReport
from edge.calibrating.scores import KnownParts, ScoredPart
from edge.calibrating.tradeoff import Costs
from edge.calibrating.zones import rescored
from edge.conformal import promised_rank
from edge.errors import CalibrationError
from edge.region_rules import RegionRules, Zone
from edge.ruled_score import RuledScore
from edge.scoring import ScoreSpec

SIDE = 6
LEFT = ((0.0, 0.0), (0.5, 0.0), (0.5, 1.0), (0.0, 1.0))
ALL = np.ones((SIDE, SIDE), dtype=bool)


def known(good: list[float], bad: list[float] | None = None, lots: list[str] | None = None) -> KnownParts:
    names = lots or [""] * len(good)
    parts = [
        ScoredPart(f"good-{i}", score, lot=lot or None, zones=("thread",) if score == math.inf else ())
        for i, (score, lot) in enumerate(zip(good, names, strict=True))
    ]
    parts += [ScoredPart(f"bad-{i}", score, good=False, defect="dent") for i, score in enumerate(bad or [])]
    return KnownParts(tuple(parts), zoned=True)


scores = st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 1.0, 2.0, math.inf])


@given(
    st.lists(scores, min_size=20, max_size=60),
    st.lists(scores, max_size=8),
    st.sampled_from([0.15, 0.3]),
    st.booleans(),
)
def test_infinite_ones_are_ranked_as_parts_that_pass_or_fail_whatever_the_threshold(
    good: list[float], bad: list[float], alpha: float, in_lots: bool
) -> None:
    rank = promised_rank(len(good), alpha, 0.1)
    assume(rank is not None)
    assert rank is not None
    expected = sorted(good)[rank - 1]
    parts = known(good, bad, ["a" if i % 2 else "b" for i in range(len(good))] if in_lots else None)
    asked = Asked(alpha=alpha, delta=0.1)
    if not 0 < expected < math.inf:
        said = {math.inf: "zone 'thread' rejects", -math.inf: "make the zones smaller"}
        with pytest.raises(CalibrationError, match=said.get(expected, "must be above 0")):
            fit(parts, asked)
        return
    found = fit(parts, asked)
    assert found.threshold == expected
    assert found.rejected.count == sum(score > expected for score in good)
    assert found.rejected.count <= len(good) - rank
    assert (0 if found.found is None else found.found.count) == sum(score > expected for score in bad)
    assert FitReport.of(found).model_dump_json()  # nothing in it is infinite
    for point in found.curve:
        assert point.rejected_good == sum(score > point.threshold for score in good) / len(good)
    # As a rig's are, all finite.
    at_it = {
        part.name: expected + 1 if part.score > expected else max(part.score, -3.0) for part in parts.parts
    }
    shown = replace(found, known=rescored(parts, expected, at_it))
    bars = draw(shown).good
    assert sum(int(bar.title.split()[0]) for bar in bars) == len(good)


@given(st.lists(scores, min_size=20, max_size=40), st.lists(scores, min_size=1, max_size=8))
def test_costs_choose_among_finite_thresholds_that_keep_the_promise(
    good: list[float], bad: list[float]
) -> None:
    asked = Asked(alpha=0.2, delta=0.1)
    parts = known(good, bad)
    try:
        kept = fit(parts, asked).threshold
    except CalibrationError:
        return
    cheapest = fit(parts, replace(asked, costs=Costs(1.0, 50.0, 0.1)))
    assert math.isfinite(cheapest.threshold)
    assert cheapest.threshold >= kept


@pytest.mark.parametrize("lots", [Lots.WORST, Lots.NEW])
def test_a_zone_that_rejects_too_many_of_a_lot_is_named(lots: Lots) -> None:
    good = [1.0, 2.0] * 20 + [1.0] * 10 + [math.inf] * 10
    parts = known(good, lots=["a"] * 40 + ["b"] * 20)
    asked = Asked(alpha=0.35, delta=0.1, lots=lots, best_effort=True)
    with pytest.raises(CalibrationError, match=r"10 of 60 good parts by their own .* 'thread' rejects 10\)"):
        fit(parts, asked)


def test_no_band_for_review_is_promised() -> None:
    with pytest.raises(CalibrationError, match="--review-alpha finds no band"):
        fit(known([1.0] * 100), Asked(alpha=0.05, delta=0.1, review_alpha=0.2))


def test_infinite_scores_without_a_zone_are_damage() -> None:
    parts = replace(known([1.0] * 99 + [math.inf]), zoned=False)
    with pytest.raises(CalibrationError, match="export the model anew"):
        fit(parts, Asked(alpha=0.05, delta=0.1))


@pytest.mark.parametrize("scores_at_it", [{}, {"good-0": None}, {"good-0": 1.5}])
def test_a_part_that_the_rig_would_judge_otherwise_is_an_error(
    scores_at_it: dict[str, float | None],
) -> None:
    with pytest.raises(CalibrationError, match="1 of 1 parts get another verdict at the threshold 1 "):
        rescored(known([0.5]), 1.0, scores_at_it)


def test_what_is_promised_is_what_the_rig_rejects() -> None:
    """A population of 600 maps, of which parts are drawn: the rig's rate is exact."""
    alpha, delta, parts, runs = 0.1, 0.1, 80, 300
    rank = promised_rank(parts, alpha, delta)
    rules = RegionRules(zones=(Zone(name="thread", corners=LEFT, threshold=1.2),))
    scoring = RuledScore(ScoreSpec(), rules, SIDE)
    rng = np.random.default_rng(0)
    maps = rng.gumbel(0.5, 0.3, (600, SIDE, SIDE)).astype(np.float32)
    maps[:, :, :3] *= 0.45  # quiet in the zone, which has a low threshold of its own
    critical = [scoring.critical_threshold(square, ALL, cell_mm2=1.0) for square in maps]
    assert 0.005 < sum(score == math.inf for score in critical) / len(maps) < alpha / 2

    @cache
    def rejected_by_the_rig(threshold: float) -> float:
        ruled = (scoring.ruled(square, ALL, threshold, cell_mm2=1.0) for square in maps)
        return sum(scoring.score(square) > threshold for square in ruled) / len(maps)

    def calibrated(ranked_by: list[float]) -> list[float]:
        """The rates of calibrations, each of parts drawn from all."""
        rates = []
        for _ in range(runs):
            drawn = known([ranked_by[index] for index in rng.integers(0, len(maps), parts)])
            if sum(part.score == math.inf for part in drawn.good) > parts - (rank or 0):
                rates.append(0.0)  # refused, so nothing is rejected by it
                continue
            found = fit(drawn, Asked(alpha=alpha, delta=delta))
            rates.append(rejected_by_the_rig(found.threshold))
        return rates

    rates = calibrated(critical)
    broken = sum(rate > alpha for rate in rates)
    assert broken <= binom.ppf(0.9999, runs, delta)
    assert float(np.median(rates)) > alpha / 5  # and not by passing everything
    # The scores of the map alone, with the zone's threshold set afterwards, would break it.
    blind = calibrated([float(square.max()) * 0.8 for square in maps])
    assert sum(rate > alpha for rate in blind) > binom.ppf(0.9999, runs, delta)
