"""The simulated rig: the same shot whenever asked, honest masks, images like the camera's."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timezone

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge.errors import ConfigError
from edge.frame import Frame
from edge.simulation import DEFECTS, PRODUCTS, Appearance, RigScene, Scene, Shot


def taken(scene: Scene, index: int) -> Shot:
    shot = scene.shot(index)
    if shot is None:
        raise AssertionError(f"the scene ended before shot {index}")
    return shot


def same(one: Shot, two: Shot) -> bool:
    return (
        one.rgb.tobytes() == two.rgb.tobytes()
        and one.depth_m.tobytes() == two.depth_m.tobytes()
        and one.truth_mask.tobytes() == two.truth_mask.tobytes()
        and (one.part_id, one.defect) == (two.part_id, two.defect)
    )


def grown(mask: npt.NDArray[np.bool_], by_px: int) -> npt.NDArray[np.bool_]:
    kernel = np.ones((2 * by_px + 1, 2 * by_px + 1), np.uint8)
    return cv2.dilate(mask.astype(np.uint8), kernel) > 0


def test_there_are_four_products_and_six_defects() -> None:
    assert set(PRODUCTS) == {"blob", "plate", "ring", "lattice"}
    assert DEFECTS == ("dent", "crack", "perforation", "scratch", "foreign_same", "foreign_other")


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_shot_is_the_same_in_any_order_and_from_any_scene(product: str) -> None:
    scene = RigScene(product, 11)
    forwards = [taken(scene, i) for i in range(3)]
    again = RigScene(product, 11)
    for index in (2, 0, 1, 2):
        assert same(taken(again, index), forwards[index])
    assert not same(forwards[0], forwards[1])
    assert not same(taken(RigScene(product, 12), 0), forwards[0])


def test_a_shot_does_not_depend_on_the_number_of_threads() -> None:
    threads = cv2.getNumThreads()
    try:
        cv2.setNumThreads(1)
        alone = taken(RigScene("ring", 8), 1)
        cv2.setNumThreads(4)
        together = taken(RigScene("ring", 8), 1)
    finally:
        cv2.setNumThreads(threads)
    assert same(alone, together)


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_the_mask_is_where_part_and_defect_are(product: str, kind: str) -> None:
    scene = RigScene(product, 3, defective_share=1.0, defects=[kind])
    for index in range(2):
        shot = taken(scene, index)
        assert shot.defect == kind
        assert shot.part_id == f"{product}-{index:05d}"
        assert 8 <= shot.truth_mask.sum() < 2500
        # A foreign body may hang over the edge of the part by some pixels.
        near = grown(scene.part_mask(index), 12)
        assert (shot.truth_mask & ~near).sum() == 0


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_the_mask_is_honest(product: str, kind: str) -> None:
    """Held against ideal images of the same part with and without the defect."""
    good = RigScene(product, 5, defective_share=0, depth_noise=None, colour_noise=None)
    bad = RigScene(product, 5, defective_share=1, defects=[kind], depth_noise=None, colour_noise=None)
    for index in range(2):
        one, two = taken(good, index), taken(bad, index)
        step_m = np.abs(one.depth_m - two.depth_m)
        # All that differs in shape lies in the mask (but for half-covered pixels around it).
        assert ((step_m > 0.6e-3) & ~grown(two.truth_mask, 2)).sum() == 0
        # And what lies in the mask differs: in shape, or visibly in colour.
        colour = np.abs(one.rgb.astype(int) - two.rgb.astype(int)).max(axis=2)
        visible = (step_m > 0.15e-3) | (colour >= 5)
        assert visible[two.truth_mask].mean() > 0.9


def test_good_parts_have_an_empty_mask() -> None:
    for product in PRODUCTS:
        shot = taken(RigScene(product, 1, defective_share=0), 0)
        assert shot.defect is None
        assert not shot.truth_mask.any()


@pytest.mark.parametrize("kind", DEFECTS)
@pytest.mark.parametrize("product", PRODUCTS)
def test_a_careful_person_could_see_the_defect(product: str, kind: str) -> None:
    good = RigScene(product, 14, defective_share=0, depth_noise=None, colour_noise=None)
    bad = RigScene(product, 14, defective_share=1, defects=[kind], depth_noise=None, colour_noise=None)
    one, two = taken(good, 0), taken(bad, 0)
    contrast = np.abs(one.rgb.astype(np.float32) - two.rgb).max(axis=2)
    # A dozen pixels that differ by several times the imager's noise of 1.6.
    assert (cv2.blur(contrast, (3, 3))[two.truth_mask] >= 10).sum() >= 12


def test_severity_enlarges_the_mask() -> None:
    def area(severity: float) -> int:
        scene = RigScene("plate", 2, defective_share=1, defects=["dent"], severity=severity)
        return sum(int(taken(scene, i).truth_mask.sum()) for i in range(4))

    assert area(3.0) > 1.5 * area(1.0)


@settings(max_examples=12, deadline=None)
@given(product=st.sampled_from(PRODUCTS), seed=st.integers(0, 2**31), index=st.integers(0, 10**6))
def test_every_shot_is_a_valid_frame(product: str, seed: int, index: int) -> None:
    scene = RigScene(product, seed, empty_share=0.1)
    shot = taken(scene, index)
    frame = Frame(
        rgb=shot.rgb,
        depth_m=shot.depth_m,
        depth_unit_m=scene.depth_unit_m,
        intrinsics=scene.intrinsics,
        captured_ns=0,
        captured_utc=datetime(2024, 1, 1, tzinfo=timezone.utc),
        seq=index,
        source="simulated",
        part_id=shot.part_id,
    )
    valid = frame.depth_m[frame.depth_m > 0]
    assert valid.size / frame.depth_m.size > 0.9
    assert valid.min() > 0.07
    assert valid.max() < 0.5
    # A push as z16 loses nothing.
    unit = np.float32(scene.depth_unit_m)
    integers = np.rint(shot.depth_m / unit).astype(np.uint16)
    np.testing.assert_array_equal(integers.astype(np.float32) * unit, shot.depth_m)
    assert shot.truth_mask.dtype == np.bool_
    assert shot.truth_mask.shape == shot.depth_m.shape
    assert shot.truth_mask.any() == (shot.defect is not None)


@pytest.mark.parametrize("product", PRODUCTS)
def test_the_part_rises_above_the_tray_and_differs_in_colour(product: str) -> None:
    scene = RigScene(product, 4, defective_share=0, depth_noise=None)
    shot, tray = taken(scene, 0), scene.tray(0)
    part = scene.part_mask(0)
    rise_m = tray.depth_m - shot.depth_m
    assert 3e-3 < np.median(rise_m[part]) < 15e-3
    assert rise_m.max() < 20e-3
    assert np.abs(rise_m[~grown(part, 3)]).max() < 0.25e-3
    difference = np.abs(shot.rgb.astype(int) - tray.rgb.astype(int)).max(axis=2)
    assert np.median(difference[part]) > 30
    extent_mm = np.sqrt(part.sum()) * 0.24 / scene.intrinsics.fx_px * 1e3
    assert 40 < extent_mm < 90


def test_parts_lie_in_many_poses_inside_the_frame() -> None:
    scene = RigScene("ring", 9, defective_share=0)
    centres = []
    for index in range(12):
        rows, columns = np.nonzero(scene.part_mask(index))
        assert rows.min() > 5
        assert columns.min() > 35  # right of the strip without depth
        assert rows.max() < 474
        assert columns.max() < 634
        centres.append((rows.mean(), columns.mean()))
    assert (np.std(centres, axis=0) > 10).all()


def test_depth_holes_gather_at_the_edges_of_a_part() -> None:
    scene = RigScene("ring", 6, defective_share=0)
    shot = taken(scene, 0)
    part = scene.part_mask(0)
    edge = grown(part, 2) & grown(~part, 2)
    invalid = shot.depth_m == 0
    far = ~grown(part, 30)
    far[:, :40] = False
    assert invalid[edge].mean() > 5 * invalid[far].mean()


def test_the_share_of_defects_and_their_kinds_are_those_asked_for() -> None:
    scene = RigScene(
        "blob",
        1,
        parts=60,
        defective_share=0.5,
        defects=["dent", "scratch"],
        empty_share=0.2,
        depth_noise=None,
        colour_noise=None,
    )
    shots = [taken(scene, i) for i in range(60)]
    kinds = Counter(shot.defect for shot in shots)
    empty = sum(shot.part_id.startswith("empty-") for shot in shots)
    assert set(kinds) == {None, "dent", "scratch"}
    assert 5 <= empty <= 20
    assert 15 <= kinds["dent"] + kinds["scratch"] <= 35
    assert len({shot.part_id for shot in shots}) == 60


def test_a_bounded_scene_ends() -> None:
    scene = RigScene("blob", 1, parts=2)
    assert scene.shot(1) is not None
    assert scene.shot(2) is None


def test_an_empty_tray_has_no_part_and_a_plane_for_depth() -> None:
    scene = RigScene("plate", 1, empty_share=1.0)
    shot = taken(scene, 7)
    assert shot.part_id == "empty-00007"
    assert shot.defect is None
    assert not shot.truth_mask.any()
    assert same(shot, scene.tray(7))
    ideal = RigScene("plate", 1, depth_noise=None).tray(7)
    valid = shot.depth_m > 0
    assert np.median(np.abs(shot.depth_m - ideal.depth_m)[valid]) < 1e-3


@pytest.mark.parametrize(("width_px", "height_px"), [(424, 240), (848, 480), (1280, 720)])
def test_other_modes_of_the_camera_render_too(width_px: int, height_px: int) -> None:
    scene = RigScene("lattice", 1, width_px=width_px, height_px=height_px, defective_share=1)
    shot = taken(scene, 0)
    assert shot.rgb.shape == (height_px, width_px, 3)
    assert shot.depth_m.shape == (height_px, width_px)
    assert shot.truth_mask.any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"product": "spoon"}, "spoon.*blob, plate, ring, lattice"),
        ({"seed": -1}, "seed is -1"),
        ({"parts": -3}, "parts are -3"),
        ({"defective_share": 1.5}, "defective_share is 1.5"),
        ({"empty_share": -0.1}, "empty_share is -0.1"),
        ({"defects": ["rust"]}, "rust.*dent"),
        ({"defects": []}, "one or more"),
        ({"severity": 0.0}, "severity is 0"),
        ({"appearance": Appearance(reach_m=(0.2, 0.03))}, "leave the frame"),
    ],
)
def test_impossible_arguments_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        RigScene(**{"product": "blob", "seed": 1, **arguments})  # type: ignore[arg-type]  # wrong on purpose


def test_a_negative_shot_is_refused() -> None:
    with pytest.raises(ConfigError, match="counted from 0"):
        RigScene("blob", 1).shot(-1)


def test_impossible_appearances_are_refused() -> None:
    with pytest.raises(ConfigError, match="above the tray"):
        Appearance(distance_m=2.0)
    with pytest.raises(ConfigError, match="tilted"):
        Appearance(tilt_deg=45)
