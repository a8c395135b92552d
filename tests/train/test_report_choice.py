from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import DatasetError
from train.report.choice import best_and_worst

PARTS = st.lists(st.tuples(st.booleans(), st.integers(0, 8).map(float)), min_size=1, max_size=40)


@given(PARTS, st.none() | st.floats(0, 8), st.integers(1, 12))
def test_lists_are_apart_as_long_as_can_be_and_wrong_verdicts_come_first(
    parts: list[tuple[bool, float]], threshold: float | None, count: int
) -> None:
    defective, scores = [bad for bad, _ in parts], [score for _, score in parts]
    best, worst = best_and_worst(defective, scores, threshold, count)
    assert not set(best) & set(worst)
    assert len(best) + len(worst) == min(2 * count, len(parts))
    assert len(worst) - len(best) in (0, 1)
    if threshold is not None:
        wrong = {i for i, (bad, score) in enumerate(parts) if (score > threshold) != bad}
        shown = [i in wrong for i in worst]
        assert shown == sorted(shown, reverse=True)
        assert sum(shown) == min(len(wrong), len(worst))


@given(PARTS, st.none() | st.floats(0, 8))
def test_in_each_class_the_worst_are_nearest_to_the_other_side(
    parts: list[tuple[bool, float]], threshold: float | None
) -> None:
    defective, scores = [bad for bad, _ in parts], [score for _, score in parts]
    best, worst = best_and_worst(defective, scores, threshold)
    for bad, sign in ((True, 1.0), (False, -1.0)):
        clearness = [sign * scores[i] for i in worst if defective[i] == bad]
        assert clearness == sorted(clearness)
        left = [sign * scores[i] for i in range(len(parts)) if defective[i] == bad and i not in worst]
        assert not (clearness and left) or max(clearness) <= min(left)
        clearness = [sign * scores[i] for i in best if defective[i] == bad]
        assert clearness == sorted(clearness, reverse=True)


def test_both_classes_are_shown_in_proportion() -> None:
    defective = [True] * 40 + [False] * 20
    scores = [10.0 + i for i in range(40)] + [float(i) / 20 for i in range(20)]
    best, worst = best_and_worst(defective, scores, 5.0)
    assert sum(defective[i] for i in worst) == 8
    assert sum(defective[i] for i in best) == 8
    assert worst[:2] in {(0, 59), (59, 0)}


def test_missed_parts_are_shown_before_good_ones_that_passed() -> None:
    defective = [True] * 6 + [False] * 30
    scores = [1.0, 1.1, 1.2, 9.0, 9.1, 9.2] + [0.5] * 30
    _, worst = best_and_worst(defective, scores, 2.0)
    assert worst[:3] == (0, 1, 2)


@pytest.mark.parametrize(
    ("scores", "word"), [([1.0, float("nan")], "part 1: its score is not finite"), ([1.0], "2 labels but 1")]
)
def test_what_cannot_be_ranked_is_named(scores: list[float], word: str) -> None:
    with pytest.raises(DatasetError, match=word):
        best_and_worst([True, False], scores, None)
