"""The scene watched: which drift warns of what, when a warning begins and ends, and what health says."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.clock import Session
from edge.depth import fit_background_plane
from edge.frame import Frame, Intrinsics
from edge.health import HealthReporter, Tally
from edge.inspection import Durations, Inspection, Outcome
from edge.inspector import Inspector, PreparedPart
from edge.scene.config import SceneConfig, SceneLimits
from edge.scene.health import SceneHealth, SceneReason, SceneWarning
from edge.scene.tray import Tray, learn_tray, write_tray
from edge.scene.watch import SceneWatch, watch_from_file
from edge.simulation.noise import DepthNoise
from edge.testing import FakeRunner, RecordingPublisher, ReplayCamera, fake_bundle, flat_frame
from edge.verdict import Provenance
from tests.edge.scene.scenes import AS_LEARNT, NOISE, NOW, Preparing, simulated_frames, simulated_tray

EACH = SceneConfig(interval_s=0, window=3)
LIMITS = SceneLimits()


def flat_tray() -> Tray:
    return learn_tray([flat_frame(i) for i in range(5)], now=NOW)


def prepared(frame: Frame) -> PreparedPart:
    """As an inspector whose bundle looks at the whole frame prepares it."""
    bundle = fake_bundle()
    return Inspector(bundle, FakeRunner(bundle)).prepare(frame)


def lit(level: int, seq: int = 0) -> Frame:
    frame = flat_frame(seq)
    return replace(frame, rgb=np.full_like(frame.rgb, level))


def after(watch: SceneWatch, frames: Iterable[Frame]) -> SceneHealth:
    for frame in frames:
        watch.see(prepared(frame))
    return watch.health()


def reasons(health: SceneHealth) -> set[str]:
    return {warning.reason.value for warning in health.warnings}


def only(health: SceneHealth) -> SceneWarning:
    if len(health.warnings) != 1:
        raise AssertionError(f"warned of {[w.reason.value for w in health.warnings]}")
    return health.warnings[0]


@pytest.fixture(scope="module")
def tray() -> Tray:
    return simulated_tray()


@pytest.fixture(scope="module")
def prepare() -> Preparing:
    return Preparing()


DRIFTS = {
    "turned right": (
        replace(AS_LEARNT, lean_deg=(0.5, 2.0)),
        NOISE,
        "camera_tilted",
        "so that its right side",
    ),
    "turned down": (replace(AS_LEARNT, lean_deg=(-2.0, -0.5)), NOISE, "camera_tilted", "its bottom side"),
    "raised": (replace(AS_LEARNT, distance_m=0.25), NOISE, "camera_moved", "10.0 mm further from"),
    "lowered": (replace(AS_LEARNT, distance_m=0.23), NOISE, "camera_moved", "10.0 mm nearer to"),
    "dimmed": (replace(AS_LEARNT, light=(0.6,) * 3), NOISE, "light_low", "4.% less light"),
    "brighter": (replace(AS_LEARNT, light=(1.4,) * 3), NOISE, "light_high", "4.% more light"),
    "another lamp": (replace(AS_LEARNT, light=(1.15, 1, 1)), NOISE, "colour_shifted", r"\+1.% of red"),
    "out of focus": (
        AS_LEARNT,
        DepthNoise(sigma_disparity_px=0.16),
        "depth_noisy",
        "strays by 1.* set-up by 0",
    ),
    "fouled lens": (replace(AS_LEARNT, tray_contrast=0.02), DepthNoise(holes=3), "fill_low", "3.% more of"),
}


@pytest.mark.parametrize("name", DRIFTS)
def test_a_simulated_rig_that_drifts_warns_of_it_alone(tray: Tray, prepare: Preparing, name: str) -> None:
    appearance, noise, reason, said = DRIFTS[name]
    watch = SceneWatch(tray, EACH)
    for frame in simulated_frames(3, appearance, noise, empty=True):
        watch.see(prepare(frame))
    warning = only(watch.health())
    assert warning.reason.value == reason
    assert re.search(said, warning.detail), warning.detail


def test_parts_on_the_tray_are_no_drift(tray: Tray, prepare: Preparing) -> None:
    watch = SceneWatch(tray, EACH)
    for frame in simulated_frames(6, empty=False):
        watch.see(prepare(frame))
        assert watch.health().warnings == ()
    drift = watch.health().drift
    assert drift is not None
    assert drift.tilt_x_deg == pytest.approx(0, abs=0.15)
    assert drift.tilt_y_deg == pytest.approx(0, abs=0.15)
    assert drift.distance_share == pytest.approx(0, abs=0.003)
    assert drift.fill_share == pytest.approx(0, abs=0.03)
    assert drift.light_share == pytest.approx(0, abs=0.12)  # the lamps' own spread is 4 %


def test_drift_is_seen_beside_parts(tray: Tray, prepare: Preparing) -> None:
    watch = SceneWatch(tray, EACH)
    appearance = replace(AS_LEARNT, lean_deg=(3.0, -0.5), light=(0.5, 0.5, 0.5))
    for frame in simulated_frames(3, appearance, empty=False):
        watch.see(prepare(frame))
    health = watch.health()
    assert reasons(health) == {"camera_tilted", "light_low"}
    assert health.drift is not None
    assert health.drift.tilt_x_deg == pytest.approx(2.5, abs=0.15)
    assert health.levelling is not None
    assert "by 3.0° so that its top side" in health.levelling


def tilted_frame(tilt_x_deg: float, tilt_y_deg: float, distance_m: float = 0.3) -> Frame:
    frame = flat_frame()
    view: Intrinsics = frame.intrinsics
    slope_x, slope_y = -math.tan(math.radians(tilt_y_deg)), math.tan(math.radians(tilt_x_deg))
    ray_x = (np.arange(view.width_px) - view.cx_px) / view.fx_px
    ray_y = (np.arange(view.height_px)[:, None] - view.cy_px) / view.fy_px
    length = math.hypot(slope_x, slope_y, 1.0)
    depth_m = distance_m * length / (slope_x * ray_x + slope_y * ray_y + 1.0)  # (H, W)
    return replace(frame, depth_m=depth_m.astype(np.float32))


@settings(deadline=None, max_examples=60)
@given(st.floats(0, 2 * math.pi), st.floats(0.0, 3.0))
def test_a_tilt_warns_beyond_its_limit_whatever_its_direction(direction: float, times: float) -> None:
    slope = math.tan(math.radians(times * LIMITS.tilt_deg))
    tilt_x_deg, tilt_y_deg = (math.degrees(math.atan(slope * f(direction))) for f in (math.sin, math.cos))
    health = after(SceneWatch(flat_tray(), EACH), [tilted_frame(tilt_x_deg, tilt_y_deg)] * 3)
    if abs(times - 1) > 0.01:
        assert ("camera_tilted" in reasons(health)) == (times > 1)


@settings(deadline=None, max_examples=60)
@given(st.floats(0.8, 1.25))
def test_a_distance_warns_beyond_its_limit(times: float) -> None:
    health = after(SceneWatch(flat_tray(), EACH), [tilted_frame(0, 0, 0.3 * times)] * 3)
    if abs(abs(times - 1) - LIMITS.distance_share) > 1e-4:
        assert ("camera_moved" in reasons(health)) == (abs(times - 1) > LIMITS.distance_share)


def test_overexposure_and_missing_depth() -> None:
    watch = SceneWatch(flat_tray(), EACH)
    frame = flat_frame()
    rgb, depth_m = frame.rgb.copy(), frame.depth_m.copy()
    rgb[:6], depth_m[8:18, 8:-8] = 255, 0
    health = after(watch, [replace(frame, rgb=rgb, depth_m=depth_m)] * 3)
    assert reasons(health) == {"light_clipped", "fill_low"}
    details = " ".join(warning.detail for warning in health.warnings)
    assert "12.5% of the tray is overexposed, at set-up 0.0%" in details
    assert "depth is missing on" in details


def test_a_tray_that_is_not_found_any_more_is_a_warning_too() -> None:
    blind = replace(flat_frame(), depth_m=np.zeros((48, 64), np.float32))
    health = after(SceneWatch(flat_tray(), EACH), [blind] * 3)
    assert reasons(health) == {"plane_lost", "fill_low"}
    assert health.now is not None
    assert health.now.plane is None
    assert health.now.fill_share == 0.0


def test_a_warning_that_can_not_be_told_any_more_stays() -> None:
    watch = SceneWatch(flat_tray(), EACH)
    assert reasons(after(watch, [tilted_frame(5, 0)] * 3)) == {"camera_tilted"}
    blind = replace(flat_frame(), depth_m=np.zeros((48, 64), np.float32))
    assert "camera_tilted" in reasons(after(watch, [blind] * 3))
    assert reasons(after(watch, [flat_frame()] * 3)) == set()


def test_a_warning_begins_once_ends_once_and_says_so(caplog: pytest.LogCaptureFixture) -> None:
    """Of light that goes by the power of 2.2, 114 of 128 is 22 % less, 117 is 18 % and 121 is 12 %."""
    watch = SceneWatch(flat_tray(), EACH)
    with caplog.at_level(logging.INFO, "edge.scene.watch"):
        for level, warned in (
            (128, False),
            (117, False),
            (114, True),
            (117, True),
            (114, True),
            (121, False),
        ):
            assert bool(after(watch, [lit(level)] * 3).warnings) == warned, level
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "light_low: the tray gets 22% less light than at set-up (median 114 of 255" in caplog.messages[0]
    assert caplog.messages[1] == "scene: light_low is over"


def test_a_warning_keeps_its_beginning_and_tells_how_it_is_now() -> None:
    watch = SceneWatch(flat_tray(), EACH)
    began = only(after(watch, [lit(100)] * 3))
    later = only(after(watch, [lit(60)] * 3))
    assert later.since == began.since
    assert "81% less" in later.detail


def test_one_odd_frame_says_nothing() -> None:
    watch = SceneWatch(flat_tray(), SceneConfig(interval_s=0, window=5))
    assert after(watch, [flat_frame(), flat_frame(), lit(10), flat_frame(), lit(10)]).warnings == ()
    assert reasons(after(watch, [lit(10)])) == {"light_low"}


def test_the_first_frames_alone_are_not_judged() -> None:
    watch = SceneWatch(flat_tray(), SceneConfig(interval_s=0, window=9))
    assert after(watch, [lit(10)] * 2).warnings == ()
    assert reasons(after(watch, [lit(10)])) == {"light_low"}


@pytest.mark.parametrize(
    ("frame", "reason", "said"),
    [
        (replace(flat_frame(), source="987"), "other_camera", "learnt by camera replay, this is 987"),
        (flat_frame(width_px=80), "intrinsics_changed", "learnt at 64×48 px .* now gives 80×48 px"),
    ],
)
def test_a_tray_of_another_camera_is_not_compared_with(
    frame: Frame, reason: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    watch = SceneWatch(flat_tray(), EACH)
    after(watch, [lit(10)] * 3)
    health = after(watch, [frame] * 3)
    assert only(health).reason.value == reason
    assert health.drift is None
    assert health.now is not None
    assert [message for message in caplog.messages if reason in message and "edge-capture --tray" in message]
    assert after(watch, [flat_frame()] * 3).warnings == ()


def test_without_a_tray_figures_are_published_and_nothing_is_warned_of() -> None:
    health = after(SceneWatch(None, EACH), [tilted_frame(4.0, 0.0), lit(5), lit(5)])
    assert health.tray == "not_learnt"
    assert (health.learnt, health.drift, health.warnings) == (None, None, ())
    assert health.now is not None
    assert health.now.light.luma == 5
    assert after(SceneWatch(None, EACH), [tilted_frame(4.0, 0.0)]).levelling == (
        "turn the camera by 4.0° so that its top side comes nearer to the tray (sides as in the picture)"
    )


def test_before_the_first_frame_there_is_nothing_to_say() -> None:
    health = SceneWatch(flat_tray(), EACH).health()
    assert (health.tray, health.now, health.drift, health.looks) == ("learnt", None, None, 0)
    assert health.learnt == flat_tray().figures


def test_one_frame_in_an_interval_is_looked_at() -> None:
    watch = SceneWatch(None, SceneConfig(interval_s=1.0))
    frames = [replace(flat_frame(i), captured_ns=int(i * 0.25e9)) for i in range(9)]
    assert after(watch, frames).looks == 3
    back = replace(flat_frame(), captured_ns=int(0.2e9))  # a clock that was set back holds nothing up
    assert after(watch, [back]).looks == 4


def test_what_does_not_show_the_tray_now_is_not_looked_at() -> None:
    watch = SceneWatch(None, EACH)
    watch.see(PreparedPart(flat_frame()))
    assert after(watch, [replace(flat_frame(), stale="3 s old")]).looks == 0


def test_a_part_that_hides_all_is_not_looked_at() -> None:
    part = prepared(flat_frame(part_height_m=0.05))
    if part.prepared is None:
        raise AssertionError("no part was found")
    hidden = replace(part.prepared, part=np.ones((48, 64), bool))
    watch = SceneWatch(None, EACH)
    watch.see(replace(part, prepared=hidden))
    assert watch.health().looks == 0


def test_a_background_through_the_corners_does_not_place_the_camera() -> None:
    """The plane that the tray was learnt by is fitted anew there: a corner of 2×2 pixels is noise."""
    frame = flat_frame()
    depth_m = frame.depth_m.copy()
    depth_m[:2, :2] -= 0.02
    part = prepared(replace(frame, depth_m=depth_m))
    if part.prepared is None:
        raise AssertionError("nothing was prepared")
    off = replace(
        part.prepared, background="corners", plane=fit_background_plane(0.5 * depth_m, frame.intrinsics)
    )
    watch = SceneWatch(flat_tray(), EACH)
    for _ in range(3):
        watch.see(replace(part, prepared=off))
    assert watch.health().warnings == ()


def test_a_frame_whose_depth_says_nothing_is_looked_at_for_its_light() -> None:
    frame = lit(20)
    times = Durations(0.0, 0.0, 0.0)
    said = Inspection(frame=frame, outcome=Outcome.NO_DECISION, durations=times, reason="depth_invalid")
    watch = SceneWatch(flat_tray(), EACH)
    for _ in range(3):
        watch.see(PreparedPart(frame, undecided=said))
    assert "light_low" in reasons(watch.health())


# Where the tray comes from.


def test_the_tray_lies_in_the_state_directory_or_where_the_rig_says(tmp_path: Path) -> None:
    write_tray(flat_tray(), tmp_path / "tray.yaml")
    assert watch_from_file(SceneConfig(), tmp_path).health().tray == "learnt"
    assert (
        watch_from_file(SceneConfig(tray=tmp_path / "tray.yaml"), tmp_path / "other").health().tray
        == "learnt"
    )
    assert watch_from_file(SceneConfig(), tmp_path / "other").health().tray == "not_learnt"


def test_a_tray_that_can_not_be_read_warns_and_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "tray.yaml").write_text("frames: 5\n", encoding="utf-8")
    watch = watch_from_file(SceneConfig(interval_s=0), tmp_path)
    health = after(watch, [flat_frame()] * 3)
    assert (health.tray, only(health).reason) == ("unreadable", SceneReason.TRAY_UNREADABLE)
    assert "edge-capture --tray" in only(health).detail
    assert health.now is not None
    assert "tray_unreadable" in caplog.text


def test_a_tray_that_the_rig_names_must_be_there(tmp_path: Path) -> None:
    assert watch_from_file(SceneConfig(tray=tmp_path / "gone.yaml"), tmp_path).health().tray == "unreadable"
    (tmp_path / "tray.yaml").symlink_to(tmp_path / "gone.yaml")
    assert watch_from_file(SceneConfig(), tmp_path).health().tray == "unreadable"


def test_health_goes_out_with_the_scene(tmp_path: Path) -> None:
    watch = SceneWatch(flat_tray(), EACH)
    after(watch, [lit(10)] * 3)
    reporter = HealthReporter(
        tally=Tally(),
        source=ReplayCamera([]),
        publisher=RecordingPublisher(),
        provenance=lambda: Provenance(
            session=Session(epoch=5, boot_id="boot", software_version="0"),
            product="plate",
            method="msd",
            model_sha256="a" * 64,
            calibration_id="c1",
            threshold_provisional=True,
            job_id=None,
            is_simulated=True,
        ),
        interval_s=60,
        disk=tmp_path,
        scene=watch.health,
    )
    scene = reporter.now().scene
    assert scene == watch.health()
    assert b'"reason":"light_low"' in reporter.now().to_json()
