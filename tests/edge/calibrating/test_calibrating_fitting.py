"""What is asked for is what is promised, or it is said otherwise."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from edge.calibrating.fitting import Asked, Lots, fit
from edge.calibrating.need import needs
from edge.calibrating.scores import KnownParts, ScoredPart
from edge.calibrating.tradeoff import Costs, cheapest_threshold, curve, measured_rate, weaker_alpha
from edge.errors import CalibrationError


def known(good: list[float], bad: list[float] | None = None, lots: list[str] | None = None) -> KnownParts:
    names = lots or [""] * len(good)
    return KnownParts(
        (
            *(
                ScoredPart(f"good-{i}", score, lot=lot or None)
                for i, (score, lot) in enumerate(zip(good, names, strict=True))
            ),
            *(
                ScoredPart(f"bad-{i}", score, good=False, defect="dent" if i % 2 else "cut")
                for i, score in enumerate(bad or [])
            ),
        )
    )


GOOD = np.random.default_rng(0).standard_normal(500).tolist()
BAD = (3 + np.random.default_rng(1).standard_normal(40)).tolist()
ASKED = Asked(alpha=0.01, delta=0.05)


def test_the_promise_with_confidence() -> None:
    found = fit(known(GOOD), ASKED)
    assert found.threshold == sorted(GOOD)[498]
    assert found.method == "conformal"
    assert found.promise.kept
    assert (found.rejected.count, found.rejected.of) == (1, 500)
    assert found.found is None
    assert found.warnings == ()
    assert found.review_threshold is None


def test_the_promise_on_average() -> None:
    found = fit(known(GOOD), Asked(alpha=0.01, delta=None))
    assert found.threshold == sorted(GOOD)[495]  # ⌈501 × 0.99⌉
    assert found.method == "conformal_marginal"
    assert "on average" in found.sentence


def test_too_few_parts_are_refused_or_promise_less() -> None:
    with pytest.raises(CalibrationError, match="takes 299"):
        fit(known(GOOD[:50]), ASKED)
    found = fit(known(GOOD[:50]), Asked(alpha=0.01, delta=0.05, best_effort=True))
    assert found.threshold == max(GOOD[:50])
    assert not found.promise.kept
    assert "best effort: at most 5.82 %" in found.warnings[0]


def test_bad_parts_are_counted_by_defect() -> None:
    found = fit(known(GOOD, BAD), ASKED)
    assert found.found is not None
    assert found.found.of == 40
    assert found.found.count == sum(score > found.threshold for score in BAD)
    assert {name: rate.of for name, rate in found.found_by_defect.items()} == {"cut": 20, "dent": 20}
    assert sum(rate.count for rate in found.found_by_defect.values()) == found.found.count
    assert found.curve[0].found_bad is not None


def test_exact_intervals() -> None:
    none = measured_rate(0, 20)
    assert none.low == 0
    assert none.high == pytest.approx(1 - 0.025 ** (1 / 20))
    assert measured_rate(20, 20).low == pytest.approx(0.025 ** (1 / 20))


def test_costs_raise_the_threshold_within_the_promise() -> None:
    far = [10.0, 11.0, 12.0]
    found = fit(known(GOOD, far), Asked(alpha=0.01, delta=0.05, costs=Costs(1, 50, 0.01)))
    assert found.threshold == max(GOOD)  # rejects no good part, and finds all the same
    assert found.promise.kept
    assert found.warnings == ()


def test_costs_go_below_the_promise_only_when_told() -> None:
    costs = Costs(1, 5000, 0.05)  # a passed bad part is dear
    kept = fit(known(GOOD, BAD), Asked(alpha=0.01, delta=0.05, costs=costs))
    assert kept.threshold >= sorted(GOOD)[498]
    assert kept.promise.kept
    assert "--weaken takes it" in kept.warnings[0]
    weaker = fit(known(GOOD, BAD), Asked(alpha=0.01, delta=0.05, costs=costs, weaken=True))
    assert weaker.threshold < kept.threshold
    assert not weaker.promise.kept
    assert weaker.promise.alpha > 0.01
    assert "weakened for its costs: at most" in weaker.warnings[0]
    assert norm.sf(weaker.threshold) <= weaker.promise.alpha


def test_a_rank_chosen_by_looking_still_keeps_its_weaker_promise() -> None:
    rng = np.random.default_rng(5)
    broken, repetitions = 0, 300
    for _ in range(repetitions):
        good, bad = np.sort(rng.standard_normal(100)), 1 + rng.standard_normal(30)
        threshold = cheapest_threshold(good.tolist(), bad.tolist(), Costs(1, 10, 0.1)).threshold
        rank = int((good <= threshold).sum())
        broken += rank > 0 and norm.sf(threshold) > weaker_alpha(100, rank, 0.1)
    assert broken <= 30  # δ of 300, and the union bound leaves far more room


@given(
    st.lists(st.integers(-5, 5), min_size=1, max_size=30),
    st.lists(st.integers(-5, 8), min_size=1, max_size=10),
    st.integers(-6, 6),
)
def test_the_cheapest_is_no_dearer_than_any_other(good: list[int], bad: list[int], at_least: int) -> None:
    costs = Costs(1.0, 7.0, 0.2)
    goods, bads = [float(score) for score in good], [float(score) for score in bad]
    found = cheapest_threshold(goods, bads, costs, at_least=at_least)
    assert found.threshold >= at_least or at_least <= min(*goods, *bads)
    for point in curve(goods, bads, costs):
        if point.threshold >= at_least:
            assert (found.cost_per_part or 0) <= (point.cost_per_part or 0)


def test_a_review_band_lies_below() -> None:
    found = fit(known(GOOD), Asked(alpha=0.01, delta=0.05, review_alpha=0.05))
    assert found.review_threshold is not None
    assert found.review_threshold < found.threshold
    assert found.review_promise is not None
    assert found.review_promise.asked_alpha == 0.05
    with pytest.raises(CalibrationError, match="must be above --alpha"):
        fit(known(GOOD), Asked(alpha=0.01, delta=0.05, review_alpha=0.01))
    with pytest.raises(CalibrationError, match="raise --review-alpha"):
        fit(known([1.0] * 500), Asked(alpha=0.01, delta=0.05, review_alpha=0.05))


def test_lots_that_differ_are_warned_of_and_may_decide() -> None:
    shifted = [*GOOD[:250], *(score + 2 for score in GOOD[250:])]
    lots = ["mon"] * 250 + ["tue"] * 250
    pooled = fit(known(shifted, lots=lots), Asked(alpha=0.02, delta=0.05))
    assert "the lots differ (p = 0.001)" in pooled.warnings[0]
    worst = fit(known(shifted, lots=lots), Asked(alpha=0.02, delta=0.05, lots=Lots.WORST))
    assert worst.warnings == ()
    assert worst.threshold > pooled.threshold
    assert "each of the lots that were seen" in worst.sentence
    with pytest.raises(CalibrationError, match="2 lots can't promise"):
        fit(known(shifted, lots=lots), Asked(alpha=0.02, delta=0.05, lots=Lots.NEW))
    with pytest.raises(CalibrationError, match="500 of 500 good parts name no lot"):
        fit(known(shifted), Asked(alpha=0.02, delta=0.05, lots=Lots.NEW))
    many = [f"day-{i % 60}" for i in range(500)]
    new = fit(known(GOOD, lots=many), Asked(alpha=0.02, delta=None, lots=Lots.NEW))
    assert new.promise.kept
    assert "of a lot that was not seen" in new.sentence


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (Asked(alpha=0.01, delta=0.05, weaken=True), "give --costs"),
        (
            Asked(alpha=0.01, delta=None, weaken=True, costs=Costs(1, 2, 0.1)),
            "leave out --lots and --marginal",
        ),
        (Asked(alpha=0.01, delta=None, lots=Lots.WORST), "leave out --marginal"),
        (Asked(alpha=0.01, delta=0.05, costs=Costs(1, 2, 0.1)), "costs need bad parts"),
    ],
)
def test_what_does_not_go_together_is_told(asked: Asked, said: str) -> None:
    with pytest.raises(CalibrationError, match=said):
        fit(known(GOOD, lots=["a"] * 500), asked)


@pytest.mark.parametrize("values", [(0.0, 1.0, 0.1), (1.0, float("inf"), 0.1), (1.0, 1.0, 0.0)])
def test_costs_that_are_none(values: tuple[float, float, float]) -> None:
    with pytest.raises(CalibrationError):
        Costs(*values)


def test_how_many_parts_are_needed() -> None:
    row = needs([0.01], [0.05])[0]
    assert (row.parts, row.parts_on_average) == (299, 99)
    assert row.parts_for_half > row.parts
    with pytest.raises(CalibrationError, match="alpha is 2"):
        needs([2.0], [0.05])
