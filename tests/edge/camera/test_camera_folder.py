"""Folders of captures: written, listed, read back; what does not fit together is named."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge.camera.config import FolderCamera
from edge.camera.depth_integers import depth_m_from_z16, exact_unit, z16_from_depth_m
from edge.camera.folder import FolderSource
from edge.captures import (
    CaptureInfo,
    IntrinsicsInfo,
    list_captures,
    read_capture_info,
    write_capture,
    write_capture_info,
)
from edge.errors import CameraError, CaptureError, FrameError
from edge.frame import Frame


def _frames(noise_scene: Callable[..., Any], count: int) -> list[tuple[Frame, Any]]:
    from datetime import datetime, timezone

    scene = noise_scene(count)
    return [
        (
            Frame(
                rgb=shot.rgb,
                depth_m=shot.depth_m,
                depth_unit_m=scene.depth_unit_m,
                intrinsics=scene.intrinsics,
                captured_ns=0,
                captured_utc=datetime.now(timezone.utc),
                seq=index,
                source="test",
            ),
            shot.truth_mask,
        )
        for index, shot in ((index, scene.shot(index)) for index in range(count))
    ]


@pytest.fixture
def captures(noise_scene: Callable[..., Any], tmp_path: Path) -> tuple[Path, list[tuple[Frame, Any]]]:
    """good/000, good/001, dent/000 (with its mask), scratch/000 (mask unknown)."""
    folder = tmp_path / "plate" / "2026-01-01-a"
    frames = _frames(noise_scene, 4)
    write_capture_info(
        folder,
        CaptureInfo(
            depth_unit_m=0.0001,
            intrinsics=IntrinsicsInfo.of(frames[0][0].intrinsics),
            serial="42",
            options={"exposure": 8000.0},
        ),
    )
    write_capture(folder, "good", frames[0][0])
    write_capture(folder, "good", frames[1][0])
    write_capture(folder, "dent", *frames[2])
    write_capture(folder, "scratch", frames[3][0])
    return folder, frames


def _open(folder: Path, **config: Any) -> FolderSource:
    return FolderSource(FolderCamera(path=folder, **config))


def test_what_is_written_is_read_bit_for_bit(captures: tuple[Path, Any]) -> None:
    folder, frames = captures
    with _open(folder) as source:
        read = list(source)
        assert source.read() is None
    assert [frame.part_id for frame in read] == ["dent/000", "good/000", "good/001", "scratch/000"]
    assert [frame.seq for frame in read] == [0, 1, 2, 3]
    for frame, (written, _) in zip(read, [frames[2], frames[0], frames[1], frames[3]], strict=True):
        assert np.array_equal(frame.rgb, written.rgb)
        assert np.array_equal(frame.depth_m, written.depth_m)
        assert frame.depth_unit_m == written.depth_unit_m
        assert frame.intrinsics == written.intrinsics
    assert source.health().details["of_frames"] == "4"


def test_samples_carry_their_labels_and_masks(captures: tuple[Path, Any]) -> None:
    folder, frames = captures
    samples = {sample.part_id: sample for sample in list_captures(folder)}
    assert samples["good/000"].defect is None
    assert not samples["good/000"].mask().any()
    assert samples["dent/000"].defect == "dent"
    assert np.array_equal(samples["dent/000"].mask(), frames[2][1])
    assert samples["scratch/000"].mask_path is None


def test_files_are_what_a_person_can_open(captures: tuple[Path, Any]) -> None:
    folder, frames = captures
    assert sorted(path.name for path in (folder / "dent").iterdir()) == [
        "000.depth.png",
        "000.mask.png",
        "000.rgb.png",
    ]
    depth = cv2.imread(str(folder / "good/000.depth.png"), cv2.IMREAD_UNCHANGED)
    assert depth.dtype == np.uint16
    assert np.array_equal(depth, np.rint(frames[0][0].depth_m / 1e-4).astype(np.uint16))
    bgr = cv2.imread(str(folder / "good/000.rgb.png"))
    assert np.array_equal(bgr[..., ::-1], frames[0][0].rgb)
    assert "depth_unit_m: 0.0001" in (folder / "capture.yaml").read_text()


def test_nothing_is_overwritten(captures: tuple[Path, Any]) -> None:
    folder, frames = captures
    sample = write_capture(folder, "good", frames[3][0])
    assert sample.part_id == "good/002"
    (folder / "good/001.rgb.png").unlink()
    (folder / "good/001.depth.png").unlink()
    assert write_capture(folder, "good", frames[3][0]).part_id == "good/003"
    info = read_capture_info(folder)
    write_capture_info(folder, info)
    with pytest.raises(CaptureError, match="new folder"):
        write_capture_info(folder, info.model_copy(update={"serial": "43"}))
    assert read_capture_info(folder) == info


def test_numbers_beyond_999_stay_in_order(captures: tuple[Path, Any]) -> None:
    folder, _ = captures
    for kind in ("rgb", "depth"):
        for name in ("998", "1000", "999"):
            shutil.copy(folder / f"good/000.{kind}.png", folder / f"good/{name}.{kind}.png")
    good = [sample.part_id for sample in list_captures(folder) if sample.defect is None]
    assert good[-3:] == ["good/998", "good/999", "good/1000"]


def _resized_depth(folder: Path) -> None:
    path = folder / "good/001.depth.png"
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), image[:-1])


def _eight_bits(folder: Path) -> None:
    path = folder / "good/001.depth.png"
    image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    cv2.imwrite(str(path), (image // 256).astype(np.uint8))


def _grey_rgb(folder: Path) -> None:
    path = folder / "good/001.rgb.png"
    cv2.imwrite(str(path), cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))


def _cut(path: str) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[: len(data) // 2])

    return cut


def _rewrite(path: str, old: str, new: str) -> Callable[[Path], None]:
    def rewrite(folder: Path) -> None:
        text = (folder / path).read_text()
        assert old in text
        (folder / path).write_text(text.replace(old, new))

    return rewrite


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_resized_depth, r"good/001\.depth\.png: is 64×47.*64×48"),
        (lambda folder: (folder / "good/001.depth.png").unlink(), r"good/001\.depth\.png: is missing"),
        (lambda folder: (folder / "good/001.rgb.png").unlink(), r"good/001\.rgb\.png: is missing"),
        (lambda folder: (folder / "good/001.rgb.png").write_bytes(b""), r"good/001\.rgb\.png: is not a PNG"),
        (lambda folder: (folder / "capture.yaml").unlink(), "capture.yaml"),
        (_rewrite("capture.yaml", "depth_unit_m: 0.0001", "depth_unit_m: 0"), "depth_unit_m"),
        (_rewrite("capture.yaml", "serial", "seriel"), "seriel.*allowed: depth_unit_m"),
        (_rewrite("capture.yaml", "serial:", "\tserial"), "not YAML"),
        (
            lambda folder: shutil.copy(folder / "dent/000.mask.png", folder / "good/000.mask.png"),
            "good part has no defect mask",
        ),
    ],
)
def test_a_folder_that_does_not_fit_together_is_refused_at_open(
    captures: tuple[Path, Any], damage: Callable[[Path], object], complaint: str
) -> None:
    folder, _ = captures
    damage(folder)
    with pytest.raises(CaptureError, match=complaint):
        _open(folder, layout="captures").open()


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (_eight_bits, r"good/001\.depth\.png: is uint8"),
        (_grey_rgb, r"good/001\.rgb\.png: is uint8\(48, 64\)"),
        (_cut("good/001.depth.png"), r"good/001\.depth\.png"),
    ],
)
def test_an_image_that_can_not_be_read_is_named(
    captures: tuple[Path, Any], damage: Callable[[Path], object], complaint: str
) -> None:
    folder, _ = captures
    damage(folder)
    with _open(folder) as source:
        assert source.read() is not None
        assert source.read() is not None
        with pytest.raises(CaptureError, match=complaint):
            source.read()


def test_write_refuses_what_it_can_not_keep(captures: tuple[Path, Any]) -> None:
    folder, frames = captures
    frame, mask = frames[2]
    before = sorted(folder.rglob("*"))
    with pytest.raises(CaptureError, match="no defect mask"):
        write_capture(folder, "good", frame, mask)
    with pytest.raises(CaptureError, match="label"):
        write_capture(folder, "../dent", frame)
    with pytest.raises(CaptureError, match="mask is"):
        write_capture(folder, "dent", frame, mask[:-1])
    other = CaptureInfo(depth_unit_m=0.001, intrinsics=IntrinsicsInfo.of(frame.intrinsics))
    write_capture_info(folder.parent / "b", other)
    with pytest.raises(CaptureError, match="not the frame's"):
        write_capture(folder.parent / "b", "good", frame)
    assert sorted(folder.rglob("*")) == before


def test_wrong_folders_are_named(tmp_path: Path, captures: tuple[Path, Any]) -> None:
    with pytest.raises(CaptureError, match="not a folder"):
        _open(tmp_path / "nowhere").open()
    with pytest.raises(CaptureError, match="neither"):
        _open(tmp_path).open()
    with pytest.raises(CaptureError, match="no split"):
        _open(captures[0], split="test").open()
    with pytest.raises(CameraError, match="not open"):
        _open(captures[0]).read()


@given(
    hnp.arrays(np.uint16, (3, 4)),
    st.sampled_from([0.0001, 0.001, 0.00005, 0.00012345, 0.000001]),
)
def test_integers_survive_the_way_through_metres(z16: Any, unit_m: float) -> None:
    """z16_from_depth_m(depth_m_from_z16(z, u), u) is z, bit for bit."""
    assert np.array_equal(z16_from_depth_m(depth_m_from_z16(z16, unit_m), unit_m), z16)


@given(st.floats(1e-6, 0.01))
def test_the_unit_that_was_meant(unit_m: float) -> None:
    assert np.float32(exact_unit(float(np.float32(unit_m)))) == np.float32(unit_m)


def test_the_unit_of_a_d405() -> None:
    assert exact_unit(9.999999747378752e-05) == 0.0001


def test_too_far_for_sixteen_bits() -> None:
    with pytest.raises(FrameError, match="16 bits"):
        z16_from_depth_m(np.full((2, 2), 7.0, np.float32), 0.0001)
