"""What is measured of the scene: the tilt and which way to turn, distance, fill, light, colour."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from datetime import datetime, timezone

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.depth import BackgroundPlane, fit_background_plane
from edge.frame import Frame, Intrinsics
from edge.scene.figures import LightFigures, PlaneFigures, SceneFigures, median_of
from edge.scene.look import COLUMNS, ROWS, Look, look_at
from edge.scene.tilt import tilt_of, turning
from edge.simulation import Appearance, RigScene, Shot

VIEW = Intrinsics(320, 240, 216.0, 216.0, 161.0, 118.5)


def tilted(tilt_x_deg: float, tilt_y_deg: float, distance_m: float) -> BackgroundPlane:
    """The plane that is seen with these tilts."""
    slope = np.array([-math.tan(math.radians(tilt_y_deg)), math.tan(math.radians(tilt_x_deg)), 1.0])
    a, b, g = slope / np.linalg.norm(slope) / distance_m
    return BackgroundPlane((float(a), float(b), float(g)), 0.0, 1.0)


def depth_of(plane: BackgroundPlane, view: Intrinsics = VIEW) -> np.ndarray:
    return plane.depth_at(
        np.arange(view.width_px)[None, :], np.arange(view.height_px)[:, None], view
    )  # (H, W)


def frame_of(
    depth_m: np.ndarray, rgb: np.ndarray | None = None, view: Intrinsics = VIEW, source: str = "D405"
) -> Frame:
    grey = np.full((view.height_px, view.width_px, 3), 100, np.uint8)
    return Frame(
        rgb=grey if rgb is None else rgb,
        depth_m=depth_m,
        depth_unit_m=1e-4,
        intrinsics=view,
        captured_ns=0,
        captured_utc=datetime(2030, 1, 1, tzinfo=timezone.utc),
        seq=0,
        source=source,
    )


def seen(frame: Frame, part: np.ndarray | None = None) -> Look:
    look = look_at(frame, fit_background_plane(frame.depth_m, frame.intrinsics), part)
    if look is None:
        raise AssertionError("nothing of the tray was seen")
    return look


def place(look: Look) -> PlaneFigures:
    if look.figures.plane is None:
        raise AssertionError("no plane was seen")
    return look.figures.plane


def of_shot(shot: Shot, scene: RigScene) -> Frame:
    return frame_of(shot.depth_m, shot.rgb, scene.intrinsics)


@settings(deadline=None, max_examples=60)
@given(
    st.floats(-40, 40),
    st.floats(-40, 40),
    st.floats(0.07, 0.5),
)
def test_the_tilt_and_the_distance_of_any_plane_are_what_they_are(
    tilt_x_deg: float, tilt_y_deg: float, distance_m: float
) -> None:
    plane = tilted(tilt_x_deg, tilt_y_deg, distance_m)
    assert tilt_of(plane) == pytest.approx((tilt_x_deg, tilt_y_deg), abs=1e-9)
    fitted = fit_background_plane(depth_of(plane), VIEW)
    assert tilt_of(fitted) == pytest.approx((tilt_x_deg, tilt_y_deg), abs=2e-3)
    assert fitted.distance_m == pytest.approx(distance_m, rel=1e-4)
    whole = math.hypot(*(math.tan(math.radians(tilt)) for tilt in tilt_of(plane)))
    assert math.degrees(math.atan(whole)) == pytest.approx(plane.tilt_deg, abs=1e-6)


@settings(deadline=None, max_examples=60)
@given(st.floats(-20, 20), st.floats(-20, 20))
def test_a_camera_turned_as_it_is_told_looks_straight_down(tilt_x_deg: float, tilt_y_deg: float) -> None:
    """Each part of the sentence names the side that is further away: it is the one to bring nearer."""
    said = turning(tilt_x_deg, tilt_y_deg) or ""
    depth_m = depth_of(tilted(tilt_x_deg, tilt_y_deg, 0.3))
    middle_row, middle_column = round(VIEW.cy_px), round(VIEW.cx_px)
    ends = {
        "top": (depth_m[0, middle_column], depth_m[-1, middle_column]),
        "bottom": (depth_m[-1, middle_column], depth_m[0, middle_column]),
        "right": (depth_m[middle_row, -1], depth_m[middle_row, 0]),
        "left": (depth_m[middle_row, 0], depth_m[middle_row, -1]),
    }
    named = re.findall(r"by (\d+\.\d)° so that its (\w+) side comes nearer", said)
    assert len(named) == (abs(tilt_x_deg) >= 0.3) + (abs(tilt_y_deg) >= 0.3)
    for degrees, side in named:
        own, opposite = ends[side]
        assert own > opposite
        about = tilt_x_deg if side in ("top", "bottom") else tilt_y_deg
        assert float(degrees) == pytest.approx(abs(about), abs=0.051)


@pytest.mark.parametrize("lean", [(0.0, 0.0), (3.0, 0.0), (0.0, 3.0), (-2.0, 1.5), (5.0, -4.0)])
def test_a_simulated_camera_that_leans_is_measured_through_its_noise(lean: tuple[float, float]) -> None:
    scene = RigScene("plate", 7, appearance=Appearance(lean_deg=lean))
    figures = median_of([seen(of_shot(scene.tray(i), scene)).figures for i in range(3)])
    assert figures.plane is not None
    # Rotations about two axes do not commute: at 5° and 4° the two orders differ by 0.015°.
    assert (figures.plane.tilt_x_deg, figures.plane.tilt_y_deg) == pytest.approx(lean, abs=0.15)


def test_the_camera_turned_to_the_right_sees_its_right_side_further_away() -> None:
    scene = RigScene("plate", 7, appearance=Appearance(lean_deg=(0.0, 4.0)), depth_noise=None)
    depth_m = scene.tray(0).depth_m
    assert depth_m[240, 620] > depth_m[240, 20]
    assert turning(0.0, 4.0) == (
        "turn the camera by 4.0° so that its right side comes nearer to the tray (sides as in the picture)"
    )


@pytest.mark.parametrize("distance_m", [0.18, 0.24, 0.3])
def test_the_distance_is_the_simulations(distance_m: float) -> None:
    looks = [
        seen(of_shot(scene.tray(0), scene))
        for scene in (
            RigScene("plate", 7, appearance=Appearance(lean_deg=(0.0, 0.0), distance_m=d, reach_m=(0.0, 0.0)))
            for d in (distance_m, 0.2)
        )
    ]
    # The rig's own 3 % belong to the seed: the ratio is known.
    ratio = place(looks[0]).distance_mm / place(looks[1]).distance_mm
    assert ratio == pytest.approx(distance_m / 0.2, rel=2e-3)


def test_light_and_colour_are_those_of_the_lamps() -> None:
    def light_of(light: tuple[float, float, float]) -> LightFigures:
        scene = RigScene("plate", 7, appearance=Appearance(light=light))
        return seen(of_shot(scene.tray(0), scene)).figures.light

    even, dim, red = light_of((1, 1, 1)), light_of((0.5, 0.5, 0.5)), light_of((1.2, 1, 1))
    assert dim.luma == pytest.approx(even.luma * math.sqrt(0.5), rel=0.03)  # the simulation's tone curve
    assert dim.red_to_green == pytest.approx(even.red_to_green, rel=0.02)
    assert dim.blue_to_green == pytest.approx(even.blue_to_green, rel=0.02)
    assert red.red_to_green > 1.1 * even.red_to_green
    assert red.blue_to_green == pytest.approx(even.blue_to_green, rel=0.01)


def test_what_is_overexposed_is_counted_where_one_channel_is_at_its_end() -> None:
    rgb = np.full((240, 320, 3), 100, np.uint8)
    rgb[:60, :, 2] = 255
    assert seen(frame_of(depth_of(tilted(0, 0, 0.3)), rgb)).figures.light.clipped_share == 0.25


def test_the_part_has_no_say() -> None:
    scene = RigScene("plate", 7, defective_share=0.0)
    empty, shot = seen(of_shot(scene.tray(3), scene)), scene.shot(3)
    assert shot is not None
    look = seen(of_shot(shot, scene), scene.part_mask(3))
    hidden = np.isnan(look.fill)
    assert 0 < int(hidden.sum()) < hidden.size / 2
    np.testing.assert_array_equal(np.isnan(look.light).all(axis=2), hidden)
    np.testing.assert_allclose(look.light[~hidden], empty.light[~hidden], rtol=0.1)
    assert look.figures.fill_share == pytest.approx(empty.figures.fill_share, abs=0.02)
    assert place(look).noise_mm == pytest.approx(place(empty).noise_mm, rel=0.15)


def test_missing_depth_and_noise_are_measured() -> None:
    plane = tilted(1.0, -2.0, 0.3)
    depth_m = depth_of(plane)
    depth_m[100:140] = 0
    noisy = depth_of(plane) + np.random.default_rng(0).normal(0, 1e-3, depth_m.shape).astype(np.float32)
    assert seen(frame_of(depth_m)).figures.fill_share == pytest.approx(1 - 40 / 240)
    assert place(seen(frame_of(noisy))).noise_mm == pytest.approx(1.0, rel=0.03)
    assert place(seen(frame_of(depth_of(plane)))).noise_mm < 0.01


def test_larger_frames_are_thinned_out_without_moving_what_they_show() -> None:
    large = Intrinsics(1280, 960, 864.0, 864.0, 645.0, 474.0)
    plane = tilted(3.0, -2.0, 0.3)
    look = look_at(
        frame_of(depth_of(plane, large), np.full((960, 1280, 3), 100, np.uint8), large), plane, None
    )
    assert look is not None
    assert place(look).noise_mm < 0.01
    assert look.light.shape == (ROWS, COLUMNS, 3)


def test_a_part_that_hides_the_tray_leaves_nothing_to_say() -> None:
    frame = frame_of(depth_of(tilted(0, 0, 0.3)))
    assert look_at(frame, None, np.ones((240, 320), bool)) is None


def test_without_a_plane_there_is_still_light_and_fill() -> None:
    look = look_at(frame_of(np.zeros((240, 320), np.float32)), None, None)
    assert look is not None
    assert look.figures.plane is None
    assert look.figures.fill_share == 0.0
    assert look.figures.light.luma == 100


def test_medians_leave_out_what_most_readings_lack() -> None:
    full = seen(frame_of(depth_of(tilted(1.0, 0.0, 0.3)))).figures
    blind = replace_plane(full)
    assert median_of([full, full, blind]).plane == full.plane
    assert median_of([full, blind]).plane is None
    assert median_of([full, blind, blind]).plane is None


def replace_plane(figures: SceneFigures) -> SceneFigures:
    return figures.model_copy(update={"plane": None})


def test_an_odd_frame_does_not_move_the_median() -> None:
    frame = frame_of(depth_of(tilted(0.0, 0.0, 0.3)))
    odd = replace(frame, rgb=np.full((240, 320, 3), 250, np.uint8))
    assert median_of([seen(f).figures for f in (frame, frame, odd)]).light.luma == 100
