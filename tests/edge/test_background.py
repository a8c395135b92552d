from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.background import corner_surface, height_over_background, pass_fill
from edge.depth import fit_background_plane, height_over_plane
from edge.errors import DepthUnusable
from edge.frame import Intrinsics

INTRINSICS = Intrinsics(96, 72, 80.0, 80.0, 47.5, 35.5)


def bilinear(corners: tuple[float, float, float, float]) -> npt.NDArray[np.float32]:
    """(72, 96) the surface through four depths: top left, top right, bottom left, bottom right."""
    down, across = np.linspace(0, 1, 72)[:, None], np.linspace(0, 1, 96)[None, :]
    top, bottom = (
        corners[0] * (1 - across) + corners[1] * across,
        corners[2] * (1 - across) + corners[3] * across,
    )
    return (top * (1 - down) + bottom * down).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(st.tuples(*[st.floats(0.2, 0.6)] * 4))
def test_the_surface_goes_through_the_corners(corners: tuple[float, float, float, float]) -> None:
    depth_m = bilinear(corners)
    # The mean of 2×2 pixels stands for the corner itself: half a pixel's slope apart.
    slope = max(abs(a - b) for a in corners for b in corners) / 71
    assert np.abs(corner_surface(depth_m) - depth_m).max() <= slope + 1e-6


def test_only_valid_pixels_of_a_corner_count() -> None:
    depth_m = np.full((72, 96), 0.3, np.float32)
    depth_m[0, 0] = depth_m[1, 1] = 0.0
    assert np.allclose(corner_surface(depth_m), 0.3)


@pytest.mark.parametrize(
    ("rows", "columns", "name"),
    [
        (slice(0, 2), slice(0, 2), "top left"),
        (slice(0, 2), slice(-2, None), "top right"),
        (slice(-2, None), slice(0, 2), "bottom left"),
        (slice(-2, None), slice(-2, None), "bottom right"),
    ],
)
def test_a_corner_without_depth_is_named(rows: slice, columns: slice, name: str) -> None:
    depth_m = np.full((72, 96), 0.3, np.float32)
    depth_m[rows, columns] = 0.0
    with pytest.raises(DepthUnusable, match=f"the {name} corner has no depth"):
        height_over_background(depth_m, INTRINSICS, "corners", 0.08)


def test_height_over_the_corners_is_along_the_optical_axis_and_0_where_depth_is_missing() -> None:
    depth_m = bilinear((0.30, 0.32, 0.31, 0.33))
    depth_m[20:40, 30:60] -= 0.012
    depth_m[50:55, 50:55] = 0.0
    plane, height_m = height_over_background(depth_m, INTRINSICS, "corners", 0.08)
    assert height_m.dtype == np.float32
    assert np.allclose(height_m[20:40, 30:60], 0.012, atol=5e-4)
    assert (height_m[50:55, 50:55] == 0).all()
    assert np.abs(height_m[:20]).max() < 1e-3
    assert plane.distance_m == pytest.approx(0.31, abs=0.02)


def test_the_plane_is_the_one_that_was_always_fitted() -> None:
    rng = np.random.default_rng(1)
    depth_m = (0.3 + rng.normal(scale=5e-4, size=(72, 96))).astype(np.float32)
    plane, height_m = height_over_background(depth_m, INTRINSICS, "plane", 0.1)
    assert plane == fit_background_plane(depth_m, INTRINSICS, border_share=0.1)
    assert np.array_equal(height_m, height_over_plane(depth_m, plane, INTRINSICS))


def brute_pass(depth_m: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    filled = depth_m.copy()
    for y, x in zip(*np.nonzero(depth_m <= 0), strict=True):
        around = depth_m[max(0, y - 1) : y + 2, max(0, x - 1) : x + 2]
        valid = around[around > 0]
        filled[y, x] = valid.mean() if valid.size else 0.0
    return filled


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.0, 1.0), st.integers(0, 4))
def test_a_pass_is_the_mean_of_the_valid_neighbours(seed: int, missing: float, passes: int) -> None:
    rng = np.random.default_rng(seed)
    depth_m = rng.uniform(0.2, 0.4, size=(9, 13)).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < missing] = 0.0
    expected = depth_m
    for _ in range(passes):
        expected = brute_pass(expected)
    filled = pass_fill(depth_m, passes)
    assert np.array_equal(filled[depth_m > 0], depth_m[depth_m > 0])
    assert np.allclose(filled, expected, atol=1e-6)
    assert ((filled > 0) == (expected > 0)).all()


def test_three_passes_reach_three_pixels() -> None:
    depth_m = np.zeros((15, 15), np.float32)
    depth_m[7, 7] = 0.3
    reached = pass_fill(depth_m, 3) > 0
    assert reached.sum() == 7 * 7
