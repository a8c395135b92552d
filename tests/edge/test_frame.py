from __future__ import annotations

import math
from dataclasses import FrozenInstanceError, replace
from datetime import datetime, timedelta, timezone

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge.errors import FrameError
from edge.frame import Frame, Intrinsics
from edge.testing.frames import flat_frame

NOON = datetime(2030, 1, 1, 12, tzinfo=timezone.utc)


def depth_with(value: float, row: int = 2, column: int = 5) -> npt.NDArray[np.float32]:
    depth_m = np.full((48, 64), 0.3, np.float32)
    depth_m[row, column] = value
    return depth_m


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"rgb": np.zeros((48, 64, 3), np.float32)}, ["float32(48, 64, 3)", "uint8(48, 64, 3)"]),
        ({"rgb": np.zeros((48, 64), np.uint8)}, ["uint8(48, 64)", "(48, 64, 3)"]),
        ({"rgb": np.zeros((48, 64, 4), np.uint8)}, ["(48, 64, 4)", "(48, 64, 3)"]),
        ({"rgb": np.zeros((64, 48, 3), np.uint8)}, ["(64, 48, 3)", "(48, 64, 3)"]),
        ({"depth_m": np.zeros((48, 64), np.float64)}, ["float64(48, 64)", "float32(48, 64)"]),
        ({"depth_m": np.zeros((48, 64), np.uint16)}, ["uint16(48, 64)", "float32(48, 64)"]),
        ({"depth_m": np.zeros((48, 64), ">f4")}, [">f4(48, 64)", "float32(48, 64)"]),
        ({"depth_m": np.zeros((24, 32), np.float32)}, ["(24, 32)", "(48, 64)", "aligned"]),
        ({"depth_m": np.zeros((48, 64, 1), np.float32)}, ["(48, 64, 1)", "(48, 64)"]),
        ({"depth_m": depth_with(math.nan)}, ["1 of 3072", "nan", "row 2, column 5"]),
        ({"depth_m": depth_with(math.inf)}, ["1 of 3072", "inf", "row 2, column 5"]),
        ({"depth_m": depth_with(-0.25)}, ["1 of 3072", "-0.25", "row 2, column 5"]),
        ({"depth_unit_m": 0.0}, ["depth_unit_m is 0.0", "device"]),
        ({"depth_unit_m": -1e-4}, ["depth_unit_m is -0.0001"]),
        ({"depth_unit_m": math.nan}, ["depth_unit_m is nan"]),
        ({"depth_unit_m": math.inf}, ["depth_unit_m is inf"]),
        ({"captured_utc": NOON.replace(tzinfo=None)}, ["2030-01-01 12:00:00", "UTC"]),
        ({"captured_utc": NOON.astimezone(timezone(timedelta(hours=2)))}, ["14:00:00+02:00", "UTC"]),
    ],
)
def test_what_can_t_be_right_is_refused_with_its_numbers(
    changed: dict[str, object], words: list[str]
) -> None:
    good = flat_frame(7, part_id="lot-4")
    with pytest.raises(FrameError) as caught:
        replace(good, **changed)  # type: ignore[arg-type]  # wrong on purpose
    assert "frame 7 of replay (lot-4)" in str(caught.value)
    for word in words:
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("optics", "words"),
    [
        ((0, 48, 60.0, 60.0, 31.5, 23.5), ["0×48"]),
        ((64, -1, 60.0, 60.0, 31.5, 23.5), ["64×-1"]),
        ((64, 48, 0.0, 60.0, 31.5, 23.5), ["fx=0.0", "capture.yaml"]),
        ((64, 48, 60.0, -60.0, 31.5, 23.5), ["fy=-60.0"]),
        ((64, 48, math.nan, 60.0, 31.5, 23.5), ["fx=nan"]),
        ((64, 48, 60.0, 60.0, math.inf, 23.5), ["cx=inf"]),
        ((64, 48, 60.0, 60.0, 31.5, math.nan), ["cy=nan"]),
    ],
)
def test_optics_of_no_camera_are_refused(
    optics: tuple[int, int, float, float, float, float], words: list[str]
) -> None:
    with pytest.raises(FrameError) as caught:
        Intrinsics(*optics)
    for word in words:
        assert word in str(caught.value)


def test_a_principal_point_outside_a_cropped_image_is_allowed() -> None:
    assert Intrinsics(64, 48, 60.0, 60.0, -20.0, 300.0).cx_px == -20.0


@given(st.integers(0, 47), st.integers(0, 63), st.sampled_from([math.nan, math.inf, -math.inf, -1e-30, -5.0]))
def test_one_wrong_depth_anywhere_is_found_and_located(row: int, column: int, value: float) -> None:
    with pytest.raises(FrameError, match=f"row {row}, column {column};"):
        replace(flat_frame(), depth_m=depth_with(value, row, column))


def test_a_frame_keeps_its_own_arrays() -> None:
    buffer_rgb = np.full((48, 64, 3), 9, np.uint8)
    buffer_depth_m = np.full((48, 64), 0.3, np.float32)
    frame = replace(flat_frame(), rgb=buffer_rgb, depth_m=buffer_depth_m)
    buffer_rgb[:] = 0  # the driver writes its next frame
    buffer_depth_m[:] = np.nan
    assert (frame.rgb == 9).all()
    assert (frame.depth_m == np.float32(0.3)).all()
    assert not np.shares_memory(frame.rgb, buffer_rgb)


def test_a_frame_can_t_be_changed() -> None:
    frame = flat_frame()
    for array in (frame.rgb, frame.depth_m):
        with pytest.raises(ValueError, match="read-only"):
            array[0, 0] = 1
    with pytest.raises(FrozenInstanceError):
        frame.seq = 2  # type: ignore[misc]  # that it can't is what is tested


def test_arrays_come_out_contiguous_whatever_the_driver_gave() -> None:
    wide = np.zeros((48, 128, 3), np.uint8)
    frame = replace(
        flat_frame(), rgb=wide[:, ::2, ::-1], depth_m=np.asfortranarray(np.ones((48, 64), np.float32))
    )
    assert frame.rgb.flags.c_contiguous
    assert frame.depth_m.flags.c_contiguous


def test_missing_depth_is_no_mistake_and_the_size_is_that_of_the_optics() -> None:
    frame: Frame = replace(flat_frame(), depth_m=np.zeros((48, 64), np.float32))
    assert (frame.height_px, frame.width_px) == (48, 64)
