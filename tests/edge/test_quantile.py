from __future__ import annotations

import math
from datetime import datetime, timezone
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.calibration import MAX_GOOD_SCORES, Calibration
from edge.errors import CalibrationError
from edge.quantile import calibrate_by_quantile

MADE = datetime(2030, 1, 1, 12, 30, tzinfo=timezone.utc)
MODEL = "0" * 64


def found_in(scores: list[float], rate: float) -> Calibration:
    return calibrate_by_quantile(scores, false_reject_rate=rate, model_sha256=MODEL, created_utc=MADE)


@given(st.integers(1, 300), st.integers(1, 999))
def test_the_threshold_is_the_score_of_the_rank_that_is_asked_for(count: int, per_mille: int) -> None:
    scores = [float(rank) for rank in range(count, 0, -1)]  # a score is its own rank
    rank = math.ceil((count + 1) * (1 - Fraction(per_mille, 1000)))  # on paper, without floats
    calibration = found_in(scores, per_mille / 1000)
    assert calibration.threshold == min(rank, count)
    assert calibration.good_parts == count
    assert sum(score > calibration.threshold for score in scores) <= per_mille / 1000 * (count + 1)


def test_a_calibration_says_how_it_was_found() -> None:
    calibration = found_in([0.1, 0.3, 0.2], 0.02)
    assert calibration.threshold == 0.3
    assert calibration.provisional
    assert calibration.method == "quantile"
    assert calibration.calibration_id == "20300101T123000Z-quantile"


@pytest.mark.parametrize(
    ("scores", "rate", "words"),
    [
        ([], 0.02, "hold some good parts out"),
        ([0.1, math.nan, math.inf], 0.02, "2 of 3 scores"),
        ([0.1], 0.0, "false_reject_rate is 0.0"),
        ([0.1], 1.0, "false_reject_rate is 1.0"),
        ([0.1], 2.0, "between 0 and 1"),
        ([0.1], math.nan, "false_reject_rate is nan"),
    ],
)
def test_what_gives_no_threshold(scores: list[float], rate: float, words: str) -> None:
    with pytest.raises(CalibrationError, match=words):
        found_in(scores, rate)


def test_of_very_many_scores_some_are_kept_by_chance() -> None:
    scores = [float(number) for number in range(5000)]
    kept = found_in(scores, 0.02).good_scores
    assert kept is not None
    assert len(kept) == MAX_GOOD_SCORES
    assert list(kept) == sorted(set(kept))
    assert set(kept) <= set(scores)
    assert sum(score < 2500 for score in kept) == pytest.approx(MAX_GOOD_SCORES / 2, rel=0.1)
    assert found_in(scores, 0.02).good_scores == kept
