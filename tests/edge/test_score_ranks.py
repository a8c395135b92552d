from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.score_ranks import ScoreRanks

singles = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(st.lists(singles, min_size=1, max_size=40))
def test_a_p_value_is_the_share_of_larger_scores_and_a_piece_of_the_equal_ones(scores: list[float]) -> None:
    ranks = ScoreRanks()
    for count, score in enumerate(scores, start=1):
        seen = scores[:count]
        larger, equal = sum(s > score for s in seen), sum(s == score for s in seen)
        assert ranks.p_value(score, 0.25) == pytest.approx((larger + 0.25 * equal) / count)
    assert len(ranks) == len(scores)


@settings(deadline=None)
@given(st.lists(singles, min_size=1, max_size=60), st.randoms(use_true_random=False))
def test_bins_follow_from_the_set_of_scores_and_not_from_their_order(
    scores: list[float], chance: object
) -> None:
    shuffled = list(scores)
    chance.shuffle(shuffled)  # type: ignore[attr-defined]  # random.Random; hypothesis does not say so
    one, other = ScoreRanks(scores, bins=4), ScoreRanks(shuffled, bins=4)
    assert one.resolution == other.resolution
    for score in scores:
        assert one.p_value(score, 0.5) == other.p_value(score, 0.5)


def test_memory_does_not_grow_and_p_values_stay_near_those_of_all_scores() -> None:
    scores = np.random.default_rng(0).lognormal(0.0, 0.3, 20_000)
    ranks = ScoreRanks(bins=256)
    keys = ranks._keys
    for count, score in enumerate(scores, start=1):
        p_value = ranks.p_value(float(score), 0.5)
        if count % 1000 == 0:
            exact = ((scores[:count] > score).sum() + 0.5) / count
            assert p_value == pytest.approx(exact, abs=0.02)
    assert ranks._keys is keys
    assert ranks._counts[: ranks._used].sum() == scores.size
    assert ranks.resolution < 0.02


def test_scores_that_no_float32_holds_are_the_largest() -> None:
    ranks = ScoreRanks([1e300, 1.0, -1e300])
    assert ranks.p_value(1e301, 0.5) == pytest.approx(0.25)
    assert ranks.p_value(-1e301, 0.5) == pytest.approx(0.8)
