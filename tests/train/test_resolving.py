from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from edge.depth import Mask, fit_background_plane, height_over_plane
from edge.errors import DatasetError
from edge.frame import Frame, Intrinsics
from edge.preprocessing import ForegroundConfig, mask_above
from edge.simulation.dataset import frame_from_shot
from edge.simulation.rig import Appearance, RigScene
from tests.small_run import NoBars
from train.bed import BedNoise, bed_noise, bed_of
from train.datasets import DataSet, open_dataset
from train.plans import ForegroundPlan, PreprocessingPlan
from train.resolving import resolve_plan

SHARE = 0.08


def shown(scene: RigScene, index: int) -> Frame:
    shot = scene.shot(index)
    assert shot is not None
    return frame_from_shot(scene, index, shot)


def filled(mask: Mask) -> Mask:
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(
        cv2.drawContours(mask.astype(np.uint8), outlines, -1, color=1, thickness=cv2.FILLED), dtype=bool
    )


def noisy_bed(sigma_m: float, blur_px: float, block_m: float = 0.0) -> Frame:
    """A flat bed 0.3 m away with Gaussian noise; a block of that height reaches into its border."""
    rng = np.random.default_rng(5)
    noise = rng.normal(size=(240, 320))
    if blur_px:
        noise = cv2.GaussianBlur(noise, (0, 0), blur_px)
        noise /= noise.std()
    depth_m = 0.3 + sigma_m * noise
    if block_m:
        depth_m[60:180, :90] -= block_m
    return Frame(
        rgb=np.zeros((240, 320, 3), np.uint8),
        depth_m=depth_m.astype(np.float32),
        depth_unit_m=1e-4,
        intrinsics=Intrinsics(320, 240, 300.0, 300.0, 159.5, 119.5),
        captured_ns=1,
        captured_utc=datetime.now(timezone.utc),
        seq=0,
        source="test",
        part_id=None,
    )


def test_the_tail_is_that_of_the_noise() -> None:
    # One in a thousand of a Gaussian lies beyond 3.29 standard deviations.
    assert bed_noise(noisy_bed(0.0005, 0.0), SHARE).tail_m == pytest.approx(3.29 * 0.0005, rel=0.1)


@pytest.mark.parametrize("block_m", [0.006, 0.02, 0.06])
def test_a_part_that_reaches_into_the_border_is_not_the_bed(block_m: float) -> None:
    alone, beside = (
        bed_noise(noisy_bed(0.0005, 0.0), SHARE),
        bed_noise(noisy_bed(0.0005, 0.0, block_m), SHARE),
    )
    assert beside.tail_m == pytest.approx(alone.tail_m, rel=0.1)


@pytest.mark.parametrize("blur_px", [2.0, 3.0])
def test_the_correlation_is_that_of_the_noise(blur_px: float) -> None:
    # White noise under a Gaussian of s has the autocorrelation exp(-d²/4s²): a half at 1.665 s. Taking the
    # bed's own shape away takes some of it away, too.
    found = bed_noise(noisy_bed(0.0005, blur_px), SHARE).correlation_px
    assert 0.6 * 1.665 * blur_px < found < 1.05 * 1.665 * blur_px


def test_a_perfect_bed_has_no_noise_and_thresholds_all_the_same() -> None:
    found = bed_noise(noisy_bed(0.0, 0.0), SHARE)
    assert found.tail_m < 1e-6
    assert found.correlation_px == 0
    foreground = ForegroundPlan().resolve(found)
    assert 0.0005 <= foreground.mask_threshold_m < foreground.part_threshold_m <= 0.001
    assert foreground.closing_px == 1


def test_noise_grows_with_the_distance_and_thresholds_with_it() -> None:
    tails = []
    for distance_m in (0.2, 0.3):
        scene = RigScene("plate", 3, appearance=Appearance(distance_m=distance_m, reach_m=(0.01, 0.01)))
        tails.append(bed_noise(shown(scene, 0), SHARE).tail_m)
    assert tails[1] / tails[0] == pytest.approx((0.3 / 0.2) ** 2, rel=0.25)


@pytest.mark.parametrize("product", ["plate", "lattice"])
def test_the_part_is_found_whole_and_an_empty_tray_is_empty(product: str) -> None:
    scene = RigScene(product, 8, defective_share=0.0)
    foreground = ForegroundPlan().resolve(bed_noise(shown(scene, 0), SHARE))

    def found(frame: Frame) -> Mask:
        plane = fit_background_plane(frame.depth_m, frame.intrinsics)
        height_m = height_over_plane(frame.depth_m, plane, frame.intrinsics)
        pixel_m = plane.distance_m / frame.intrinsics.fx_px
        return mask_above(height_m, foreground.part_threshold_m, pixel_m, foreground)

    overlaps, fixed = [], ForegroundConfig()
    for index in range(2):
        truth, part = filled(scene.part_mask(index)), found(shown(scene, index))
        overlaps.append((part & truth).sum() / (part | truth).sum())
        assert not found(frame_from_shot(scene, index, scene.tray(index))).any()
    assert min(overlaps) > 0.8
    assert foreground.part_threshold_m < fixed.part_threshold_m  # which loses half of these flat parts


def test_stereo_gets_a_closing_and_fine_noise_none() -> None:
    assert ForegroundPlan().resolve(BedNoise(0.002, 7.1)).closing_px == 9
    assert ForegroundPlan().resolve(BedNoise(0.002, 4.2)).closing_px == 5
    assert ForegroundPlan().resolve(BedNoise(0.002, 1.6)).closing_px == 1


def test_a_number_that_is_given_stays() -> None:
    bed = BedNoise(0.002, 7.0)
    plan = ForegroundPlan(part_threshold_m=0.0021, closing_px=5, fill=False)
    foreground = plan.resolve(bed)
    assert (foreground.part_threshold_m, foreground.closing_px, foreground.fill) == (0.0021, 5, False)
    assert foreground.mask_threshold_m == 0.0021  # finer than the part's, or as fine
    whole = ForegroundPlan(part_threshold_m=0.005, mask_threshold_m=0.004, closing_px=1)
    assert not whole.is_open
    assert whole.resolve(None) == ForegroundConfig()


def test_nothing_is_assumed_about_a_bed_that_was_not_measured() -> None:
    with pytest.raises(ValueError, match="was not measured"):
        ForegroundPlan().resolve(None)
    for wrong in ("none", 0, -0.001):
        with pytest.raises(ValidationError):
            ForegroundPlan.model_validate({"part_threshold_m": wrong})


def test_the_corners_surface_needs_thresholds() -> None:
    with pytest.raises(ValidationError, match="needs numbers"):
        ForegroundPlan(background="corners")
    assert ForegroundPlan(background="corners", part_threshold_m=0.007, mask_threshold_m=0.007).is_open


def test_the_device_is_given_numbers_that_follow_from_the_parts(training_data: DataSet) -> None:
    plan = PreprocessingPlan()
    resolved = resolve_plan(training_data.train, plan, NoBars())
    bed = bed_of(training_data.train, SHARE, lambda steps: None)
    assert resolved.foreground == plan.foreground.resolve(bed)
    assert resolved.framing.window_px is not None
    assert resolved.framing.window_px % 16 == 0
    assert resolve_plan(training_data.train, plan, NoBars()) == resolved


def test_what_is_given_asks_no_question_of_the_parts() -> None:
    plan = PreprocessingPlan.model_validate(
        {
            "framing": {"window_px": 96},
            "foreground": {"part_threshold_m": 0.003, "mask_threshold_m": 0.003, "closing_px": 1},
        }
    )
    assert resolve_plan((), plan, NoBars()).framing.window_px == 96


def test_a_part_without_a_background_is_named(tmp_path: Path, simulated: Path) -> None:
    data = open_dataset(simulated / "train", "captures", None, 0.34)
    dark = tmp_path / "dark.depth.png"
    cv2.imwrite(str(dark), np.zeros((240, 320), np.uint16))
    samples = [s if n else replace(s, depth_path=dark) for n, s in enumerate(data.train)]
    with pytest.raises(DatasetError, match=r"dark\.depth\.png: only 0 pixels"):
        resolve_plan(samples, PreprocessingPlan(), NoBars())
