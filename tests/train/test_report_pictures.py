from __future__ import annotations

import base64
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from markupsafe import Markup

from edge.background import BackgroundKind, height_over_background, pass_fill
from edge.camera.sample import Sample
from edge.errors import DatasetError
from edge.framing import FramingConfig
from edge.preprocessing import Preprocessing
from train.datasets import open_dataset
from train.report.pictures import SIDE, Cut, colour_bar, cut_out, height_range_mm, part_pictures

PREPROCESSING = Preprocessing(framing=FramingConfig(mode="whole"))


def decoded(uri: Markup) -> npt.NDArray[np.uint8]:
    _, _, data = uri.partition("base64,")
    image = cv2.imdecode(np.frombuffer(base64.b64decode(data), np.uint8), cv2.IMREAD_COLOR)
    return np.asarray(image[..., ::-1], dtype=np.uint8)


def cut(value: float, *, truth: bool = False, height_mm: float = 5.0) -> Cut:
    """A grey part of one value all over."""
    mask = np.zeros((SIDE, SIDE), dtype=np.bool_)
    if truth:
        mask[100:140, 100:140] = True
    return Cut(
        rgb=np.full((SIDE, SIDE, 3), 128, np.uint8),
        height_mm=np.full((SIDE, SIDE), height_mm, np.float32),
        anomaly_map=np.full((SIDE, SIDE), value, np.float32),
        truth=mask,
    )


@pytest.fixture(scope="module")
def bad_sample(simulated: Path) -> Sample:
    samples = open_dataset(simulated / "test", "captures", None, 0.5).test
    return next(sample for sample in samples if sample.defect is not None)


def test_the_cut_holds_what_was_judged_and_what_is_defective(bad_sample: Sample) -> None:
    truth = bad_sample.mask()
    judged = np.zeros(truth.shape, np.float32)
    judged[5:20, 300:310] = 2.0
    found = cut_out(bad_sample, judged, PREPROCESSING)
    scale = SIDE / (max(np.ptp(np.argwhere((judged > 0) | truth), axis=0)) * 1.12)
    assert found.truth.sum() == pytest.approx(truth.sum() * scale**2, rel=0.15)
    assert (found.anomaly_map > 1).sum() == pytest.approx((judged > 0).sum() * scale**2, rel=0.15)
    assert found.rgb.shape == (SIDE, SIDE, 3)


def test_a_part_of_which_nothing_was_judged_is_shown_whole(bad_sample: Sample) -> None:
    good = replace(bad_sample, defect=None, mask_path=None)
    found = cut_out(good, np.zeros((240, 320), np.float32), PREPROCESSING)
    frame = good.frame()
    rows = slice(SIDE * 40 // 320, SIDE * 280 // 320)
    assert found.rgb[rows].mean() == pytest.approx(frame.rgb.mean(), abs=2.0)
    assert np.isnan(found.height_mm[0]).all()
    assert not found.rgb[0].any()


@pytest.mark.parametrize("background", ["plane", "corners"])
def test_heights_are_over_the_background_that_the_run_has(
    bad_sample: Sample, background: BackgroundKind
) -> None:
    foreground = PREPROCESSING.foreground.model_copy(update={"background": background})
    config = PREPROCESSING.model_copy(update={"foreground": foreground, "hole_passes": 30})
    found = cut_out(
        replace(bad_sample, defect=None, mask_path=None), np.zeros((240, 320), np.float32), config
    )
    frame = bad_sample.frame()
    depth_m = pass_fill(frame.depth_m, 30)
    by_kind = {
        kind: 1e3 * height_over_background(depth_m, frame.intrinsics, kind, foreground.border_share)[1]
        for kind in ("plane", "corners")
    }
    shown = found.height_mm[np.isfinite(found.height_mm)]
    assert shown.size > 0.5 * SIDE**2
    assert np.isin(shown, by_kind[background]).all()  # the nearest pixel's own
    assert not np.isin(by_kind["plane"], by_kind["corners"]).all()
    hole = frame.depth_m <= 0
    assert (depth_m[hole] > 0).any()  # filled in, so that each corner has depth, and all the same not shown
    of_frame = slice(SIDE * 40 // 320, SIDE * 280 // 320)
    assert np.isnan(found.height_mm[of_frame]).mean() == pytest.approx(hole.mean(), rel=0.2)


def test_a_broken_file_is_named(bad_sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no png")
    for field in ("rgb_path", "depth_path", "mask_path"):
        broken = replace(bad_sample, **{field: tmp_path / "broken.png"})  # type: ignore[arg-type]
        with pytest.raises(DatasetError, match=r"broken\.png"):
            cut_out(broken, np.zeros((240, 320), np.float32), PREPROCESSING)


def test_a_value_has_the_same_colour_in_every_part() -> None:
    quiet, loud = cut(0.5), cut(0.5)
    loud.anomaly_map[:40] = 50.0
    colours = [
        decoded(part_pictures(one, (0.0, 2.0), (0.0, 10.0)).heatmap)[200, 200].astype(int)
        for one in (quiet, loud)
    ]
    assert np.abs(colours[0] - colours[1]).max() <= 3
    hotter = decoded(part_pictures(cut(1.9), (0.0, 2.0), (0.0, 10.0)).heatmap)[200, 200].astype(int)
    assert np.abs(hotter - colours[0]).max() > 100


def test_the_colour_bar_has_the_colours_of_the_map_and_of_the_height() -> None:
    for kind in ("map", "height"):
        bar = decoded(colour_bar(kind))
        assert bar.shape == (1, 256, 3)
        pictures = part_pictures(cut(1.0, height_mm=2.5), (0.0, 2.0), (0.0, 5.0))
        shown = decoded(pictures.heatmap if kind == "map" else pictures.height)[200, 200]
        assert np.abs(shown.astype(int) - bar[0, 127]).max() <= 6


def test_the_line_runs_round_the_defect_and_hides_none_of_it() -> None:
    with_line = decoded(part_pictures(cut(0.2, truth=True), (0.0, 2.0), (0.0, 10.0)).heatmap)
    without = decoded(part_pictures(cut(0.2), (0.0, 2.0), (0.0, 10.0)).heatmap)
    changed = np.abs(with_line.astype(int) - without).max(axis=2) > 60
    assert not changed[102:138, 102:138].any()
    assert changed[90:150, 90:150].any()
    assert not changed[:80].any()
    assert with_line[changed].max() > 200


def test_where_depth_is_missing_the_height_is_grey() -> None:
    part = cut(0.5)
    part.height_mm[:100] = np.nan
    shown = decoded(part_pictures(part, (0.0, 1.0), (0.0, 10.0)).height)
    assert np.ptp(shown[20, 20].astype(int)) <= 3
    assert np.ptp(shown[200, 200].astype(int)) > 30


def test_heights_share_one_range() -> None:
    low, high = height_range_mm([cut(0.0, height_mm=0.0), cut(0.0, height_mm=12.0)])
    assert (low, high) == (0.0, 12.0)
    assert height_range_mm([cut(0.0, height_mm=3.0)]) == (2.5, 3.5)
    assert height_range_mm([cut(0.0, height_mm=float("nan"))]) == (0.0, 1.0)
    assert height_range_mm([]) == (0.0, 1.0)
