from __future__ import annotations

import numpy as np
import pytest

from edge.score_evidence import TESTS, DriftEvidence, FailEvidence
from edge.wagers import SLOTS, SPACING, Wagers
from tests.score_power import DRAWS, e_values, largest_e_values


def test_moving_money_between_cash_and_stakes_costs_nothing() -> None:
    wagers = Wagers(3)
    for part in range(SLOTS * SPACING * 2 + 7):
        wagers.play(part, lambda share: np.ones((share.shape[0], 3)))
    assert float(wagers.wealth) == pytest.approx(1.0)


def test_a_fair_game_has_a_mean_of_one() -> None:
    chance = np.random.default_rng(0)
    wagers = Wagers(1, (20_000,))
    for part in range(3 * SPACING):
        # Returns 0.9 or 1.1: of so small a spread that the mean of 20,000 games is known to 1 %.
        toss = chance.integers(2, size=(20_000, 1, 1)) * 0.2 + 0.9
        wagers.play(part, lambda share, toss=toss: np.broadcast_to(toss, (20_000, share.shape[0], 1)))  # type: ignore[misc]  # a lambda's default
    wealth = wagers.wealth
    assert wealth.std() / np.sqrt(wealth.size) < 0.01
    assert wealth.mean() == pytest.approx(1.0, abs=0.03)


@pytest.mark.parametrize("name", DRAWS)
def test_false_alarms_are_no_more_than_said(name: str) -> None:
    largest = largest_e_values(DRAWS[name], streams=2000, parts=250)
    for level in (0.3, 0.1, 0.01):
        # Of 2000 lines, with what chance may add to it in one of a thousand such tests.
        allowed = level + 3.1 * np.sqrt(level * (1 - level) / 2000)
        assert (largest >= TESTS / level).mean() <= allowed


def test_one_game_is_what_the_simulation_plays() -> None:
    p = np.random.default_rng(0).random((1, 300)) ** 1.3
    for sign in (1, -1):
        evidence = DriftEvidence(sign, 1e300)
        for part, expected in enumerate(e_values(p, sign, 12)[0]):
            evidence.add(float(p[0, part]), 12 + part)
            assert evidence.e_value == pytest.approx(expected)


def test_a_change_is_found_however_late_it_comes() -> None:
    evidence = DriftEvidence(1, 300.0)
    for part in range(20_000):
        evidence.add(0.5, part)
    assert evidence.e_value < 1
    late = 0
    while not evidence.proven:
        evidence.add(0.1, 20_000 + late)
        late += 1
    assert late < 2 * SPACING


def test_evidence_stops_where_nothing_is_left_to_prove() -> None:
    evidence = DriftEvidence(-1, 300.0)
    for part in range(2000):
        evidence.add(0.999, 1_000_000 + part)
    assert evidence.proven
    assert evidence.e_value == 300.0


def test_fails_that_chance_explains_prove_nothing_and_a_stop_of_all_parts_is_proven_soon() -> None:
    chance = np.random.default_rng(0)
    evidence = FailEvidence(0.3, 300.0)
    for part in range(3000):
        evidence.add(bool(chance.random() < 0.3), part)
    assert not evidence.proven
    more = 0
    while not evidence.proven:
        evidence.add(True, 3000 + more)
        more += 1
    assert more < 40


def test_no_fails_at_all_are_no_evidence_of_too_many() -> None:
    evidence = FailEvidence(0.5, 300.0)
    for part in range(1000):
        evidence.add(False, part)
    assert evidence.e_value < 1
