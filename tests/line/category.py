"""A category of MVTec 3D-AD made of simulated parts, written by no code of ours that reads one."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np

from edge.simulation.rig import RigScene
from edge.simulation.scene import Shot

__all__ = ["TEST_PARTS", "write_category"]

WIDTH_PX, HEIGHT_PX = 320, 240
DEFECT = "foreign_other"
TEST_PARTS = 7
_FOCUS_M = 0.01


def write_category(category: Path, product: str = "plate") -> Path:
    """6 parts to train on, 3 held out, 4 good and 3 bad ones to test with; 320×240."""
    good = _scene(product, 21, 0.0)
    bad = _scene(product, 22, 1.0)
    for number in range(6):
        _write(category / "train" / "good", number, good, good.shot(number), gt=False)
    for number in range(3):
        _write(category / "validation" / "good", number, good, good.shot(6 + number), gt=False)
    for number in range(4):
        _write(category / "test" / "good", number, good, good.shot(9 + number), gt=True)
    for number in range(3):
        _write(category / "test" / DEFECT, number, bad, bad.shot(number), gt=True)
    optics = good.intrinsics
    parameters = {
        "camera_type": "area_scan_division",
        "focus": _FOCUS_M,
        "kappa": 0.0,
        "sx": _FOCUS_M / optics.fx_px,
        "sy": _FOCUS_M / optics.fy_px,
        "cx": optics.cx_px,
        "cy": optics.cy_px,
        "image_width": optics.width_px,
        "image_height": optics.height_px,
    }
    (category / "calibration").mkdir()
    (category / "calibration" / "camera_parameters.json").write_text(json.dumps(parameters))
    return category


def _scene(product: str, seed: int, defective_share: float) -> RigScene:
    return RigScene(
        product,
        seed,
        defective_share=defective_share,
        defects=[DEFECT],
        severity=2.0,
        width_px=WIDTH_PX,
        height_px=HEIGHT_PX,
    )


def _write(group: Path, number: int, scene: RigScene, shot: Shot | None, *, gt: bool) -> None:
    assert shot is not None
    optics = scene.intrinsics
    v, u = np.mgrid[: optics.height_px, : optics.width_px]
    z = shot.depth_m
    x, y = (u - optics.cx_px) * z / optics.fx_px, (v - optics.cy_px) * z / optics.fy_px
    images = {
        "rgb/{:03d}.png": shot.rgb[..., ::-1],
        # OpenCV writes three channels in reverse.
        "xyz/{:03d}.tiff": np.stack([z, y, x], axis=-1).astype(np.float32),
    }
    if gt:
        images["gt/{:03d}.png"] = shot.truth_mask.astype(np.uint8) * 253
    for pattern, image in images.items():
        path = group / pattern.format(number)
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), np.ascontiguousarray(image))
