from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.framing import FramingConfig, Upright, View, box_of, view_of


def smooth_picture(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(3)
    return cv2.GaussianBlur(rng.random((height, width)).astype(np.float32), (0, 0), 6)


def wedge(angle_deg: float, centre: tuple[float, float] = (160, 120)) -> np.ndarray:
    """A wedge that reaches further to one side, turned by an angle; (240, 320) bool."""
    shape = np.array([[-50, -30], [70, -8], [70, 8], [-50, 30]], float)
    radians = np.radians(angle_deg)
    turn = np.array([[np.cos(radians), -np.sin(radians)], [np.sin(radians), np.cos(radians)]])
    canvas = np.zeros((240, 320), np.uint8)
    cv2.fillConvexPoly(canvas, np.rint(shape @ turn.T + centre).astype(np.int32), 1)
    return canvas.astype(bool)


@settings(max_examples=30, deadline=None)
@given(st.floats(60, 260), st.floats(60, 180), st.floats(40, 110), st.floats(-180, 180))
def test_what_a_view_takes_it_gives_back_to_the_same_place(
    x: float, y: float, size: float, angle: float
) -> None:
    picture = smooth_picture(240, 320)
    view = View((x, y), (size, size), angle)
    back = view.give_back(view.take(picture, 192), 320, 240)
    radius = size / 2 - 3
    rows, columns = np.mgrid[:240, :320]
    inside = (columns - x) ** 2 + (rows - y) ** 2 < radius**2
    assert np.abs(back - picture)[inside].max() < 0.02
    outside = (columns - x) ** 2 + (rows - y) ** 2 > (size * 0.75 + 2) ** 2
    assert (back[outside] == 0).all()


def test_the_whole_frame_in_its_own_size_is_the_frame() -> None:
    picture = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    view = view_of(FramingConfig(mode="whole"), 64, 64, np.zeros((64, 64), bool))
    assert (view.take(picture, 64) == picture).all()
    square = np.random.default_rng(0).random((64, 64)).astype(np.float32)
    assert np.allclose(view.give_back(square, 64, 64), square, atol=1e-6)


def test_stretch_and_letterbox_show_all_of_the_frame() -> None:
    nothing = np.zeros((480, 640), bool)
    stretched = view_of(FramingConfig(mode="whole"), 640, 480, nothing)
    boxed = view_of(FramingConfig(mode="whole", fit="letterbox"), 640, 480, nothing)
    assert stretched.corners_px().tolist() == [[-0.5, -0.5], [639.5, -0.5], [639.5, 479.5], [-0.5, 479.5]]
    assert boxed.size_px == (640.0, 640.0)
    assert boxed.corners_px()[0].tolist() == [-0.5, -80.5]


def test_a_region_covers_exactly_its_pixels() -> None:
    picture = np.zeros((48, 64), np.float32)
    picture[10:26, 20:52] = 1.0
    view = view_of(FramingConfig(mode="roi", roi_px=(20, 10, 32, 16)), 64, 48, np.zeros((48, 64), bool))
    assert (view.take(picture, 32, nearest=True) == 1.0).all()
    assert ((view.give_back(np.ones((8, 8), np.float32), 64, 48) > 0) == (picture > 0)).all()


@settings(max_examples=40, deadline=None)
@given(st.floats(-180, 180))
def test_an_upright_view_shows_a_part_alike_however_it_lies(angle: float) -> None:
    config = FramingConfig(mode="part", window_px=150, upright="axis")
    shown = []
    for turned in (0.0, angle):
        part = wedge(turned)
        shown.append(
            view_of(config, 320, 240, part).take(part.astype(np.uint8), 150, nearest=True).astype(bool)
        )
    union = (shown[0] | shown[1]).sum()
    assert (shown[0] & shown[1]).sum() / union > 0.93


def test_the_box_of_a_turned_part_is_as_large_as_that_of_the_part() -> None:
    for angle in (0, 37, 90, 200):
        box = box_of(wedge(angle), upright="axis")
        assert box.size_px[0] == pytest.approx(121, abs=3)
        assert box.size_px[1] == pytest.approx(61, abs=3)
        assert np.cos(np.radians(box.angle_deg - angle)) > 0.99
    assert box_of(wedge(90), upright="off").size_px == pytest.approx((61, 121), abs=2)


def test_a_view_past_the_edge_of_the_frame_is_whole() -> None:
    picture = np.full((100, 100, 3), 7, np.uint8)
    view = View((2.0, 2.0), (60.0, 60.0))
    assert (view.take(picture, 32) == 7).all()
    back = view.give_back(np.ones((8, 8), np.float32), 100, 100)
    assert back.shape == (100, 100)
    assert back[0, 0] == 1.0
    assert back[99, 99] == 0.0


@pytest.mark.parametrize(
    ("given", "word"),
    [({"mode": "part"}, "window_px"), ({"mode": "roi"}, "roi_px"), ({"mode": "part", "window_px": 4}, "16")],
)
def test_an_incomplete_framing_says_what_it_needs(given: dict[str, object], word: str) -> None:
    with pytest.raises(ValidationError, match=word):
        FramingConfig.model_validate(given)


def test_pixels_have_a_width_in_metres() -> None:
    assert View((0, 0), (200.0, 200.0)).pixel_m(100, 0.25, 500.0) == pytest.approx(0.001)


def test_a_speck_elsewhere_does_not_pull_the_view_away() -> None:
    part = wedge(20)
    clean = box_of(part, upright="axis")
    part[225:231, 300:306] = True
    assert box_of(part, upright="axis") == clean


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 5), st.floats(-180, 180))
def test_missing_depth_hardly_turns_the_view(seed: int, angle: float) -> None:
    part = wedge(angle)
    clean = box_of(part, upright="axis")
    rng = np.random.default_rng(seed)
    for _ in range(6):  # holes inside; the outline stays
        x, y = rng.integers(-35, 25), rng.integers(-6, 7)
        radians = np.radians(angle)
        at = (
            160 + x * np.cos(radians) - y * np.sin(radians),
            120 + x * np.sin(radians) + y * np.cos(radians),
        )
        cv2.circle(canvas := part.astype(np.uint8), (round(at[0]), round(at[1])), 7, 0, cv2.FILLED)
        part = canvas.astype(bool)
    assert box_of(part, upright="axis") == clean


def outline(
    corners: int, angle_deg: float, radius: float = 60.0
) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    """A regular polygon about (160, 120), its first corner at that angle; a disc for 0 corners."""
    canvas = np.zeros((240, 320), np.uint8)
    if corners == 0:
        cv2.circle(canvas, (160, 120), round(radius), 1, cv2.FILLED)
    else:
        turns = np.radians(angle_deg) + 2 * np.pi * np.arange(corners) / corners
        points = np.stack([160 + radius * np.cos(turns), 120 + radius * np.sin(turns)], axis=1)
        cv2.fillPoly(canvas, [np.rint(points).astype(np.int32)], 1)
    return canvas.astype(bool)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([("triangle", 3), ("square", 4), ("hexagon", 6)]), st.floats(-180, 180))
def test_a_regular_part_is_turned_by_its_own_outline(kind: tuple[Upright, int], angle: float) -> None:
    way, corners = kind
    config = FramingConfig(mode="part", window_px=150, upright=way)
    shown = []
    for turned in (0.0, angle):
        part = outline(corners, turned)
        view = view_of(config, 320, 240, part)
        shown.append(view.take(part.astype(np.uint8), 150, nearest=True).astype(bool))
    assert (shown[0] & shown[1]).sum() / (shown[0] | shown[1]).sum() > 0.94


def test_a_square_stands_on_its_side() -> None:
    for angle in (0.0, 20.0, 45.0, 77.0):
        size = box_of(outline(4, angle), upright="square").size_px
        assert size == pytest.approx((60 * np.sqrt(2) + 1,) * 2, abs=3)


@settings(max_examples=40, deadline=None)
@given(st.floats(-180, 180))
def test_a_part_that_reaches_further_on_one_side_is_turned_by_it(angle: float) -> None:
    part = outline(0, 0, radius=30) | wedge(angle)
    box = box_of(part, upright="reach")
    assert np.cos(np.radians(box.angle_deg - box_of(wedge(angle), upright="axis").angle_deg)) > 0.95
