"""AUROC of images and pixels, the false positive rate at a detection rate, and lost ground truth."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import beta
from sklearn.metrics import roc_auc_score

from edge.errors import ConfigError, DatasetError
from train.metrics import false_positive_rate_at, image_auroc, lost_ground_truth_fraction, pixel_auroc

labelled_scores = st.lists(st.tuples(st.booleans(), st.integers(0, 6)), min_size=2, max_size=40).filter(
    lambda rows: len({label for label, _ in rows}) == 2
)


@settings(max_examples=200, deadline=None)
@given(labelled_scores)
def test_image_auroc_is_the_chance_that_a_defect_outscores_a_good_part(rows: list[tuple[bool, int]]) -> None:
    defects = [score for label, score in rows if label]
    good = [score for label, score in rows if not label]
    wins = sum((d > g) + 0.5 * (d == g) for d in defects for g in good)
    found = image_auroc([label for label, _ in rows], [score for _, score in rows])
    assert found == pytest.approx(wins / (len(defects) * len(good)), abs=1e-12)


def test_image_auroc_by_hand() -> None:
    # Of the pairs (0.4, 0.1), (0.4, 0.4), (0.9, 0.1), (0.9, 0.4) three are won and one is a tie: 3.5 / 4.
    assert image_auroc([0, 0, 1, 1], [0.1, 0.4, 0.4, 0.9]) == pytest.approx(3.5 / 4, abs=1e-15)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 5, 100_000]))
def test_pixel_auroc_agrees_with_scikit_learn(seed: int, scores: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(1, 20, size=2)) for _ in range(4)]
    masks = [rng.random(shape) < 0.3 for shape in shapes]
    maps = [(rng.integers(0, scores, size=shape) / 7).astype(np.float32) for shape in shapes]
    truth = np.concatenate([m.ravel() for m in masks])
    assume(0 < truth.sum() < truth.size)
    expected = roc_auc_score(truth, np.concatenate([m.ravel() for m in maps]))
    assert pixel_auroc(masks, maps) == pytest.approx(expected, abs=1e-12)


def test_pixel_auroc_of_the_three_simple_maps() -> None:
    mask = np.zeros((9, 9), dtype=bool)
    mask[2:4, 3:7] = True
    assert pixel_auroc([mask], [mask.astype(np.float32)]) == 1.0
    assert pixel_auroc([mask], [1 - mask.astype(np.float32)]) == 0.0
    assert pixel_auroc([mask], [np.zeros((9, 9), dtype=np.float32)]) == 0.5


def test_pixel_auroc_names_the_image_that_can_not_be_ranked() -> None:
    mask = np.eye(3, dtype=bool)
    broken = np.full((3, 3), np.nan, dtype=np.float32)
    with pytest.raises(DatasetError, match="image 1: 9 of 9 scores"):
        pixel_auroc([mask, mask], [np.ones((3, 3), dtype=np.float32), broken])
    with pytest.raises(DatasetError, match="none of the 1 masks"):
        pixel_auroc([np.zeros((3, 3), dtype=bool)], [np.ones((3, 3), dtype=np.float32)])


@pytest.mark.parametrize(
    ("labels", "scores", "message"),
    [
        ([1, 1], [0.1, 0.2], "0 good and 2 defective"),
        ([0, 0, 0], [0.1, 0.2, 0.3], "3 good and 0 defective"),
        ([], [], "0 good and 0 defective"),
        ([0, 1, 1], [0.1, 0.2, float("nan")], "image 2: score is nan"),
        ([0, 1, 1], [0.1, float("inf"), 0.3], "image 1: score is inf"),
        ([0, 1], [0.1, 0.2, 0.3], r"labels are \(2,\), scores are \(3,\)"),
        ([0, 255], [0.1, 0.2], "image 1: label is"),
        ([[0, 1]], [[0.1, 0.2]], r"labels are \(1, 2\)"),
    ],
)
def test_labels_and_scores_that_do_not_fit_are_refused(labels: list, scores: list, message: str) -> None:  # type: ignore[type-arg]  # wrong on purpose
    with pytest.raises(DatasetError, match=message):
        image_auroc(labels, scores)
    with pytest.raises(DatasetError, match=message):
        false_positive_rate_at(labels, scores, 0.95)


def test_false_positive_rate_by_hand() -> None:
    # Good 0 … 9, defective 5 … 14. To find 9 of 10 the threshold must go down to 6;
    # 6, 7, 8 and 9 are good: 4/10.
    scores = [*range(10), *range(5, 15)]
    found = false_positive_rate_at([0] * 10 + [1] * 10, scores, 0.9)
    assert (found.threshold, found.false_positives, found.good) == (6.0, 4, 10)
    assert (found.detected, found.defective, found.rate) == (9, 10, 0.4)
    # Clopper and Pearson's bounds are quantiles of two beta distributions.
    assert found.low == pytest.approx(beta.ppf(0.025, 4, 7), abs=1e-9)
    assert found.high == pytest.approx(beta.ppf(0.975, 5, 6), abs=1e-9)


def test_no_false_positive_still_has_an_upper_bound() -> None:
    # 0 of n: the upper bound u is where (1 − u)^n = 0.025.
    found = false_positive_rate_at([0] * 20 + [1], [0.0] * 20 + [1.0], 1.0)
    assert (found.rate, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 20), abs=1e-9)


def test_a_tie_at_the_threshold_falls_on_both_sides() -> None:
    # The threshold for 1 of 3 is 2, where all three defects and two of three good parts stand.
    found = false_positive_rate_at([1, 1, 1, 0, 0, 0], [2, 2, 2, 2, 2, 1], 1 / 3)
    assert (found.detected, found.false_positives) == (3, 2)


def test_seven_of_a_hundred_are_seven_percent() -> None:
    # 0.07 * 100 is 7.000000000000001: rounded up it would ask for an eighth.
    found = false_positive_rate_at([1] * 100 + [0], [*range(100), 92.5], 0.07)
    assert (found.detected, found.false_positives) == (7, 0)


@settings(max_examples=200, deadline=None)
@given(labelled_scores, st.sampled_from([0.01, 0.5, 0.9, 0.95, 1.0]))
def test_the_threshold_is_the_highest_that_finds_enough(
    rows: list[tuple[bool, int]], detection_rate: float
) -> None:
    labels, scores = np.array([r[0] for r in rows]), np.array([r[1] for r in rows])
    enough = [t for t in set(scores) if (scores[labels] >= t).mean() >= detection_rate]
    found = false_positive_rate_at(labels, scores, detection_rate)
    assert found.false_positives == (scores[~labels] >= max(enough)).sum()
    assert found.detected == (scores[labels] >= max(enough)).sum()
    assert found.low <= found.rate <= found.high


@pytest.mark.parametrize(("rate", "confidence"), [(0.0, 0.95), (1.1, 0.95), (0.9, 1.0), (float("nan"), 0.95)])
def test_a_rate_out_of_range_is_refused(rate: float, confidence: float) -> None:
    with pytest.raises(ConfigError, match="detection rate"):
        false_positive_rate_at([0, 1], [0.0, 1.0], rate, confidence)


def test_lost_ground_truth_is_pooled_over_the_pixels_of_all_images() -> None:
    # 8 defect pixels, none lost; 2 more, both lost; a good image: 2/10.
    inside, outside, good = (np.zeros((4, 4), dtype=bool) for _ in range(3))
    inside[1:3] = True
    outside[0, :2] = True
    foreground = np.ones((4, 4), dtype=bool)
    foreground[0] = False
    assert lost_ground_truth_fraction([inside, outside, good], [foreground] * 3) == 0.2


def test_lost_ground_truth_refuses_what_does_not_fit() -> None:
    mask = np.eye(4, dtype=bool)
    with pytest.raises(DatasetError, match=r"image 1: foreground mask is \(2, 4\), mask is \(4, 4\)"):
        lost_ground_truth_fraction([mask, mask], [mask, mask[:2]])
    with pytest.raises(DatasetError, match="image 0: foreground mask is uint8"):
        lost_ground_truth_fraction([mask], [mask.astype(np.uint8)])
    with pytest.raises(DatasetError, match="1 masks but 0 foreground masks"):
        lost_ground_truth_fraction([mask], [])
    with pytest.raises(DatasetError, match="none of the 1 masks has a defect pixel"):
        lost_ground_truth_fraction([~np.ones((4, 4), dtype=bool)], [mask])
