"""Resampled figures against those of the images drawn, one by one."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ConfigError, DatasetError
from tests.train.metric_images import blob_split, tiny_split
from train.metrics import aupro, draws, image_auroc, percentile_interval, pro_grid, resampled_auroc

LIMITS = (1.0, 0.3, 0.05, 0.01)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([2, 5, 1000]))
def test_with_every_score_in_the_grid_each_resample_has_its_exact_aupro(seed: int, scores: int) -> None:
    masks, maps = tiny_split(seed, scores)
    grid = pro_grid(masks, maps)
    times = draws([1, 0, 0, 0, 2], 40, seed)[:6]  # the first, with a defect, is always there
    times = np.vstack([np.ones(5, dtype=np.int64), times])
    for row, found in zip(times, grid.aupro(times, LIMITS), strict=True):
        drawn = np.repeat(np.arange(5), row)
        expected = aupro([masks[i] for i in drawn], [maps[i] for i in drawn], LIMITS)
        assert found == pytest.approx([expected[limit] for limit in LIMITS], abs=1e-9)


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_thinned_grid_is_within_a_thousandth_of_the_exact_figure(seed: int) -> None:
    masks, maps = blob_split(seed, images=20, height=120, width=100)
    exact = aupro(masks, maps, LIMITS)
    found = pro_grid(masks, maps).aupro(np.ones((1, 20), dtype=np.int64), LIMITS)[0]
    assert found == pytest.approx([exact[limit] for limit in LIMITS], abs=1e-3)
    # and in resamples too, whose scores are not those that the grid was laid by
    times = draws(np.arange(20) % 2, 40, seed)[:3]
    for row, resampled in zip(times, pro_grid(masks, maps).aupro(times, LIMITS), strict=True):
        drawn = np.repeat(np.arange(20), row)
        expected = aupro([masks[i] for i in drawn], [maps[i] for i in drawn], LIMITS)
        assert resampled == pytest.approx([expected[limit] for limit in LIMITS], abs=1e-3)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([3, 1000]))
def test_each_resample_has_its_exact_auroc(seed: int, scores: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.arange(12) % 3 == 0
    values = rng.integers(0, scores, size=12).astype(float)
    times = draws(labels.astype(int), 40, seed)
    for row, found in zip(times, resampled_auroc(labels, values, times), strict=True):
        drawn = np.repeat(np.arange(12), row)
        assert found == pytest.approx(image_auroc(labels[drawn], values[drawn]), abs=1e-12)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 3), min_size=1, max_size=30))
def test_each_group_keeps_its_number_in_every_resample(seed: int, strata: list[int]) -> None:
    times = draws(strata, 50, seed)
    groups = np.array(strata)
    for group in set(strata):
        assert (times[:, groups == group].sum(axis=1) == (groups == group).sum()).all()
    np.testing.assert_array_equal(times, draws(strata, 50, seed))


def test_another_seed_draws_others() -> None:
    assert (draws([0] * 20, 50, 0) != draws([0] * 20, 50, 1)).any()


@pytest.mark.parametrize("seed", range(4))
def test_the_interval_holds_the_figure_and_narrows_with_more_images(seed: int) -> None:
    widths = []
    for images in (16, 144):
        masks, maps = blob_split(seed, images=images, height=32, width=32)
        labels, scores = [bool(m.any()) for m in masks], [float(m.max()) for m in maps]
        times = draws(np.array(labels, dtype=int), 400, seed)
        low, high = percentile_interval(resampled_auroc(labels, scores, times), 0.95)
        assert low <= image_auroc(labels, scores) <= high
        areas = pro_grid(masks, maps).aupro(times, (0.3,))[:, 0]
        low, high = percentile_interval(areas, 0.95)
        assert low <= aupro(masks, maps, (0.3,))[0.3] <= high
        widths.append(high - low)
    assert widths[1] < 0.6 * widths[0]  # by the root of 9, more or less


def test_a_rising_function_of_the_scores_changes_no_resample() -> None:
    masks, maps = tiny_split(3, 50)
    times = draws([1, 0, 0, 0, 2], 40, 0)
    risen = [np.exp(m / 50).astype(np.float32) for m in maps]
    assert (pro_grid(masks, maps).aupro(times, LIMITS) == pro_grid(masks, risen).aupro(times, LIMITS)).all()


def test_a_background_of_0_is_a_tie_where_the_cpu_flushes_denormals() -> None:
    # As training and evaluation tell it to (`use_cpu_well`); the number next to 0 is a denormal one.
    masks, maps = blob_split(0, images=6, height=30, width=30)
    maps = [np.maximum(m, 0) for m in maps]
    exact = aupro(masks, maps, LIMITS)
    flushes = torch.set_flush_denormal(True)
    try:
        found = pro_grid(masks, maps).aupro(np.ones((1, 6), dtype=np.int64), LIMITS)[0]
    finally:
        torch.set_flush_denormal(False)
    assert flushes
    assert found == pytest.approx([exact[limit] for limit in LIMITS], abs=1e-3)


def test_many_good_pixels_are_looked_at_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    masks, maps = blob_split(0, images=40, height=100, width=100)
    exact = aupro(masks, maps, LIMITS)
    monkeypatch.setattr("train.metrics.bootstrap._SAMPLED_PIXELS", 20_000)
    found = pro_grid(masks, maps).aupro(np.ones((1, 40), dtype=np.int64), LIMITS)[0]
    assert found == pytest.approx([exact[limit] for limit in LIMITS], abs=3e-3)
    tracemalloc.start()
    try:
        pro_grid(masks, maps, levels=50)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40 * 100 * 100 * 4 / 2  # half of the maps: no copy of the good pixels is kept


def test_it_refuses_what_has_no_interval() -> None:
    masks, maps = tiny_split(0, 5)
    with pytest.raises(ConfigError, match="39 bootstrap resamples"):
        draws([0, 1], 39, 0)
    with pytest.raises(DatasetError, match="0 defects"):
        pro_grid([np.zeros_like(m) for m in masks], maps)
    with pytest.raises(DatasetError, match="every pixel"):
        pro_grid([np.ones_like(m) for m in masks], maps)
    with pytest.raises(DatasetError, match="image 1: "):
        pro_grid(masks, [maps[0], np.full_like(maps[1], np.nan), *maps[2:]])
