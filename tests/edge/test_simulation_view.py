"""The simulated camera sees points where a pinhole camera would."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.simulation.relief import float_image
from edge.simulation.view import Pose, View, d405_intrinsics

CELL_M = 0.5e-3
LEVEL = Pose(x_m=0.0, y_m=0.0, angle_rad=0.0, scale=1.0)


def view(tilt_x_rad: float = 0.02, tilt_y_rad: float = -0.03) -> View:
    return View(d405_intrinsics(640, 480), 0.24, tilt_x_rad, tilt_y_rad)


def all_rays(camera: View) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    i = camera.intrinsics
    u, v = float_image(np.arange(i.width_px))[None, :], float_image(np.arange(i.height_px))[:, None]
    return camera.rays(u, v)


def test_a_level_camera_sees_the_tray_at_one_depth() -> None:
    assert view(0, 0).tray_depth_m() == pytest.approx(0.24)


def test_a_tilted_camera_sees_the_tray_as_a_plane() -> None:
    camera = view()
    depth = camera.tray_depth_m().astype(np.float64)
    i = camera.intrinsics
    v, u = np.mgrid[0 : i.height_px, 0 : i.width_px]
    x, y = (u - i.cx_px) / i.fx_px * depth, (v - i.cy_px) / i.fy_px * depth
    design = np.column_stack([x.ravel(), y.ravel(), np.ones(x.size)])
    solution, *_ = np.linalg.lstsq(design, depth.ravel(), rcond=None)
    assert np.abs(design @ solution - depth.ravel()).max() < 1e-6
    assert np.hypot(solution[0], solution[1]) == pytest.approx(np.tan(np.hypot(0.02, 0.03)), rel=1e-2)
    assert solution[2] == pytest.approx(0.24, rel=1e-6)


@settings(max_examples=50)
@given(
    x=st.floats(-0.1, 0.1),
    y=st.floats(-0.08, 0.08),
    height=st.floats(0, 0.03),
    tilt=st.floats(-0.05, 0.05),
)
def test_a_projected_point_lies_on_the_ray_of_its_pixel(
    x: float, y: float, height: float, tilt: float
) -> None:
    camera = view(tilt, -tilt / 2)
    u, v = camera.project(np.array([[x, y, -height]]))[0]
    ray = [float(d[0, 0]) for d in camera.rays(float_image([[u]]), float_image([[v]]))]
    depth = float(camera.depth_at(float_image([[ray[2]]]), float_image([[height]]))[0, 0])
    assert camera.eye_m() + depth * np.array(ray) == pytest.approx([x, y, -height], abs=1e-6)


def test_rays_end_on_a_box_with_upright_walls_that_hide_what_is_behind() -> None:
    camera = view(0, 0)
    height = np.zeros((400, 400), dtype=np.float32)
    height[150:250, 300:360] = 12e-3  # x from 50 mm to 80 mm: right of the middle, seen from the left
    hits = camera.cast(all_rays(camera), LEVEL, height, CELL_M, top_m=12e-3)
    assert hits.height_m.min() >= 0
    assert hits.height_m.max() == pytest.approx(12e-3)
    # Along the middle row: the foot and the top of the near wall, then the far edge of the top.
    ground = camera.project(np.array([[50e-3, 0, 0]]))[0, 0]
    top_near = camera.project(np.array([[50e-3, 0, -12e-3]]))[0, 0]
    top_far = camera.project(np.array([[80e-3, 0, -12e-3]]))[0, 0]
    row = hits.height_m[round(camera.intrinsics.cy_px)]
    assert (row[: int(ground) - 1] == 0).all()
    assert row[int(top_near) + 2 : int(top_far) - 1] == pytest.approx(12e-3)
    assert (row[int(top_far) + 2 :] < 1e-4).all()  # behind it the tray, displaced
    wall = row[int(ground) + 1 : int(top_near)]
    assert len(wall) >= 3
    assert (np.diff(wall) > 0).all()


def test_a_pose_moves_and_turns_the_part() -> None:
    camera = view()
    height = np.zeros((256, 256), dtype=np.float32)
    height[126:130, 180:184] = 3e-3  # a pin 27 mm along the part's own x
    pose = Pose(x_m=0.02, y_m=-0.01, angle_rad=np.pi / 2, scale=1.0)
    hits = camera.cast(all_rays(camera), pose, height, CELL_M, top_m=3e-3)
    rows, columns = np.nonzero(hits.height_m > 2e-3)
    expected = camera.project(np.array([[0.02, -0.01 + 27e-3, -3e-3]]))[0]
    assert columns.mean() == pytest.approx(expected[0], abs=1.0)
    assert rows.mean() == pytest.approx(expected[1], abs=1.0)


def test_the_window_holds_the_part_and_stays_in_the_frame() -> None:
    camera = view()
    window = camera.window((0.02, 0.01), 0.04, 0.015)
    for angle in np.linspace(0, 2 * np.pi, 50):
        point = np.array([[0.02 + 0.04 * np.cos(angle), 0.01 + 0.04 * np.sin(angle), -0.015]])
        u, v = camera.project(point)[0]
        assert window.x0 <= u < window.x1
        assert window.y0 <= v < window.y1
    far = camera.window((0.3, 0.3), 0.04, 0.015)
    assert far.x1 <= 640
    assert far.y1 <= 480
