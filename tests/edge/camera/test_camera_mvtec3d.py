"""A category of MVTec 3D-AD: a small one of our own making, and the real sample where it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from edge.camera.config import FolderCamera
from edge.camera.folder import FolderSource
from edge.errors import CaptureError
from edge.mvtec3d import list_category, read_xyz_m

H, W = 30, 40  # not square, as some categories are
FX, FY, CX, CY = 200.0, 210.0, -5.0, 16.0  # a cropped image: its principal point lies outside


def _write_sample(group: Path, name: str, rng: np.random.Generator, *, gt: bool) -> np.ndarray:
    v, u = np.mgrid[:H, :W]
    z = rng.uniform(0.5, 0.6, (H, W))
    xyz = np.stack([(u - CX) * z / FX, (v - CY) * z / FY, z], axis=-1).astype(np.float32)
    xyz[rng.random((H, W)) < 0.3] = 0
    for kind in ("rgb", "xyz", "gt"):
        (group / kind).mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(group / "rgb" / f"{name}.png"), rng.integers(0, 256, (H, W, 3), dtype=np.uint8))
    cv2.imwrite(str(group / "xyz" / f"{name}.tiff"), np.ascontiguousarray(xyz[..., ::-1]))
    if gt:
        mask = np.zeros((H, W), np.uint8)
        if group.name != "good":
            mask[3:6, 4:9] = 253  # class ids, not 255
            mask[10, 10] = 1
        cv2.imwrite(str(group / "gt" / f"{name}.png"), mask)
    return xyz


@pytest.fixture
def category(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    folder = tmp_path / "bracket"
    for group in ("train/good", "validation/good", "test/good", "test/bent"):
        for name in ("000", "001"):
            _write_sample(folder / group, name, rng, gt=group.startswith("test"))
    (folder / "calibration").mkdir()
    parameters = {
        "camera_type": "area_scan_division",
        "focus": 0.01,
        "kappa": 0.0,
        "sx": 0.01 / FX,
        "sy": 0.01 / FY,
        "cx": CX,
        "cy": CY,
        "image_width": W,
        "image_height": H,
    }
    (folder / "calibration/camera_parameters.json").write_text(json.dumps(parameters))
    return folder


def test_depth_is_z_and_not_x(tmp_path: Path) -> None:
    xyz = _write_sample(tmp_path, "000", np.random.default_rng(1), gt=False)
    assert np.array_equal(read_xyz_m(tmp_path / "xyz/000.tiff"), xyz)


def test_samples_of_each_split(category: Path) -> None:
    assert [sample.part_id for sample in list_category(category, "train")] == ["good/000", "good/001"]
    samples = list_category(category, "test")
    assert [sample.part_id for sample in samples] == ["bent/000", "bent/001", "good/000", "good/001"]
    assert [sample.defect for sample in samples] == ["bent", "bent", None, None]
    assert {sample.split for sample in samples} == {"test"}
    frame = samples[0].frame()
    assert frame.depth_unit_m == 1.0
    assert np.array_equal(frame.depth_m, read_xyz_m(category / "test/bent/xyz/000.tiff")[..., 2])
    assert (frame.intrinsics.fx_px, frame.intrinsics.cx_px) == (pytest.approx(FX), CX)
    assert samples[0].mask().sum() == 16
    assert not samples[2].mask().any()


def test_a_folder_source_shows_the_test_split(category: Path) -> None:
    with FolderSource(FolderCamera(path=category)) as source:
        assert [frame.part_id for frame in source] == ["bent/000", "bent/001", "good/000", "good/001"]
    with FolderSource(FolderCamera(path=category, split="validation")) as source:
        assert len(list(source)) == 2


def _calibration(key: str, value: Any) -> Callable[[Path], None]:
    def change(category: Path) -> None:
        path = category / "calibration/camera_parameters.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))

    return change


def _small_xyz(category: Path) -> None:
    path = category / "test/bent/xyz/001.tiff"
    cv2.imwrite(str(path), read_xyz_m(path)[:-1])


def _small_rgb(category: Path) -> None:
    path = category / "test/bent/rgb/001.png"
    cv2.imwrite(str(path), cv2.imread(str(path))[:, :-1])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda c: (c / "test/bent/xyz/001.tiff").unlink(), r"bent/xyz/001\.tiff: is missing"),
        (lambda c: (c / "test/bent/gt/001.png").unlink(), r"bent/gt/001\.png: is missing"),
        (lambda c: (c / "test/good/rgb/001.png").unlink(), r"good/rgb/001\.png: is missing"),
        (_calibration("cx", 20.0), "miss their pixels by 25"),
        (_calibration("focus", -1), "focus"),
        (lambda c: (c / "calibration/camera_parameters.json").unlink(), "camera_parameters"),
        (_small_rgb, r"bent/rgb/001\.png: is 39×30"),
        (_small_xyz, r"bent/xyz/001\.tiff: is 40×29"),
    ],
)
def test_a_category_that_does_not_fit_together(
    category: Path, damage: Callable[[Path], object], complaint: str
) -> None:
    damage(category)
    source = FolderSource(FolderCamera(path=category, layout="mvtec3d"))
    with pytest.raises(CaptureError, match=complaint), source:
        list(source)


def test_not_a_category(tmp_path: Path, category: Path) -> None:
    with pytest.raises(CaptureError, match="MVTec"):
        list_category(tmp_path, "test")
    with pytest.raises(CaptureError, match="no split 'val'"):
        list_category(category, "val")


@pytest.mark.sample
def test_the_real_sample(sample_category: Path) -> None:
    samples = list_category(sample_category, "test")
    assert len(samples) == 28
    assert len(list_category(sample_category, "train")) == 72
    assert len(list_category(sample_category, "validation")) == 12
    assert sum(sample.defect is None for sample in samples) == 8
    for sample in samples[::9]:
        frame = sample.frame()
        valid = frame.depth_m[frame.depth_m > 0]
        assert 0.6 < valid.min() < valid.max() < 0.7
        assert 0.5 < valid.size / frame.depth_m.size < 0.7
        assert sample.mask().any() == (sample.defect is not None)
