from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.bundle import load_bundle
from edge.calibration import Calibration
from edge.errors import GpuLost
from edge.frame import Frame
from edge.framing import FramingConfig, View
from edge.heatmap import overlay_image
from edge.inspection import Inspection, Outcome
from edge.inspector import Inspector, regions_above
from edge.preprocessing import Preprocessing, preprocess
from edge.region_rules import RegionRules, Zone
from edge.ruled_score import RuledMap
from edge.runtime import runner_for
from edge.runtime.runner import Array
from edge.scoring import ScoreSpec
from edge.simulation.dataset import frame_from_shot
from edge.simulation.rig import RigScene
from edge.testing import FakeRunner, fake_bundle
from tests.tiny_bundle import make_tiny_bundle

UPRIGHT = FramingConfig(mode="part", window_px=150, upright="axis")
SCENE = RigScene("lattice", 5, parts=6, defective_share=0.0, width_px=320, height_px=240)


def frame_of(index: int) -> Frame:
    shot = SCENE.shot(index)
    assert shot is not None
    return frame_from_shot(SCENE, index, shot)


def empty_tray() -> Frame:
    return frame_from_shot(SCENE, 9, SCENE.tray(9))


def part_colour(frame: Frame) -> npt.NDArray[np.float64]:
    part = preprocess(frame, Preprocessing(framing=UPRIGHT), {"mask"}).part
    return np.asarray(frame.rgb[part].mean(axis=0) / 255)


def inspector(folder: Path, *, threshold: float | None, **options: object) -> Inspector:
    """An inspector that measures how far a colour is from that of the simulated part."""
    made = make_tiny_bundle(
        folder,
        threshold=threshold,
        **{
            "image_px": 256,
            "depth_px": 128,
            "map_cells": 32,
            "framing": UPRIGHT,
            "colour": tuple(part_colour(frame_of(0))),
            **options,
        },  # type: ignore[arg-type]  # what a test asks for
    )
    bundle = load_bundle(made)
    return Inspector(bundle, runner_for(bundle))


def stained(frame: Frame, *spots: tuple[int, int, int, tuple[int, int, int]]) -> Frame:
    """The frame with discs painted on it: x, y, radius in pixels, and colour."""
    rgb = frame.rgb.copy()
    for x, y, radius, colour in spots:
        cv2.circle(rgb, (x, y), radius, colour, -1)
    return replace(frame, rgb=rgb)


def middle_of_part(frame: Frame) -> tuple[int, int]:
    rows, columns = np.nonzero(preprocess(frame, Preprocessing(framing=UPRIGHT), {"mask"}).part)
    return round(columns.mean()), round(rows.mean())


def check(inspection: Inspection, frame: Frame) -> None:
    """What holds of every inspection."""
    assert inspection.frame is frame
    judged = inspection.outcome in (Outcome.PASS, Outcome.REVIEW, Outcome.FAIL)
    assert (inspection.reason is None) == judged == (inspection.detail is None)
    if inspection.reason != "below_min_area":
        assert (inspection.score is None) == (inspection.anomaly_map is None)
    assert inspection.score is None or math.isfinite(inspection.score)
    if inspection.score is not None and inspection.threshold is not None:
        assert (inspection.outcome is Outcome.FAIL) == (inspection.score > inspection.threshold)
    assert bool(inspection.regions) == (inspection.outcome in (Outcome.REVIEW, Outcome.FAIL))
    peaks = [region.peak for region in inspection.regions]
    assert peaks == sorted(peaks, reverse=True)
    if inspection.anomaly_map is not None:
        assert inspection.anomaly_map.shape == frame.depth_m.shape
        assert inspection.anomaly_map.dtype == np.float32
        assert np.isfinite(inspection.anomaly_map).all()
    steps = inspection.durations
    assert min(steps.preprocess_ms, steps.inference_ms, steps.postprocess_ms) >= 0
    assert steps.total_ms == pytest.approx(steps.preprocess_ms + steps.inference_ms + steps.postprocess_ms)


@pytest.fixture(scope="module")
def clean_score(tmp_path_factory: pytest.TempPathFactory) -> float:
    """The largest score of the clean parts under test."""
    uncalibrated = inspector(tmp_path_factory.mktemp("clean") / "b", threshold=None)
    scores = [uncalibrated.inspect(frame_of(index)).score for index in range(3)]
    return max(score for score in scores if score is not None)


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory: pytest.TempPathFactory, clean_score: float) -> Inspector:
    return inspector(tmp_path_factory.mktemp("calibrated") / "b", threshold=1.2 * clean_score)


def test_clean_parts_pass(calibrated: Inspector) -> None:
    for index in range(3):
        frame = frame_of(index)
        result = calibrated.inspect(frame)
        check(result, frame)
        assert result.outcome is Outcome.PASS
        assert result.score is not None
        assert result.threshold is not None
        assert 0 < result.score <= result.threshold


@pytest.mark.parametrize("index", [0, 1, 2])
def test_a_stained_part_fails_where_the_stain_is_however_it_lies(calibrated: Inspector, index: int) -> None:
    frame = frame_of(index)
    x, y = middle_of_part(frame)
    x, y, radius_px = x + 9, y - 6, 6
    bad = stained(frame, (x, y, radius_px, (255, 0, 255)))
    result = calibrated.inspect(bad)
    check(result, bad)
    assert result.outcome is Outcome.FAIL
    assert result.anomaly_map is not None
    peak_y, peak_x = np.unravel_index(result.anomaly_map.argmax(), result.anomaly_map.shape)
    assert math.hypot(peak_x - x, peak_y - y) < 4
    worst = result.regions[0]
    assert len(result.regions) == 1
    assert math.hypot(worst.centroid_px[0] - x, worst.centroid_px[1] - y) < 2.5
    left, top, width, height = worst.bbox_px
    assert left <= x < left + width
    assert top <= y < top + height
    assert worst.peak == pytest.approx(result.score)
    # Seen through cells of 5 px and a Gaussian, a disc of 6 px grows, but not to twice its width.
    pixel_mm = preprocess(frame, Preprocessing(framing=UPRIGHT), {"mask"}).pixel_mm
    true_mm2 = math.pi * (radius_px * pixel_mm) ** 2
    assert 0.7 * true_mm2 < worst.area_mm2 < 4 * true_mm2
    assert worst.area_mm2 == pytest.approx(worst.area_px * pixel_mm**2, rel=0.02)
    assert result.window_px is not None
    window_x, window_y, window_w, window_h = result.window_px
    assert window_x <= left
    assert window_y <= top
    assert left + width <= window_x + window_w
    assert top + height <= window_y + window_h


def ruled(folder: Path, threshold: float, rules: RegionRules) -> Inspector:
    """An inspector whose calibration has rules of its own."""
    inspector(folder, threshold=threshold)
    bundle = load_bundle(folder)
    assert bundle.calibration is not None
    calibration = bundle.calibration.model_copy(update={"region_rules": rules})
    return Inspector(replace(bundle, calibration=calibration), runner_for(bundle))


def test_region_rules_decide_and_what_they_leave_out_is_no_region(tmp_path: Path, clean_score: float) -> None:
    x, y = middle_of_part(frame_of(0))
    frame = stained(frame_of(0), (x, y, 5, (255, 0, 0)))
    corners = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    said = {}
    for name, rules in {
        "none": RegionRules(),
        "small": RegionRules(min_area_mm2=1.0),
        "large": RegionRules(min_area_mm2=600.0),
        "part": RegionRules(min_area_mm2=9e4),
        "ignored": RegionRules(zones=(Zone(name="all", corners=corners, ignore=True),)),
        "milder": RegionRules(zones=(Zone(name="all", corners=corners, threshold=1e3),)),
    }.items():
        said[name] = ruled(tmp_path / name, 1.2 * clean_score, rules).inspect(frame)
        check(said[name], frame)
    assert {name: one.outcome for name, one in said.items()} == {
        "none": Outcome.FAIL,
        "small": Outcome.FAIL,
        "large": Outcome.PASS,
        "part": Outcome.NO_DECISION,
        "ignored": Outcome.PASS,
        "milder": Outcome.PASS,
    }
    assert said["part"].reason == "below_min_area"
    scores = [said[name].score or 0.0 for name in ("none", "small", "large", "ignored")]
    assert scores == sorted(scores, reverse=True)
    assert scores[-1] == 0.0 < scores[-2]


def test_what_is_near_the_threshold_is_for_a_person_to_look_at(tmp_path: Path, clean_score: float) -> None:
    x, y = middle_of_part(frame_of(0))
    frame = stained(frame_of(0), (x, y, 5, (255, 0, 0)))
    inspector(tmp_path / "b", threshold=1.2 * clean_score)
    bundle = load_bundle(tmp_path / "b")
    assert bundle.calibration is not None
    said = {}
    for threshold, review in ((1e3, 1.2 * clean_score), (1e3, 1e2), (1.2 * clean_score, clean_score)):
        near = bundle.calibration.model_copy(update={"threshold": threshold, "review_threshold": review})
        result = Inspector(replace(bundle, calibration=near), runner_for(bundle)).inspect(frame)
        assert (result.threshold, result.review_threshold) == (threshold, review)
        check(result, frame)
        said[threshold, review] = result
    assert [one.outcome for one in said.values()] == [Outcome.REVIEW, Outcome.PASS, Outcome.FAIL]
    near = said[1e3, 1.2 * clean_score]
    assert all(1.2 * clean_score < region.peak < 1e3 for region in near.regions)
    picture = overlay_image(near)
    assert (picture == (255, 190, 0)).all(axis=2).any()
    assert not (overlay_image(said[1.2 * clean_score, clean_score]) == (255, 190, 0)).all(axis=2).any()


def test_of_two_stains_the_worse_comes_first(calibrated: Inspector) -> None:
    frame = frame_of(0)
    x, y = middle_of_part(frame)
    for first, second in ((-17, 17), (17, -17)):
        bad = stained(frame, (x + first, y, 6, (255, 0, 255)), (x + second, y, 6, (255, 120, 160)))
        result = calibrated.inspect(bad)
        check(result, bad)
        assert len(result.regions) == 2
        assert result.regions[0].peak > result.regions[1].peak
        assert abs(result.regions[0].centroid_px[0] - (x + first)) < 4
        assert abs(result.regions[1].centroid_px[0] - (x + second)) < 4


def test_a_stain_on_the_tray_is_no_defect_of_the_part(calibrated: Inspector) -> None:
    frame = frame_of(0)
    part = preprocess(frame, Preprocessing(framing=UPRIGHT), {"mask"}).part
    away = cv2.distanceTransform((~part).astype(np.uint8), cv2.DIST_L2, 5)
    ys, xs = np.nonzero((away > 25) & (away < 27))
    result = calibrated.inspect(stained(frame, (int(xs[0]), int(ys[0]), 6, (255, 0, 255))))
    assert result.outcome is Outcome.PASS


def test_an_empty_tray_is_no_pass(calibrated: Inspector) -> None:
    frame = empty_tray()
    result = calibrated.inspect(frame)
    check(result, frame)
    assert (result.outcome, result.reason) == (Outcome.NO_DECISION, "no_part")
    assert result.detail == "nothing stands more than 5 mm above the background"
    assert result.score is None
    assert result.threshold is None


def test_depth_that_is_all_missing_is_no_pass(calibrated: Inspector) -> None:
    frame = replace(frame_of(0), depth_m=np.zeros((240, 320), np.float32))
    result = calibrated.inspect(frame)
    check(result, frame)
    assert (result.outcome, result.reason) == (Outcome.NO_DECISION, "depth_invalid")
    assert result.detail is not None
    assert "only 0 pixels" in result.detail


def test_a_stale_frame_of_a_good_part_is_no_pass(calibrated: Inspector) -> None:
    assert calibrated.inspect(frame_of(1)).outcome is Outcome.PASS
    inspection = calibrated.inspect(replace(frame_of(1), stale="it is 3 s old"))
    assert (inspection.outcome, inspection.reason) == (Outcome.NO_DECISION, "stale_frame")
    assert inspection.detail == "it is 3 s old"
    assert inspection.score is None


def test_without_calibration_there_is_a_score_and_no_verdict(tmp_path: Path) -> None:
    frame = frame_of(0)
    result = inspector(tmp_path / "b", threshold=None).inspect(frame)
    check(result, frame)
    assert (result.outcome, result.reason) == (Outcome.NO_DECISION, "uncalibrated")
    assert result.detail is not None
    assert "calibrate" in result.detail
    assert result.score is not None
    assert result.anomaly_map is not None
    assert result.threshold is None


def test_a_map_that_holds_no_number_is_an_error(tmp_path: Path) -> None:
    frame = frame_of(0)
    result = inspector(tmp_path / "b", threshold=0.5, broken="nan").inspect(frame)
    check(result, frame)
    assert (result.outcome, result.reason) == (Outcome.ERROR, "not_finite")
    assert result.detail == "1 of 1024 cells of the anomaly map are not numbers"
    assert result.score is None


def test_a_map_of_the_largest_numbers_gives_no_infinite_score(tmp_path: Path) -> None:
    # What the graph makes is finite; whether the Gaussian's sum of it is, hangs on the processor's rounding.
    largest = math.sqrt(float(np.finfo(np.float32).max) / 3.0)
    frame = stained(frame_of(0), (160, 120, 400, (0, 0, 0)))
    result = inspector(tmp_path / "b", threshold=0.5, colour=(largest,) * 3).inspect(frame)
    check(result, frame)
    assert (result.outcome, result.reason) in ((Outcome.ERROR, "not_finite"), (Outcome.FAIL, None))
    assert result.detail in (None, "the anomaly map reaches 3.40282e+38, and its smoothed score is inf")


def test_a_runner_that_fails_is_an_error_and_the_next_frame_is_asked_anew(tmp_path: Path) -> None:
    bundle = load_bundle(make_tiny_bundle(tmp_path / "b", framing=UPRIGHT))
    runner = runner_for(bundle)
    failing = Inspector(bundle, runner)
    frame = frame_of(0)
    assert failing.inspect(frame).outcome in (Outcome.PASS, Outcome.FAIL)
    runner.close()
    result = failing.inspect(frame)
    check(result, frame)
    assert (result.outcome, result.reason) == (Outcome.ERROR, "runner_failed")
    assert result.detail is not None
    assert "closed" in result.detail


def test_a_lost_gpu_is_no_inspection(tmp_path: Path) -> None:
    def lost(tensors: Mapping[str, Array]) -> npt.NDArray[np.float32]:
        raise GpuLost("restart the process")

    bundle = fake_bundle()
    with pytest.raises(GpuLost, match="restart the process"):
        Inspector(bundle, FakeRunner(bundle, lost)).inspect(frame_of(0))


def test_a_part_larger_than_the_window_never_passes(tmp_path: Path, clean_score: float) -> None:
    small = FramingConfig(mode="part", window_px=32)
    frame = frame_of(0)
    result = inspector(tmp_path / "lenient", threshold=100 * clean_score, framing=small).inspect(frame)
    check(result, frame)
    assert (result.outcome, result.reason) == (Outcome.NO_DECISION, "part_exceeds_view")
    assert result.detail is not None
    assert "% of what stands above the background" in result.detail
    assert result.score is not None
    assert result.threshold is not None
    # What was seen is bad enough: that the rest was not seen changes nothing.
    failed = inspector(tmp_path / "strict", threshold=1e-6, framing=small).inspect(frame)
    assert failed.outcome is Outcome.FAIL


@pytest.mark.parametrize("side", ["left", "right", "top", "bottom"])
def test_a_part_that_is_cut_by_the_frame_never_passes(calibrated: Inspector, side: str) -> None:
    scene = RigScene("blob", 5, defective_share=0.0, width_px=320, height_px=240)
    shot = scene.shot(0)
    assert shot is not None
    frame, tray = frame_from_shot(scene, 0, shot), frame_from_shot(scene, 1, scene.tray(1))
    part = preprocess(frame, Preprocessing(framing=UPRIGHT), set()).part
    x, y = middle_of_part(frame)
    # Move the picture until the part's middle lies a little inside the frame's edge.
    move_x = {"left": 55 - x, "right": 300 - x}.get(side, 0)
    move_y = {"top": 12 - y, "bottom": 228 - y}.get(side, 0)

    def moved(ours: npt.NDArray[np.generic], under: npt.NDArray[np.generic]) -> npt.NDArray[np.generic]:
        result = under.copy()
        rows, columns = np.nonzero(part)
        to_y, to_x = rows + move_y, columns + move_x
        kept = (to_y >= 0) & (to_y < 240) & (to_x >= 0) & (to_x < 320)
        result[to_y[kept], to_x[kept]] = ours[rows[kept], columns[kept]]
        return result

    depth_m = moved(frame.depth_m, tray.depth_m)
    depth_m[tray.depth_m == 0] = 0.0  # what the camera can't see there it does not see of the part either
    cut = replace(frame, rgb=moved(frame.rgb, tray.rgb), depth_m=depth_m)
    result = calibrated.inspect(cut)
    check(result, cut)
    assert result.outcome is not Outcome.PASS
    lenient = Inspector(
        replace(calibrated._bundle, calibration=_very_lenient(calibrated)), calibrated._runner
    )
    result = lenient.inspect(cut)
    assert (result.outcome, result.reason) == (Outcome.NO_DECISION, "part_exceeds_view")
    assert result.detail is not None
    assert "reaches the edge" in result.detail


def _very_lenient(calibrated: Inspector) -> Calibration:
    calibration = calibrated._bundle.calibration
    assert calibration is not None
    return calibration.model_copy(update={"threshold": 1e6})


def test_a_part_beside_the_region_of_interest_never_passes(tmp_path: Path) -> None:
    roi = FramingConfig(mode="roi", roi_px=(0, 0, 24, 24))
    frame = frame_of(0)
    result = inspector(tmp_path / "b", threshold=100.0, framing=roi).inspect(frame)
    check(result, frame)
    assert (result.outcome, result.reason) == (Outcome.NO_DECISION, "part_exceeds_view")


@pytest.mark.parametrize("kind", ["max", "mean", "top_mean"])
def test_a_score_equal_to_the_threshold_passes_and_a_hair_less_fails(tmp_path: Path, kind: str) -> None:
    spec = ScoreSpec.model_validate({"kind": kind})
    frame = frame_of(1)
    score = inspector(tmp_path / "none", threshold=None, score=spec).inspect(frame).score
    assert score is not None
    for threshold, outcome in ((score, Outcome.PASS), (math.nextafter(score, 0), Outcome.FAIL)):
        folder = tmp_path / outcome.value
        result = inspector(folder, threshold=threshold, score=spec).inspect(frame)
        check(result, frame)
        assert result.outcome is outcome
        assert result.score == score


def test_a_frame_is_judged_the_same_again(calibrated: Inspector) -> None:
    frame = stained(frame_of(0), (*middle_of_part(frame_of(0)), 6, (255, 0, 255)))
    first, again = calibrated.inspect(frame), calibrated.inspect(frame)
    assert first.score == again.score
    assert first.regions == again.regions
    assert first.anomaly_map is not None
    assert again.anomaly_map is not None
    assert first.anomaly_map.tobytes() == again.anomaly_map.tobytes()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0, 1), st.integers(1, 60))
def test_whatever_depth_a_frame_holds_it_gets_an_inspection(
    calibrated: Inspector, seed: int, missing: float, block_px: int
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.05, 2.0, (240 // block_px + 1, 320 // block_px + 1)).astype(np.float32)
    depth_m = coarse.repeat(block_px, axis=0).repeat(block_px, axis=1)[:240, :320]
    depth_m = np.where(rng.random((240, 320)) < missing, np.float32(0), depth_m)
    frame = replace(frame_of(0), depth_m=depth_m)
    check(calibrated.inspect(frame), frame)


def all_of(square: npt.NDArray[np.float32]) -> RuledMap:
    return RuledMap(square, np.ones(square.shape, dtype=bool))


@settings(max_examples=60, deadline=None)
@given(st.floats(60, 260), st.floats(60, 180), st.floats(60, 200), st.floats(-180, 180))
def test_a_region_is_found_in_the_frame_where_it_lies_in_the_view(
    x: float, y: float, size: float, angle: float
) -> None:
    side = 128
    view = View((x, y), (size, size), angle)
    square = np.zeros((side, side), np.float32)
    square[20:40, 70:110] = 0.9
    square[80:90, 10:20] = 1.5
    worst, other = regions_above(all_of(square), 0.5, view, pixel_mm=0.4)
    scale = (size / side) ** 2
    assert (worst.peak, other.peak) == (1.5, np.float32(0.9))
    assert worst.area_mm2 == pytest.approx(100 * scale * 0.16)
    assert other.area_mm2 == pytest.approx(800 * scale * 0.16)
    assert abs(other.area_px - 800 * scale) <= 1
    affine = view.to_frame(side)
    for region, (column, row), (width, height) in (
        (worst, (14.5, 84.5), (10, 10)),
        (other, (89.5, 29.5), (40, 20)),
    ):
        centre = affine[:, :2] @ [column, row] + affine[:, 2]
        assert region.centroid_px == pytest.approx(tuple(centre), abs=1e-6)
        cos, sin = abs(math.cos(math.radians(angle))), abs(math.sin(math.radians(angle)))
        true = np.array([width * cos + height * sin, width * sin + height * cos]) * size / side
        left, top, w, h = region.bbox_px
        assert (np.array([w, h]) >= true - 1e-6).all()
        assert (np.array([w, h]) <= true + 2).all()
        assert left <= centre[0] <= left + w
        assert top <= centre[1] <= top + h


def test_areas_that_touch_at_a_corner_are_one() -> None:
    square = np.zeros((16, 16), np.float32)
    square[2:4, 2:4] = 1.0
    square[4:6, 4:6] = 1.0
    (region,) = regions_above(all_of(square), 0.5, View((7.5, 7.5), (16.0, 16.0)), pixel_mm=1.0)
    assert region.area_px == 8
    assert region.bbox_px == (2, 2, 4, 4)
    assert region.centroid_px == (3.5, 3.5)
    assert regions_above(all_of(square), 1.0, View((7.5, 7.5), (16.0, 16.0)), pixel_mm=1.0) == ()
