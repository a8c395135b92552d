"""A promise that is kept is hardly ever called broken, and one that is broken soon is."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import beta, binom

from edge.errors import CalibrationError
from edge.promise_watch import PromiseCount, e_values, lower_bound

LEVEL = 0.01
PARTS = 10_000
LINES = 400


def first_found(rate: float, alpha: float, lines: int, seed: int, level: float = LEVEL) -> list[float]:
    """After how many good parts each line is found to break α, looked at after every part; inf: never."""
    rng = np.random.default_rng(seed)
    found = []
    for _ in range(lines):
        seen = np.flatnonzero(rng.random(PARTS) < rate) + 1  # the evidence grows at rejected parts alone
        reached = e_values(seen, np.arange(1, seen.size + 1), alpha, alpha) >= 1 / level
        found.append(float(seen[np.argmax(reached)]) if reached.any() else np.inf)
    return found


@pytest.mark.parametrize(("alpha", "level"), [(0.01, 0.01), (0.02, 0.1), (0.05, 0.1)])
def test_a_promise_that_is_kept_is_called_broken_no_more_often_than_the_level(
    alpha: float, level: float
) -> None:
    false_alarms = sum(np.isfinite(first_found(alpha, alpha, LINES, seed=1, level=level)))
    assert false_alarms <= binom.ppf(1 - 1e-5, LINES, level)


@pytest.mark.parametrize(
    ("alpha", "times", "median", "ninety"),
    [(0.01, 2, 1600, 3500), (0.01, 5, 160, 360), (0.02, 2, 800, 1700), (0.05, 2, 320, 700)],
)
def test_a_rate_that_has_grown_is_found(alpha: float, times: int, median: int, ninety: int) -> None:
    found = first_found(alpha * times, alpha, 150, seed=2)
    assert np.median(found) <= median
    assert np.quantile(found, 0.9) <= ninety


@given(st.integers(0, 40), st.integers(0, 8), st.sampled_from([0.01, 0.05, 0.2]))
def test_the_evidence_is_the_mean_return_of_the_gamblers_bets(good: int, rejected: int, alpha: float) -> None:
    rejected = min(good, rejected)
    prior = beta(1, max(1 / (3 * alpha) - 1, 1))

    def returned(p: float) -> float:
        return float(prior.pdf(p) * (p / alpha) ** rejected * ((1 - p) / (1 - alpha)) ** (good - rejected))

    expected = quad(returned, alpha, 1, points=[min(2 * alpha, 0.9), min(10 * alpha, 0.95)])[0]
    assert PromiseCount(good, rejected).e_value(alpha) == pytest.approx(
        expected / prior.sf(alpha), rel=1e-4, abs=1e-9
    )


@given(st.floats(0.001, 0.3), st.floats(0.0, 1.0))
def test_the_game_is_not_to_the_gamblers_favour(alpha: float, of_alpha: float) -> None:
    rate = alpha * of_alpha  # any rate that keeps the promise
    after = [PromiseCount(1, 0).e_value(alpha), PromiseCount(1, 1).e_value(alpha)]
    assert (1 - rate) * after[0] + rate * after[1] <= 1 + 1e-9


def test_nothing_seen_is_no_evidence() -> None:
    assert PromiseCount(0, 0).e_value(0.01) == pytest.approx(1.0)
    assert lower_bound(PromiseCount(0, 0), 0.01, 0.05) == pytest.approx(0.0, abs=1e-6)


def test_the_rate_is_bounded_from_below_at_all_times() -> None:
    rng = np.random.default_rng(3)
    rate, wrong, lines = 0.03, 0, 200
    for _ in range(lines):
        seen = np.flatnonzero(rng.random(3000) < rate) + 1
        bounds = e_values(seen, np.arange(1, seen.size + 1), rate, 0.01)  # the true rate, refuted?
        wrong += bool((bounds >= 20).any())
    assert wrong <= binom.ppf(1 - 1e-5, lines, 0.05)
    bound = lower_bound(PromiseCount(1000, 60), 0.01, 0.05)
    assert 0.03 < bound < 0.06


def test_many_parts_do_not_overflow() -> None:
    assert PromiseCount(10_000_000, 5_000_000).e_value(0.01) > 1e100
    assert PromiseCount(10_000_000, 0).e_value(0.01) == pytest.approx(0.0, abs=1e-9)


def test_an_alpha_that_is_none() -> None:
    with pytest.raises(CalibrationError, match="alpha is 0"):
        PromiseCount(1, 0).e_value(0.0)
    with pytest.raises(CalibrationError, match="level is 1"):
        lower_bound(PromiseCount(1, 0), 0.1, 1.0)
