"""A promised false-reject rate is kept as often as was promised, whatever the scores look like."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, binom, norm, poisson
from scipy.stats import t as student

from edge.conformal import (
    finite_scores,
    marginal_promise,
    marginal_rank,
    parts_needed,
    promised_alpha,
    promised_delta,
    promised_rank,
    rate_interval,
    training_conditional_promise,
)
from edge.errors import CalibrationError

REPETITIONS = 2000
DELTA = 0.05

_Array = npt.NDArray[np.float64]
Draw = Callable[[np.random.Generator, tuple[int, int]], _Array]

LAWS: dict[str, tuple[Draw, Callable[[_Array], _Array]]] = {
    "normal": (lambda rng, shape: rng.standard_normal(shape), norm.sf),
    "heavy tails": (lambda rng, shape: rng.standard_t(2, shape), student(2).sf),
    "ties": (lambda rng, shape: rng.poisson(4.0, shape).astype(np.float64), poisson(4.0).sf),
}


@given(st.integers(1, 3000), st.floats(1e-3, 0.3), st.floats(1e-3, 0.5))
def test_the_rank_is_the_smallest_that_holds(count: int, alpha: float, delta: float) -> None:
    rank = promised_rank(count, alpha, delta)
    if rank is None:
        assert (1 - alpha) ** count > delta
        return
    assert beta.cdf(alpha, count + 1 - rank, rank) >= 1 - delta - 1e-6
    if rank > 1:
        assert beta.cdf(alpha, count + 2 - rank, rank - 1) < 1 - delta
    # the same by the binomial law: no more than n - k of n parts lie above the rate's quantile too seldom
    assert binom.cdf(count - rank, count, alpha) <= delta + 1e-6
    assert promised_alpha(count, rank, delta) <= alpha + 1e-6


@given(st.floats(1e-3, 0.3), st.floats(1e-3, 0.5), st.integers(0, 4))
def test_so_many_parts_are_needed_and_not_one_less(alpha: float, delta: float, above: int) -> None:
    needed = parts_needed(alpha, delta, above)
    assert promised_delta(needed, needed - above, alpha) <= delta + 1e-8
    if needed > above + 1:
        assert promised_delta(needed - 1, needed - 1 - above, alpha) > delta


def test_known_figures() -> None:
    assert parts_needed(0.01, 0.05) == 299  # the rule of three: 3 / 0.01
    assert parts_needed(0.05, 0.05) == 59
    assert promised_rank(298, 0.01, 0.05) is None
    assert promised_rank(299, 0.01, 0.05) == 299
    assert promised_alpha(20, 20, 0.05) == pytest.approx(1 - 0.05 ** (1 / 20))
    assert promised_delta(20, 20, 0.01) == pytest.approx(0.99**20)
    assert marginal_rank(99, 0.01) == 99
    assert marginal_rank(98, 0.01) is None


@given(st.integers(1, 2000), st.floats(1e-3, 0.5))
def test_the_marginal_rank_promises_alpha(count: int, alpha: float) -> None:
    rank = marginal_rank(count, alpha)
    if rank is None:
        assert count + 1 < 1 / alpha
    else:
        assert (count + 1 - rank) / (count + 1) <= alpha + 1e-9
        assert rank == 1 or (count + 2 - rank) / (count + 1) > alpha - 1e-8


def test_too_few_parts_are_told_with_what_they_can_promise() -> None:
    with pytest.raises(CalibrationError) as refused:
        training_conditional_promise(40, 0.01, 0.05)
    said = str(refused.value)
    assert "takes 299" in said
    assert "7.22 %" in said  # 1 - 0.05^(1/40)
    assert "33.1 % confidence" in said  # 1 - 0.99^40
    assert "Collect 259 more" in said
    assert "--best-effort" in said


def test_best_effort_promises_less_and_says_so() -> None:
    promise = training_conditional_promise(40, 0.01, 0.05, best_effort=True)
    assert promise.rank == 40
    assert promise.alpha == pytest.approx(1 - 0.05 ** (1 / 40))
    assert not promise.kept
    marginal = marginal_promise(40, 0.01, best_effort=True)
    assert marginal.alpha == pytest.approx(1 / 41)
    assert not marginal.kept
    with pytest.raises(CalibrationError, match="takes 99"):
        marginal_promise(40, 0.01)


def test_a_promise_that_is_kept() -> None:
    promise = training_conditional_promise(500, 0.01, 0.05)
    assert promise.kept
    assert promise.rank == 499
    assert promise.expected_rate == pytest.approx(2 / 501)
    low, high = rate_interval(500, 499)
    assert low < promise.expected_rate < high
    assert "with 95 % confidence (500 good parts)" in promise.sentence
    assert marginal_promise(500, 0.01).kept


@pytest.mark.parametrize("alpha", [0.0, 1.0, -0.1, math.nan])
def test_rates_that_are_none_are_refused(alpha: float) -> None:
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        training_conditional_promise(100, alpha, 0.05)
    with pytest.raises(CalibrationError, match="between 0 and 1"):
        training_conditional_promise(100, 0.05, alpha)


def test_scores_that_are_none_are_refused() -> None:
    with pytest.raises(CalibrationError, match="no score"):
        finite_scores([])
    with pytest.raises(CalibrationError, match="1 of 3 scores"):
        finite_scores([0.1, math.nan, 0.2])


@pytest.mark.parametrize("law", LAWS)
@pytest.mark.parametrize("count", [20, 60, 150, 300, 500, 1000])
def test_the_rate_exceeds_alpha_no_more_often_than_delta(law: str, count: int) -> None:
    draw, share_above = LAWS[law]
    rng = np.random.default_rng([count, len(law)])
    scores = np.sort(draw(rng, (REPETITIONS, count)), axis=1)  # (repetitions, n)
    tried = 0
    for alpha in (0.001, 0.002, 0.005, 0.01, 0.02, 0.05):
        promise = training_conditional_promise(count, alpha, DELTA, best_effort=True)
        realised = share_above(scores[:, promise.rank - 1])  # (repetitions,)
        # Never more often than binomial noise allows, at one in a million.
        broken = int((realised > max(alpha, promise.alpha)).sum())
        assert broken <= binom.ppf(1 - 1e-6, REPETITIONS, DELTA)
        if law != "ties":
            assert abs(realised.mean() - promise.expected_rate) < 0.1 * promise.expected_rate + 1e-4
            if count >= 500 and promise.kept and promise.rank < count:
                tried += 1
                assert np.median(realised) >= alpha / 4
    assert tried or count < 500 or law == "ties"


@pytest.mark.parametrize("law", LAWS)
def test_the_marginal_threshold_keeps_alpha_on_average(law: str) -> None:
    draw, share_above = LAWS[law]
    rng = np.random.default_rng(3)
    for count, alpha in ((20, 0.05), (100, 0.01), (100, 0.03), (500, 0.01)):
        rank = marginal_promise(count, alpha).rank
        realised = share_above(np.sort(draw(rng, (REPETITIONS, count)), axis=1)[:, rank - 1])
        spread = realised.std() / math.sqrt(REPETITIONS)
        assert realised.mean() <= alpha + 5 * spread


def test_a_threshold_without_confidence_does_break_alpha() -> None:
    # What is proven above could fail: the marginal threshold exceeds alpha in far more than 5 % of cases.
    rng = np.random.default_rng(4)
    rank = marginal_promise(300, 0.01).rank
    realised = norm.sf(np.sort(rng.standard_normal((REPETITIONS, 300)), axis=1)[:, rank - 1])
    assert (realised > 0.01).mean() > 0.3
