from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.heatmap import (
    colour_range,
    heatmap_image,
    heatmap_jpeg,
    lay_over,
    map_float16,
    overlay_image,
    overlay_jpeg,
)
from edge.inspection import Durations, Inspection, Outcome, Region
from edge.testing.frames import flat_frame

RNG = np.random.default_rng(0)
FRAME = replace(flat_frame(width_px=70, height_px=50), rgb=RNG.integers(0, 255, (50, 70, 3), dtype=np.uint8))


def inspection(anomaly_map: npt.NDArray[np.float32] | None, threshold: float | None = 0.5) -> Inspection:
    return Inspection(
        frame=FRAME,
        outcome=Outcome.NO_DECISION,
        durations=Durations(0, 0, 0),
        threshold=threshold,
        anomaly_map=anomaly_map,
    )


def a_map(peak: float) -> npt.NDArray[np.float32]:
    cells = RNG.random((5, 7), dtype=np.float32) * 0.1
    cells[2, 3] = peak
    return np.asarray(cv2.resize(cells, (70, 50), interpolation=cv2.INTER_NEAREST))


def decoded(jpeg: bytes) -> npt.NDArray[np.uint8]:
    assert jpeg.startswith(b"\xff\xd8")
    bgr = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert bgr is not None
    return np.asarray(bgr[..., ::-1], dtype=np.uint8)


@pytest.mark.parametrize("size", [(70, 50), (640, 480), (33, 17)])
def test_pictures_decode_to_the_frame_s_size(size: tuple[int, int]) -> None:
    width, height = size
    frame = flat_frame(width_px=width, height_px=height)
    for anomaly_map in (np.zeros((height, width), np.float32), None):
        shown = replace(inspection(anomaly_map), frame=frame)
        assert decoded(heatmap_jpeg(shown)).shape == (height, width, 3)
        assert decoded(overlay_jpeg(shown)).shape == (height, width, 3)


def test_a_jpeg_shows_the_colours_it_was_made_of_red_as_red() -> None:
    hot = inspection(np.full((50, 70), 5.0, np.float32))
    red, green, blue = decoded(heatmap_jpeg(hot)).reshape(-1, 3).mean(axis=0)
    assert red > 100 > max(green, blue)  # turbo's upper end is dark red
    cold = inspection(np.zeros((50, 70), np.float32))
    assert np.abs(decoded(heatmap_jpeg(cold)).astype(int) - heatmap_image(np.zeros((50, 70)), 0, 1)).max() < 8


def test_a_better_quality_is_closer_and_larger() -> None:
    shown = inspection(a_map(1.0))
    exact = heatmap_image(a_map(1.0), *colour_range(shown)).astype(float)
    low, high = heatmap_jpeg(shown, quality=20), heatmap_jpeg(shown, quality=95)
    assert len(high) > len(low)
    assert np.abs(decoded(high) - exact).mean() < np.abs(decoded(low) - exact).mean()


@given(st.floats(1e-6, 1e6), st.floats(0, 1e6, width=32))
def test_the_colours_mean_the_same_whatever_the_map_s_maximum(threshold: float, peak: float) -> None:
    assert colour_range(inspection(a_map(peak), threshold)) == (0.0, 2.0 * threshold)


@given(st.floats(-1e6, 0), st.floats(0, 1e6, width=32))
def test_nor_does_a_threshold_of_zero_or_less_let_the_maximum_in(threshold: float, peak: float) -> None:
    low, high = colour_range(inspection(a_map(peak), threshold))
    assert (low, high) == colour_range(inspection(a_map(0.0), threshold))
    assert low <= threshold < high


def test_a_value_has_one_colour_in_every_picture_of_a_product() -> None:
    at = (25, 35)
    value = np.float32(0.2)
    for peak in (0.3, 30.0):
        anomaly_map = a_map(peak)
        anomaly_map[at] = value
        shown = inspection(anomaly_map)
        expected = heatmap_image(np.full((1, 1), value), 0.0, 1.0)[0, 0]
        assert (heatmap_image(anomaly_map, *colour_range(shown))[at] == expected).all()


def test_without_a_threshold_the_scale_ends_at_the_maximum() -> None:
    anomaly_map = a_map(7.0)
    assert colour_range(inspection(anomaly_map, None)) == (0.0, 7.0)
    assert colour_range(inspection(np.zeros((50, 70), np.float32), None)) == (0.0, 1.0)
    assert colour_range(inspection(None, None)) == (0.0, 1.0)


def test_colours_rise_with_the_value_and_stop_at_the_ends() -> None:
    values = np.linspace(-1, 3, 401, dtype=np.float32)[None]
    picture = heatmap_image(values, 0.0, 2.0)[0]
    assert (picture[values[0] <= 0] == picture[0]).all()
    assert (picture[values[0] >= 2] == picture[-1]).all()
    turbo = cv2.applyColorMap(np.arange(256, dtype=np.uint8), cv2.COLORMAP_TURBO)[:, 0, ::-1]
    levels = [int(np.flatnonzero((turbo == colour).all(axis=1))[0]) for colour in picture]
    assert levels == sorted(levels)
    assert (levels[0], levels[-1]) == (0, 255)


def test_no_opacity_and_no_anomaly_leave_the_frame_as_it_is() -> None:
    assert (lay_over(FRAME.rgb, a_map(9.0), 0.0, 1.0, opacity=0.0) == FRAME.rgb).all()
    assert (lay_over(FRAME.rgb, np.zeros((50, 70), np.float32), 0.0, 1.0) == FRAME.rgb).all()
    assert (overlay_image(inspection(a_map(9.0)), opacity=0.0) == FRAME.rgb).all()
    full = lay_over(FRAME.rgb, np.full((50, 70), 2.0, np.float32), 0.0, 1.0, opacity=1.0)
    assert (full == heatmap_image(np.full((50, 70), 2.0, np.float32), 0.0, 1.0)).all()


def test_without_a_map_the_overlay_is_the_frame_and_the_heatmap_black() -> None:
    shown = inspection(None, None)
    assert (overlay_image(shown) == FRAME.rgb).all()
    assert (decoded(heatmap_jpeg(shown)) == 0).all()
    assert map_float16(shown) == b""


def test_what_is_drawn_stays_out_of_the_frame_s_own_array() -> None:
    before = FRAME.rgb.copy()
    region = Region(bbox_px=(20, 10, 8, 6), centroid_px=(24, 13), area_px=40, area_mm2=10.0, peak=1.0)
    shown = replace(inspection(None), window_px=(5, 5, 40, 40), regions=(region,))
    picture = overlay_image(shown)
    assert (FRAME.rgb == before).all()
    assert picture[5, 5].tolist() == [160, 160, 160]
    assert picture[44, 44].tolist() == [160, 160, 160]
    assert picture[8, 18].tolist() == [255, 40, 40]  # red, and two pixels outside the region
    assert (picture[10:16, 20:28] == FRAME.rgb[10:16, 20:28]).all()


def test_a_window_and_a_region_past_the_frame_s_edge_can_be_drawn() -> None:
    region = Region(bbox_px=(-9, 45, 30, 30), centroid_px=(1, 50), area_px=9, area_mm2=1.0, peak=1.0)
    shown = replace(inspection(a_map(1.0)), window_px=(-20, -20, 200, 200), regions=(region,))
    assert overlay_image(shown).shape == (50, 70, 3)


@given(st.floats(0, 60_000, width=32))
def test_the_map_comes_back_from_its_bytes_to_half_precision(peak: float) -> None:
    anomaly_map = a_map(peak)
    back = np.frombuffer(map_float16(inspection(anomaly_map)), "<f2").reshape(50, 70)
    np.testing.assert_allclose(back, anomaly_map, rtol=2**-10, atol=1e-7)


def test_a_value_too_large_for_half_precision_becomes_its_largest() -> None:
    back = np.frombuffer(map_float16(inspection(np.full((50, 70), 1e9, np.float32))), "<f2")
    assert (back == 65504).all()


def test_a_map_and_a_frame_of_different_sizes_are_not_mixed() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        lay_over(FRAME.rgb, np.ones((10, 10), np.float32), 0.0, 1.0)
