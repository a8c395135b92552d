"""Lots that differ are found, and what is promised of them is kept."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom, norm

from edge.calibrating.lots import new_lot_threshold, test_lots, worst_lot_threshold
from edge.errors import CalibrationError


def labels(lots: int, parts: int) -> list[str]:
    return [f"day-{lot}" for lot in range(lots) for _ in range(parts)]


def test_a_lot_that_is_another_is_found_and_named() -> None:
    rng = np.random.default_rng(0)
    scores = rng.standard_normal(200)
    scores[100:150] += 1.5
    found = test_lots(scores.tolist(), labels(4, 50))
    assert found is not None
    assert found.differ
    assert found.p_value == 0.001
    assert found.lot == "day-2"
    assert found.median_shift > 1
    assert found.distance > 0.4
    assert found.parts_by_lot == {f"day-{lot}": 50 for lot in range(4)}


def test_lots_of_one_law_differ_no_more_often_than_the_level_says() -> None:
    rng = np.random.default_rng(1)
    repetitions = 150
    p_values = []
    for number in range(repetitions):
        scores = rng.standard_normal(60) if number % 2 else rng.poisson(2.0, 60).astype(float)  # ties, too
        found = test_lots(scores.tolist(), labels(3, 20))
        assert found is not None
        p_values.append(found.p_value)
    early = sum(p_value <= 0.1 for p_value in p_values)
    assert early <= binom.ppf(1 - 1e-5, repetitions, 0.1)
    assert early >= 1  # it is not blind


def test_a_single_lot_has_nothing_to_differ_from() -> None:
    assert test_lots([0.1, 0.2, 0.3], ["a", "a", "a"]) is None
    assert test_lots([0.1, 0.2, 0.3, 0.4], ["a", "a", "a", "b"]) is None  # too few to say anything


def test_the_worst_lot_decides() -> None:
    rng = np.random.default_rng(2)
    scores = np.concatenate([rng.standard_normal(120), 2 + rng.standard_normal(120)])
    threshold, promise = worst_lot_threshold(scores.tolist(), labels(2, 120), 0.05, 0.05)
    assert promise.kept
    assert norm.sf(threshold - 2) <= 0.05  # of the worse lot alone
    with pytest.raises(CalibrationError, match=r"lot 'day-0' has 20 good parts.*takes 72 of each"):
        worst_lot_threshold(scores[:40].tolist(), labels(2, 20), 0.05, 0.05)
    _, weaker = worst_lot_threshold(scores[:40].tolist(), labels(2, 20), 0.05, 0.05, best_effort=True)
    assert not weaker.kept


def test_all_lots_at_once_are_rejected_by_no_more() -> None:
    rng = np.random.default_rng(3)
    shifts, broken, repetitions = np.array([0.0, 0.02, 0.05]), 0, 400
    for _ in range(repetitions):
        scores = (rng.standard_normal((3, 120)) + shifts[:, None]).ravel()
        threshold, _ = worst_lot_threshold(scores.tolist(), labels(3, 120), 0.05, 0.1)
        broken += bool((norm.sf(threshold - shifts) > 0.05).any())
    assert broken <= binom.ppf(1 - 1e-5, repetitions, 0.1)


def test_a_part_of_a_new_lot_is_rejected_no_more_often_than_promised() -> None:
    rng = np.random.default_rng(4)
    lots, parts, alpha, repetitions = 30, 5, 0.05, 600
    realised = []
    pooled = []
    for _ in range(repetitions):
        shifts = rng.standard_normal(lots + 1)
        scores = (rng.standard_normal((lots, parts)) * 0.3 + shifts[:lots, None]).ravel()
        threshold, promise = new_lot_threshold(scores.tolist(), labels(lots, parts), alpha)
        realised.append(norm.sf((threshold - shifts[lots]) / 0.3))
        pooled.append(norm.sf((np.sort(scores)[142] - shifts[lots]) / 0.3))  # ⌈151 × 0.95⌉ - 1
    assert promise.kept
    assert promise.delta is None
    noise = np.std(realised) / repetitions**0.5
    assert np.mean(realised) <= alpha + 4 * noise
    assert np.mean(pooled) > alpha  # as if the parts did not come in lots


def test_too_few_lots_are_told() -> None:
    scores = np.arange(40.0).tolist()
    with pytest.raises(CalibrationError, match=r"4 lots can't promise 1 %.*takes 99 lots, 4 promise 20 %"):
        new_lot_threshold(scores, labels(4, 10), 0.01)
    threshold, promise = new_lot_threshold(scores, labels(4, 10), 0.01, best_effort=True)
    assert threshold == 39.0
    assert promise.alpha == 0.2
    assert not promise.kept


def test_lots_of_unlike_size_weigh_the_same() -> None:
    scores = [*np.linspace(0, 1, 100).tolist(), 5.0, 6.0, 7.0]
    lots = ["large"] * 100 + ["small-1", "small-2", "small-3"]
    threshold, _ = new_lot_threshold(scores, lots, 0.4)
    assert threshold == 6.0  # each lot weighs 1/5: the large one and two small ones are the 0.6 asked for
