from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge.depth import pixel_shuffle
from edge.errors import DepthUnusable
from edge.frame import Frame, Intrinsics
from edge.framing import FramingConfig
from edge.preprocessing import (
    TENSORS,
    ForegroundConfig,
    Prepared,
    Preprocessing,
    ZConfig,
    preprocess,
    tensor_shapes,
)
from edge.simulation.dataset import frame_from_shot
from edge.simulation.rig import RigScene
from edge.testing.frames import flat_frame

WHOLE = FramingConfig(mode="whole")
UPRIGHT = FramingConfig(mode="part", window_px=150, upright="axis")
LYING = FramingConfig(mode="part", window_px=150)
ROI = FramingConfig(mode="roi", roi_px=(60, 40, 200, 160))


def simulated(product: str, index: int = 0, *, noise: bool = True) -> Frame:
    options = {} if noise else {"depth_noise": None, "colour_noise": None}
    scene = RigScene(product, 7, defective_share=0.0, width_px=320, height_px=240, **options)  # type: ignore[arg-type]
    shot = scene.shot(index)
    assert shot is not None
    return frame_from_shot(scene, index, shot)


def config(framing: FramingConfig = UPRIGHT, **changed: object) -> Preprocessing:
    sizes = {"image_px": 96, "depth_px": 64, "map_cells": 8, "framing": framing}
    return Preprocessing.model_validate({**sizes, **changed})


@pytest.fixture(scope="module")
def frame() -> Frame:
    return simulated("blob")


def arrays_of(prepared: Prepared) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in prepared.tensors.items()}


@pytest.mark.parametrize("framing", [WHOLE, UPRIGHT, LYING, ROI])
def test_each_tensor_is_made_if_it_is_asked_for_and_only_then(frame: Frame, framing: FramingConfig) -> None:
    setup = config(framing)
    every = preprocess(frame, setup, set(TENSORS))
    for count in range(len(TENSORS) + 1):
        for wanted in itertools.combinations(TENSORS, count):
            made = preprocess(frame, setup, set(wanted))
            assert set(made.tensors) == set(wanted)
            for name in wanted:  # and it is the same, whatever else is asked for
                assert made.tensors[name].tobytes() == every.tensors[name].tobytes()


@pytest.mark.parametrize("sizes", [(96, 64, 8), (64, 96, 24), (33, 8, 8), (128, 128, 2)])
@pytest.mark.parametrize("source", ["raw", "height"])
def test_each_tensor_has_the_type_and_shape_that_was_promised(
    frame: Frame, sizes: tuple[int, int, int], source: str
) -> None:
    setup = config(image_px=sizes[0], depth_px=sizes[1], map_cells=sizes[2], z={"source": source})
    made = preprocess(frame, setup, set(TENSORS)).tensors
    assert {name: (str(a.dtype), a.shape) for name, a in made.items()} == tensor_shapes(setup)
    assert all(array.flags.c_contiguous for array in made.values())
    assert set(np.unique(made["mask"])) <= {0.0, 1.0}


def test_the_same_frame_gives_the_same_bytes_and_stays_as_it_was(frame: Frame) -> None:
    before = frame.rgb.tobytes(), frame.depth_m.tobytes()
    first = arrays_of(preprocess(frame, config(), set(TENSORS)))
    again = arrays_of(preprocess(simulated("blob"), config(), set(TENSORS)))
    assert first == again
    assert (frame.rgb.tobytes(), frame.depth_m.tobytes()) == before


def half_turn(frame: Frame) -> Frame:
    """The frame as the same camera sees it when it hangs the other way round."""
    i = frame.intrinsics
    optics = Intrinsics(
        i.width_px, i.height_px, i.fx_px, i.fy_px, i.width_px - 1 - i.cx_px, i.height_px - 1 - i.cy_px
    )
    return replace(frame, rgb=frame.rgb[::-1, ::-1], depth_m=frame.depth_m[::-1, ::-1], intrinsics=optics)


@pytest.mark.parametrize("index", [0, 1, 2])
def test_an_upright_view_is_the_same_of_a_camera_that_hangs_the_other_way_round(index: int) -> None:
    frame = simulated("blob", index)
    setup = config(UPRIGHT)
    one, other = (preprocess(f, setup, {"image", "z"}) for f in (frame, half_turn(frame)))
    image, turned = (p.tensors["image"].astype(float) for p in (one, other))
    assert np.abs(image - turned).mean() < 2.0
    assert np.abs(image - turned[:, ::-1, ::-1]).mean() > 6.0  # which way round shows
    z, turned_z = (pixel_shuffle(p.tensors["z"][0].astype(np.float32), 8) for p in (one, other))
    assert np.abs(z - turned_z).mean() < 0.02
    assert one.part_area_mm2 == pytest.approx(other.part_area_mm2, rel=0.01)
    lying = (preprocess(f, config(LYING), {"image"}).tensors["image"] for f in (frame, half_turn(frame)))
    image, turned = (array.astype(float) for array in lying)
    assert np.abs(image - turned[:, ::-1, ::-1]).mean() < 2.0


def test_a_view_turned_by_an_angle_shows_the_part_turned(frame: Frame) -> None:
    straight = preprocess(frame, config(LYING), {"image"}).tensors["image"][0].astype(float)
    quarter = preprocess(frame, config(LYING), {"image"}, angle_deg=90.0).tensors["image"][0].astype(float)
    assert np.abs(np.rot90(straight, 1) - quarter).mean() < 1.0
    assert np.abs(np.rot90(straight, -1) - quarter).mean() > 4.0


@pytest.mark.parametrize("framing", [WHOLE, UPRIGHT, ROI])
def test_without_a_part_the_part_is_empty_and_the_tensors_are_those_of_an_empty_view(
    framing: FramingConfig,
) -> None:
    scene = RigScene("blob", 7, width_px=320, height_px=240)
    made = preprocess(frame_from_shot(scene, 0, scene.tray(0)), config(framing), set(TENSORS))
    assert not made.part.any()
    assert not made.mask.any()
    assert made.part_area_mm2 == 0
    assert made.lost_share == 0
    assert not made.tensors["z"].any()
    assert not made.tensors["mask"].any()
    assert (made.tensors["normals"] == 128).all()  # flat: the bed's noise is no shape


def test_a_block_has_the_area_and_the_height_that_it_has() -> None:
    block = flat_frame(width_px=200, height_px=150, part_height_m=0.02)
    setup = config(WHOLE, z={"source": "height", "scale_m": 0.01}, foreground={"dilation_px": 0})
    made = preprocess(block, setup, {"z", "mask"})
    pixel_mm = 300 / 200
    assert made.pixel_mm == pytest.approx(pixel_mm, rel=1e-4)
    assert made.part_area_mm2 == pytest.approx(100 * 76 * pixel_mm**2, rel=0.03)
    assert made.plane.distance_m == pytest.approx(0.3, rel=1e-4)
    # All of it is equally high, so nothing of it is higher than its mean; at the edge the view mixes.
    z = pixel_shuffle(made.tensors["z"][0].astype(np.float32), 8)
    assert np.abs(z[20:44, 20:44]).max() < 0.15
    sloped = np.where(made.part, np.linspace(0.285, 0.275, 200, dtype=np.float32)[None], block.depth_m)
    tilted = preprocess(replace(block, depth_m=sloped.astype(np.float32)), setup, {"z"}).tensors["z"]
    across = pixel_shuffle(tilted[0].astype(np.float32), 8)[32, 20:44]
    assert across[-1] - across[0] == pytest.approx(0.5 * 24 / 32, rel=0.1)  # 5 mm over the block, in 10 mm


def test_the_mask_is_grown_by_what_is_asked() -> None:
    block = flat_frame(width_px=200, height_px=150, part_height_m=0.02)
    tight = preprocess(block, config(WHOLE, foreground={"dilation_px": 0}), {"mask"}).mask
    grown = preprocess(block, config(WHOLE, foreground={"dilation_px": 3}), {"mask"}).mask
    assert grown[32].sum() == tight[32].sum() + 6
    assert grown[:, 32].sum() == tight[:, 32].sum() + 6


def test_a_cell_belongs_to_the_mask_where_any_of_its_pixels_does(frame: Frame) -> None:
    made = preprocess(frame, config(), {"mask"})
    cells = made.mask.reshape(8, 8, 8, 8).any(axis=(1, 3))
    assert (made.tensors["mask"][0, 0].astype(bool) == cells).all()


@pytest.mark.parametrize("source", ["raw", "height"])
def test_missing_depth_inside_the_part_is_filled_from_around_it(source: str) -> None:
    frame = simulated("blob", noise=False)
    setup = config(z={"source": source})
    whole = preprocess(frame, setup, set(TENSORS))
    rows, columns = np.nonzero(whole.part)
    y, x = round(rows.mean()), round(columns.mean())
    depth_m = frame.depth_m.copy()
    depth_m[y - 4 : y + 5, x - 4 : x + 5] = 0.0
    holed = preprocess(replace(frame, depth_m=depth_m), setup, set(TENSORS))
    for array in holed.tensors.values():
        assert np.isfinite(array.astype(float)).all()
    difference = np.abs(holed.tensors["z"].astype(float) - whole.tensors["z"])
    assert difference.max() < 0.2  # 2 mm: a hole read as depth 0 would be at the clamp
    assert (holed.part == whole.part).mean() > 0.999


@pytest.mark.parametrize("clamp", [0.25, 8.0])
@pytest.mark.parametrize("source", ["raw", "height"])
def test_z_stays_within_its_clamp_whatever_spikes_there_are(frame: Frame, clamp: float, source: str) -> None:
    depth_m = frame.depth_m.copy()
    part = preprocess(frame, config(), set()).part
    rows, columns = np.nonzero(part)
    y, x = round(rows.mean()), round(columns.mean())
    depth_m[y - 5 : y + 5, x - 5 : x + 5] = 0.01
    made = preprocess(
        replace(frame, depth_m=depth_m), config(z={"source": source, "clamp": clamp}), {"z", "mask"}
    )
    assert np.abs(made.tensors["z"]).max() == clamp
    outside = pixel_shuffle(made.tensors["z"][0].astype(np.float32), 8)[~made.mask]
    assert not outside.any()


@settings(max_examples=150, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    missing=st.floats(0, 1),
    block_px=st.integers(1, 40),
    spread=st.sampled_from([0.0, 0.002, 0.02, 1.0]),
    source=st.sampled_from(["raw", "height"]),
    framing=st.sampled_from([WHOLE, ROI.model_copy(update={"roi_px": (3, 5, 40, 30)}), LYING, UPRIGHT]),
    fill=st.booleans(),
)
def test_any_depth_gives_finite_tensors_or_is_said_to_be_unusable(
    *,
    seed: int,
    missing: float,
    block_px: int,
    spread: float,
    source: str,
    framing: FramingConfig,
    fill: bool,
) -> None:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(0.05, 2.0, (60 // block_px + 1, 80 // block_px + 1))
    depth_m = coarse.repeat(block_px, axis=0).repeat(block_px, axis=1)[:60, :80]
    depth_m = np.clip(0.4 + (depth_m - 0.4) * spread, 0.05, 2.0)
    depth_m[rng.random((60, 80)) < missing] = 0.0
    frame = replace(flat_frame(width_px=80, height_px=60), depth_m=depth_m.astype(np.float32))
    setup = config(framing, z={"source": source}, foreground={"min_area_mm2": 1.0, "fill": fill})
    try:
        made = preprocess(frame, setup, set(TENSORS))
    except DepthUnusable:
        return
    for name, array in made.tensors.items():
        assert np.isfinite(array.astype(float)).all(), name
    assert np.abs(made.tensors["z"]).max() <= 8.0
    assert 0 <= made.lost_share <= 1
    assert made.part_area_mm2 >= 0


def test_depth_too_near_and_too_far_to_be_true_breaks_nothing() -> None:
    exponents = np.random.default_rng(0).uniform(-44, 38, (60, 80))
    frame = replace(
        flat_frame(width_px=80, height_px=60), depth_m=np.power(10.0, exponents).astype(np.float32)
    )
    for source in ("raw", "height"):
        with np.errstate(over="ignore", invalid="ignore"):
            made = preprocess(frame, config(WHOLE, z={"source": source}), set(TENSORS))
        for array in made.tensors.values():
            assert np.isfinite(array.astype(float)).all()


@pytest.mark.parametrize("cut_px", [0, 10, 25, 40])
def test_the_share_of_the_part_outside_the_view_is_counted(frame: Frame, cut_px: int) -> None:
    part = preprocess(frame, config(WHOLE), set()).part
    _, columns = np.nonzero(part)
    left = int(columns.min()) + cut_px
    roi = FramingConfig(mode="roi", roi_px=(left, 0, 320 - left, 240))
    lost = preprocess(frame, config(roi), set()).lost_share
    assert lost == pytest.approx(float((columns < left).mean()), abs=1e-9)
    assert (lost > 0) == (cut_px > 0)


@pytest.mark.parametrize("angle_deg", [0.0, 30.0, 45.0, 137.0])
def test_a_turned_window_that_is_large_enough_loses_nothing_and_a_small_one_does(
    frame: Frame, angle_deg: float
) -> None:
    large = preprocess(frame, config(LYING), set(), angle_deg=angle_deg)
    small = preprocess(frame, config(FramingConfig(mode="part", window_px=30)), set(), angle_deg=angle_deg)
    assert large.lost_share == 0
    seen_px = small.part.sum() * (1 - small.lost_share)
    assert seen_px == pytest.approx(30 * 30, rel=0.05)  # an edge may run through pixel centres


def test_depth_that_shows_no_background_is_unusable(frame: Frame) -> None:
    with pytest.raises(DepthUnusable, match="only 0 pixels"):
        preprocess(replace(frame, depth_m=np.zeros_like(frame.depth_m)), config(), {"image"})


def test_depth_is_the_camera_s_own_and_missing_depth_stays_missing(frame: Frame) -> None:
    made = preprocess(frame, config(), {"depth"}).tensors["depth"]
    values: npt.NDArray[np.float32] = np.unique(frame.depth_m)
    assert np.isin(made, values).all()  # nothing mixed, nothing filled
    assert (made == 0).any() == bool((frame.depth_m == 0).any())


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"depth_px": 65}, "depth_px 65 is not a multiple of map_cells 8"),
        ({"image_px": 8}, "image_px"),
        ({"foreground": {"part_threshold_m": 0}}, "part_threshold_m"),
        ({"foreground": {"border_share": 0.6}}, "border_share"),
        ({"z": {"source": "disparity"}}, "source"),
        ({"z": {"clamp": 0}}, "clamp"),
        ({"normals": {"relief_m": 0}}, "relief_m"),
        ({"smoothing": 1}, "smoothing"),
    ],
)
def test_a_preprocessing_that_can_t_be(changed: dict[str, object], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        config(**changed)


def test_the_defaults_are_whole() -> None:
    assert Preprocessing(framing=WHOLE).unshuffle == 8
    assert ForegroundConfig().mask_threshold_m < ForegroundConfig().part_threshold_m
    assert ZConfig().source == "height"
