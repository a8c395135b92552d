"""Points to draw: on the exact curves, and few."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import trapezoid

from edge.errors import ConfigError, DatasetError
from train.metrics import aupro, image_auroc, pro_curve, pro_curve_points, roc_curve_points


def noisy(seed: int, side: int, scores: int) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]:
    rng = np.random.default_rng(seed)
    mask = np.zeros((side, side), dtype=bool)
    mask[side // 3 : side // 2, side // 3 : side // 2] = True
    mask[-2:, -2:] = True
    noise = rng.integers(0, scores, size=(side, side)) / scores
    return mask, (noise + 0.5 * mask).astype(np.float32)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([3, 1000]))
def test_the_area_under_the_roc_points_is_the_auroc(seed: int, scores: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(30) % 3 == 0
    values = rng.integers(0, scores, size=30) + 0.3 * scores * labels
    fpr, tpr = roc_curve_points(labels, values)
    assert (fpr[0], tpr[0], fpr[-1], tpr[-1]) == (0, 0, 1, 1)
    assert trapezoid(tpr, fpr) == pytest.approx(image_auroc(labels, values), abs=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 10_000),
    st.sampled_from([4, 30, 10_000]),
    st.sampled_from([0.01, 0.3, 1.0]),
    st.sampled_from([2, 7, 1000]),
)
def test_the_pro_points_lie_on_the_exact_curve(seed: int, scores: int, limit: float, points: int) -> None:
    mask, score_map = noisy(seed, 24, scores)
    curve = pro_curve([mask], [score_map])
    fpr, pro = pro_curve_points([mask], [score_map], limit, points)
    assert len(fpr) == len(pro) <= points + 2
    assert (fpr[0], pro[0], fpr[-1]) == (0, 0, limit)
    assert (np.diff(fpr) >= 0).all()
    assert (np.diff(pro) >= 0).all()
    for x, y in zip(fpr, pro, strict=True):  # between the ends of a vertical stretch, else on a straight line
        low = curve.pro[np.searchsorted(curve.fpr, x, side="left")] if x in curve.fpr else None
        on_line = np.isclose(np.interp(x, curve.fpr, curve.pro), y, atol=1e-12)
        assert on_line or (low is not None and low <= y)


def test_unthinned_points_have_the_exact_area() -> None:
    mask, score_map = noisy(0, 30, 1000)
    fpr, pro = pro_curve_points([mask], [score_map], 0.3, 100_000)
    assert trapezoid(pro, fpr) / 0.3 == pytest.approx(aupro([mask], [score_map])[0.3], abs=1e-12)


def test_thinned_points_have_nearly_the_exact_area() -> None:
    mask, score_map = noisy(1, 200, 1 << 20)
    fpr, pro = pro_curve_points([mask], [score_map], 0.3)
    assert len(fpr) <= 1002
    assert trapezoid(pro, fpr) / 0.3 == pytest.approx(aupro([mask], [score_map])[0.3], abs=2e-3)


def test_no_curve_of_one_point_or_of_no_defect() -> None:
    mask, score_map = noisy(0, 12, 5)
    with pytest.raises(ConfigError, match="1 points"):
        pro_curve_points([mask], [score_map], 0.3, 1)
    with pytest.raises(ConfigError, match="limits"):
        pro_curve_points([mask], [score_map], 0.0)
    with pytest.raises(DatasetError, match="nothing to localise"):
        pro_curve_points([np.zeros_like(mask)], [score_map], 0.3)
    with pytest.raises(DatasetError, match="0 good and 2 defective"):
        roc_curve_points([1, 1], [0.1, 0.2])
