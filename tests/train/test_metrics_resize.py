"""Masks by the nearest pixel, as Pillow does it; maps without overshoot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage

from train.metrics import PUBLISHED_PX, lost_components, resize_map, resize_mask

sides = st.integers(1, 60)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 10_000), sides, sides, sides)
def test_a_mask_is_resized_as_pillow_does(seed: int, height: int, width: int, side: int) -> None:
    # A centre that falls between two pixels goes to the further one; Pillow's rounding sends it either way.
    assume(all((2 * i + 1) * size % (2 * side) for i in range(side) for size in (height, width)))
    mask = np.random.default_rng(seed).random((height, width)) < 0.4
    expected = Image.fromarray(mask.astype(np.uint8)).resize((side, side), Image.Resampling.NEAREST)
    np.testing.assert_array_equal(resize_mask(mask, side), np.asarray(expected) > 0)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), sides, sides, sides)
def test_a_map_stays_within_its_range_and_straight_lines_stay_straight(
    seed: int, height: int, width: int, side: int
) -> None:
    score_map = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    resized = resize_map(score_map, side)
    assert (resized.dtype, resized.shape) == (np.float32, (side, side))
    assert score_map.min() - 1e-6 <= resized.min() <= resized.max() <= score_map.max() + 1e-6
    # Of a ramp, pixel i shows the value at its own centre, (i + ½)·W/side − ½: the mask's pixel too.
    ramp = resize_map(np.tile(np.arange(width, dtype=np.float32), (height, 1)), side)
    centres = np.clip((np.arange(side) + 0.5) * width / side - 0.5, 0, width - 1)
    np.testing.assert_allclose(ramp, np.tile(centres, (side, 1)), atol=0.02 * width / side + 1e-3)


def test_at_its_own_size_nothing_changes() -> None:
    rng = np.random.default_rng(0)
    mask, score_map = rng.random((224, 224)) < 0.5, rng.random((224, 224), dtype=np.float32)
    np.testing.assert_array_equal(resize_mask(mask), mask)
    np.testing.assert_array_equal(resize_map(score_map), score_map)
    assert resize_mask(np.zeros((600, 800), dtype=bool)).shape == (PUBLISHED_PX, PUBLISHED_PX)


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000), st.integers(4, 40), st.integers(4, 40))
def test_lost_components_are_those_without_a_pixel(seed: int, height: int, width: int) -> None:
    mask = np.random.default_rng(seed).random((height, width)) < 0.15
    labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
    alive = sum(bool(resize_mask(labels == k, 7).any()) for k in range(1, count + 1))
    assert lost_components(mask, 7) == (count, count - alive)


def test_a_scratch_of_one_pixel_is_lost_and_a_dent_is_not() -> None:
    mask = np.zeros((448, 448), dtype=bool)
    mask[100, 10:60] = True  # an even row: pixel i at 224 shows row 2i + 1
    mask[200:220, 200:220] = True
    assert lost_components(mask) == (2, 1)
    assert resize_mask(mask).sum() == pytest.approx(100)
