"""The published thresholds, step by step, and where they go wrong."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import ndimage

from edge.errors import ConfigError, DatasetError
from train.metrics import aupro, aupro_legacy


def published_steps(
    masks: list[npt.NDArray[np.bool_]], maps: list[npt.NDArray[np.float32]], limit: float, thresholds: int
) -> float:
    """Sort the good scores, walk over equidistant ranks, integrate the points from FPR 0 to the limit."""
    good = sorted(float(v) for mask, m in zip(masks, maps, strict=True) for v in m[~mask])
    regions = []
    for mask, score_map in zip(masks, maps, strict=True):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [[float(v) for v in score_map[labels == k]] for k in range(1, count + 1)]
    points = [(1.0, 1.0)]
    # linspace's own rounding is part of it: an exact step can come out one rank lower.
    for position in np.linspace(0, len(good) - 1, num=thresholds, dtype=int):
        overlap = [1 - sum(v <= good[position] for v in region) / len(region) for region in regions]
        points.append((1 - (position + 1) / len(good), sum(overlap) / len(regions)))
    points.reverse()
    area = 0.0
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 < limit and x0 < x1:
            x = min(x1, limit)
            y = y0 + (y1 - y0) * (x - x0) / (x1 - x0)
            area += (x - x0) * (y0 + y) / 2
    return area / limit


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([5, 1000]), st.sampled_from([5, 99, 100]))
def test_it_repeats_the_published_steps(seed: int, scores: int, thresholds: int) -> None:
    rng = np.random.default_rng(seed)
    shapes = [tuple(rng.integers(2, 14, size=2)) for _ in range(3)]
    masks = [rng.random(shape) < 0.3 for shape in shapes]
    maps = [rng.integers(0, scores, size=shape).astype(np.float32) for shape in shapes]
    assume(any(m.any() for m in masks) and not all(m.all() for m in masks))
    for limit, value in aupro_legacy(masks, maps, (1.0, 0.3, 0.05), thresholds).items():
        assert value == pytest.approx(published_steps(masks, maps, limit, thresholds), abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000))
def test_a_threshold_at_every_good_pixel_comes_within_one_pixel_of_the_exact_area(seed: int) -> None:
    # Without ties the exact curve is a staircase on a grid of 1/n; the legacy points lie on it, joined by
    # slopes: the two areas differ by less than one column, 1/n.
    rng = np.random.default_rng(seed)
    mask = rng.random((12, 12)) < 0.2
    assume(mask.any())
    score_map = rng.permutation(144).reshape(12, 12).astype(np.float32)
    good_pixels = int((~mask).sum())
    exact = aupro([mask], [score_map])
    legacy = aupro_legacy([mask], [score_map], thresholds=good_pixels)
    for limit, value in exact.items():
        assert abs(legacy[limit] - value) * limit <= 1 / good_pixels


def test_a_constant_map_shows_the_error_under_ties() -> None:
    # Ranks pretend that the FPR falls from 1 to 0 while no defect pixel is ever above the one score: 0 up to
    # the last threshold, where the exact curve is the diagonal (limit / 2).
    mask = np.zeros((30, 30), dtype=bool)
    mask[3:6, 3:6] = True
    constant = np.ones((30, 30), dtype=np.float32)
    assert aupro_legacy([mask], [constant])[0.3] == 0.0
    assert aupro([mask], [constant])[0.3] == pytest.approx(0.15, abs=1e-15)


def test_a_perfect_map_has_1() -> None:
    mask = np.zeros((30, 30), dtype=bool)
    mask[3:6, 3:6] = True
    noise = np.random.default_rng(0).random((30, 30), dtype=np.float32)
    assert aupro_legacy([mask], [noise + mask]) == pytest.approx({0.3: 1.0, 0.05: 1.0, 0.01: 1.0}, abs=1e-12)


def test_it_refuses_what_makes_no_curve() -> None:
    mask, score_map = np.eye(4, dtype=bool), np.ones((4, 4), dtype=np.float32)
    with pytest.raises(ConfigError, match="1 thresholds"):
        aupro_legacy([mask], [score_map], thresholds=1)
    with pytest.raises(ConfigError, match="limits"):
        aupro_legacy([mask], [score_map], limits=(0.0,))
    with pytest.raises(DatasetError, match="0 defects and 16 good pixels"):
        aupro_legacy([np.zeros((4, 4), dtype=bool)], [score_map])
    with pytest.raises(DatasetError, match="1 defects and 0 good pixels"):
        aupro_legacy([np.ones((4, 4), dtype=bool)], [score_map])
    with pytest.raises(DatasetError, match="image 0: 16 of 16 scores"):
        aupro_legacy([mask], [np.full((4, 4), np.nan, dtype=np.float32)])
