from __future__ import annotations

import math

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.depth import (
    BackgroundPlane,
    fill_holes,
    fit_background_plane,
    foreground_mask,
    height_over_plane,
    normalise_z,
    normals_image,
    pieces_touching,
    pixel_shuffle,
    pixel_unshuffle,
)
from edge.errors import DepthUnusable
from edge.frame import Intrinsics

OPTICS = Intrinsics(160, 120, 140.0, 138.0, 81.3, 58.2)


def plane_depth(tilt_x: float, tilt_y: float, distance_m: float) -> npt.NDArray[np.float32]:
    """Depth of a plane through (0, 0, distance) whose normal is tilted by two angles; by ray casting."""
    normal = np.array([math.sin(tilt_x), math.sin(tilt_y), -1.0])
    normal /= np.linalg.norm(normal)
    rows, columns = np.mgrid[: OPTICS.height_px, : OPTICS.width_px].astype(float)
    rays = np.stack(
        [(columns - OPTICS.cx_px) / OPTICS.fx_px, (rows - OPTICS.cy_px) / OPTICS.fy_px, np.ones_like(rows)],
        axis=-1,
    )
    return (normal @ [0.0, 0.0, distance_m] / (rays @ normal)).astype(np.float32)


@settings(max_examples=40, deadline=None)
@given(st.floats(-0.4, 0.4), st.floats(-0.4, 0.4), st.floats(0.1, 1.0))
def test_an_exact_plane_is_found_and_has_no_height(tilt_x: float, tilt_y: float, distance_m: float) -> None:
    depth_m = plane_depth(tilt_x, tilt_y, distance_m)
    plane = fit_background_plane(depth_m, OPTICS)
    heights = height_over_plane(depth_m, plane, OPTICS)
    assert np.abs(heights).max() < 2e-6
    assert plane.distance_m == pytest.approx(
        distance_m / math.sqrt(1 + math.sin(tilt_x) ** 2 + math.sin(tilt_y) ** 2), rel=1e-4
    )
    columns, rows = np.arange(OPTICS.width_px)[None, :], np.arange(OPTICS.height_px)[:, None]
    assert np.allclose(plane.depth_at(columns, rows, OPTICS), depth_m, rtol=1e-5)


def test_tilt_is_that_of_the_normal() -> None:
    plane = fit_background_plane(plane_depth(math.radians(10), 0.0, 0.3), OPTICS)
    assert plane.tilt_deg == pytest.approx(math.degrees(math.atan(math.sin(math.radians(10)))), abs=1e-3)
    assert plane.normal[2] < 0


def test_height_is_the_distance_across_the_plane_not_along_the_ray() -> None:
    ground = plane_depth(0.3, -0.2, 0.4)
    plane = fit_background_plane(ground, OPTICS)
    # Lift each point by 20 mm along the plane's normal; its own ray meets it elsewhere, so project it anew.
    y, x = 50, 100
    point = ground[y, x] * np.array(
        [(x - OPTICS.cx_px) / OPTICS.fx_px, (y - OPTICS.cy_px) / OPTICS.fy_px, 1.0]
    )
    lifted = point + 0.02 * np.array(plane.normal)
    u, v = (
        OPTICS.fx_px * lifted[0] / lifted[2] + OPTICS.cx_px,
        OPTICS.fy_px * lifted[1] / lifted[2] + OPTICS.cy_px,
    )
    optics = Intrinsics(
        160, 120, OPTICS.fx_px, OPTICS.fy_px, OPTICS.cx_px - (u - round(u)), OPTICS.cy_px - (v - round(v))
    )
    depth_m = np.zeros((120, 160), np.float32)
    depth_m[round(v), round(u)] = lifted[2]
    assert height_over_plane(depth_m, plane, optics)[round(v), round(u)] == pytest.approx(0.02, abs=1e-5)


def test_a_part_that_covers_a_third_of_the_border_does_not_move_the_plane() -> None:
    ground = plane_depth(0.1, 0.05, 0.3)
    depth_m = ground.copy()
    depth_m[:, :50] -= 0.04  # the whole left side of the ring
    rng = np.random.default_rng(0)
    depth_m += rng.normal(0, 0.0005, depth_m.shape).astype(np.float32)
    depth_m[rng.random(depth_m.shape) < 0.3] = 0.0
    found = fit_background_plane(depth_m, OPTICS)
    clean = fit_background_plane(ground, OPTICS)
    assert found.distance_m == pytest.approx(clean.distance_m, abs=3e-4)
    assert found.tilt_deg == pytest.approx(clean.tilt_deg, abs=0.3)
    assert 0.4 < found.inlier_share < 0.85
    assert found.rms_m == pytest.approx(0.0005, rel=0.25)


@pytest.mark.parametrize("kind", ["all invalid", "one line"])
def test_a_border_without_a_plane_is_an_error(kind: str) -> None:
    depth_m = np.zeros((120, 160), np.float32)
    if kind == "one line":
        depth_m[0] = 0.3
        with pytest.raises(DepthUnusable, match=r"needed|line"):
            fit_background_plane(depth_m, OPTICS, min_points=10)
    else:
        with pytest.raises(DepthUnusable, match="only 0 pixels"):
            fit_background_plane(depth_m, OPTICS)


def test_mask_keeps_the_part_fills_its_holes_and_drops_specks() -> None:
    height_m = np.zeros((100, 120), np.float32)
    height_m[20:60, 30:80] = 0.01
    height_m[35:45, 50:60] = 0.0  # missing depth inside the part
    height_m[80, 100] = 0.05  # a speck
    height_m[80:90, 10:20] = -0.01  # something below the plane belongs, too
    mask = foreground_mask(height_m, threshold_m=0.005, opening_px=3, min_area_px=30)
    assert bool(mask[35:45, 50:60].all())
    assert not bool(mask[80, 100])
    assert bool(mask[82:88, 12:18].all())
    assert not bool(
        foreground_mask(height_m, threshold_m=0.005, opening_px=3, min_area_px=30, fill=False)[40, 55]
    )


@given(hnp.arrays(np.float32, (13, 17), elements=st.floats(0.125, 1.0, width=32)), hnp.arrays(bool, (13, 17)))
def test_filling_keeps_valid_pixels_and_stays_within_their_range(
    values: npt.NDArray[np.float32], valid: npt.NDArray[np.bool_]
) -> None:
    valid[0, 0] = True
    filled = fill_holes(values, valid)
    assert (filled[valid] == values[valid]).all()
    assert filled.min() >= values[valid].min() * (1 - 1e-5)
    assert filled.max() <= values[valid].max() * (1 + 1e-5)


def test_filling_nothing_is_an_error() -> None:
    with pytest.raises(DepthUnusable, match="no pixel has depth"):
        fill_holes(np.zeros((4, 4), np.float32), np.zeros((4, 4), bool))


@given(
    hnp.arrays(np.float32, (12, 24), elements=st.floats(-1e6, 1e6, width=32)),
    st.sampled_from([1, 2, 3, 4, 6, 12]),
)
def test_shuffle_undoes_unshuffle_bit_for_bit(values: npt.NDArray[np.float32], factor: int) -> None:
    channels = pixel_unshuffle(values, factor)
    assert channels.shape == (factor * factor, 12 // factor, 24 // factor)
    assert pixel_shuffle(channels, factor).tobytes() == values.tobytes()


def test_unshuffle_is_that_of_torch() -> None:
    torch = pytest.importorskip("torch")
    values = np.arange(48 * 24, dtype=np.float32).reshape(48, 24)
    theirs = torch.nn.functional.pixel_unshuffle(torch.from_numpy(values)[None, None], 8)[0].numpy()
    assert (pixel_unshuffle(values, 8) == theirs).all()


def test_unshuffle_of_a_side_that_does_not_divide_is_an_error() -> None:
    with pytest.raises(ValueError, match="13×17"):
        pixel_unshuffle(np.zeros((13, 17), np.float32), 4)
    with pytest.raises(ValueError, match="5 channels"):
        pixel_shuffle(np.zeros((5, 2, 2), np.float32), 2)


@given(st.floats(-0.3, 0.3), st.floats(0.001, 0.1))
def test_z_does_not_depend_on_the_distance_and_never_leaves_the_clamp(
    offset_m: float, scale_m: float
) -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(0.5, 0.02, (16, 16)).astype(np.float32)
    values[3, 3] = -24.7  # an unfilled hole that was multiplied up
    mask = np.ones((16, 16), bool)
    mask[:4] = False
    mask[3, 3] = True
    z = normalise_z(values, mask, scale_m=scale_m, clamp=8.0)
    shifted = normalise_z(values + np.float32(offset_m), mask, scale_m=scale_m, clamp=8.0)
    assert np.abs(z).max() <= 8.0
    assert (z[~mask] == 0).all()
    assert np.allclose(z, shifted, atol=1e-5 / scale_m)
    assert not normalise_z(values, np.zeros_like(mask), scale_m=scale_m, clamp=8.0).any()


def test_normals_of_a_slope_and_of_a_flat() -> None:
    pixel_m, slope = 0.0005, 0.5
    height_m = (np.arange(64, dtype=np.float32) * pixel_m * slope)[None, :].repeat(64, axis=0)
    image = normals_image(height_m, pixel_m=pixel_m, smoothing_px=1.0, relief_m=0.002)
    expected = -slope / math.sqrt(1 + slope**2)
    middle = image[20:44, 20:44].astype(float)
    assert np.allclose((middle[..., 0] - 128) / 127, expected, atol=0.01)
    assert np.allclose(middle[..., 1], 128)
    flat = normals_image(np.full((32, 32), 0.3, np.float32), pixel_m=pixel_m, smoothing_px=0, relief_m=0.002)
    assert (flat == 128).all()


def test_relief_shows_a_bump_of_its_height() -> None:
    height_m = np.zeros((64, 64), np.float32)
    height_m[31:34, 31:34] = 0.001
    image = normals_image(height_m, pixel_m=0.0005, smoothing_px=0.0, relief_m=0.002).astype(float)
    blurred = cv2.GaussianBlur(height_m, (0, 0), 4.0)[32, 32]
    assert (image[32, 32, 2] - 128) / 127 * 0.002 == pytest.approx(0.001 - blurred, abs=2e-5)


def test_plane_of_the_camera_s_own_axis() -> None:
    plane = BackgroundPlane(inverse_m=(0.0, 0.0, 4.0), rms_m=0.0, inlier_share=1.0)
    assert plane.distance_m == pytest.approx(0.25)
    assert plane.tilt_deg == pytest.approx(0.0, abs=1e-6)


def test_only_pieces_with_some_of_the_part_stay() -> None:
    mask = np.zeros((40, 60), bool)
    mask[5:20, 5:20] = mask[20:22, 20:22] = True  # joined at a corner
    mask[30:38, 40:55] = True  # noise of the bed
    seed = np.zeros_like(mask)
    seed[8:10, 8:10] = True
    kept = pieces_touching(mask, seed)
    assert bool(kept[:22, :22][mask[:22, :22]].all())
    assert not kept[30:].any()
    assert not pieces_touching(mask, np.zeros_like(mask)).any()
