"""A category of MVTec 3D-AD, in the data set's own layout.

::

    <category>/
      calibration/camera_parameters.json
      train/good/{rgb/000.png, xyz/000.tiff}     validation/good/…
      test/<defect>/{rgb/000.png, xyz/000.tiff, gt/000.png}

`xyz` float32 (H, W, 3), metres in the camera's frame, (0, 0, 0) = invalid; `gt` > 0 is a defect.
Bergmann, Jin, Sattlegger, Steger: The MVTec 3D-AD Dataset, VISAPP 2022.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from edge.camera.sample import Sample, image_size, read_image
from edge.errors import CaptureError
from edge.frame import DepthImage, Intrinsics

__all__ = ["CALIBRATION_FILE", "SPLITS", "list_category", "read_xyz_m"]

SPLITS = ("train", "validation", "test")
CALIBRATION_FILE = "calibration/camera_parameters.json"
_DEPTH_UNIT_M = 1.0  # stored as metres
_MISFIT_PX = 5.0
"""By how much the points of an image may miss their pixels: 1.1 px is what the lens distortion leaves."""


class _CameraParameters(BaseModel):
    """HALCON's `area_scan_division` camera; `kappa`, its distortion, is left out."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)

    focus: float = Field(gt=0)
    sx: float = Field(gt=0)
    sy: float = Field(gt=0)
    cx: float
    cy: float


def list_category(category: Path, split: str) -> tuple[Sample, ...]:
    """The samples of a split, sorted by label and number.

    Intrinsics come from the calibration file and are held against the points of the first image. Raises
    `CaptureError` where a file is missing, or the calibration is of another image.
    """
    if split not in SPLITS:
        raise CaptureError(f"{category}: has no split {split!r}; there are {', '.join(SPLITS)}")
    groups = sorted(path for path in (category / split).glob("*") if path.is_dir())
    found = [(group.name, rgb) for group in groups for rgb in sorted((group / "rgb").glob("*.png"))]
    if not found:
        raise CaptureError(
            f"{category / split}: holds no <label>/rgb/*.png; is it a category of MVTec 3D-AD?"
        )
    for group in groups:
        _check_partners(group, with_masks=split == "test")
    intrinsics = _intrinsics(category, found[0][1])
    return tuple(_sample(category, split, label, rgb, intrinsics) for label, rgb in found)


def read_xyz_m(path: Path) -> npt.NDArray[np.float32]:
    """(H, W, 3) float32: x, y, z in metres, (0, 0, 0) = invalid; raises `CaptureError`."""
    image = read_image(path)
    if image.dtype != np.float32 or image.ndim != 3 or image.shape[2] != 3:
        raise CaptureError(f"{path}: is {image.dtype}{image.shape}, must be float32 (H, W, 3): x, y, z")
    # OpenCV takes three channels for colour and hands them out in reverse, also where they are x, y, z.
    return np.ascontiguousarray(image[..., ::-1], dtype=np.float32)


def _read_depth(path: Path, _depth_unit_m: float) -> DepthImage:
    return np.ascontiguousarray(read_xyz_m(path)[..., 2])


def _sample(category: Path, split: str, label: str, rgb: Path, intrinsics: Intrinsics) -> Sample:
    group = rgb.parent.parent
    mask = group / "gt" / rgb.name
    size = image_size(rgb)
    if size is not None and size != (intrinsics.height_px, intrinsics.width_px):
        raise CaptureError(
            f"{rgb}: is {size[1]}×{size[0]}, the first image of the split is "
            f"{intrinsics.width_px}×{intrinsics.height_px}; restore it"
        )
    return Sample(
        part_id=f"{label}/{rgb.stem}",
        split=split,
        defect=None if label == "good" else label,
        source=str(category),
        rgb_path=rgb,
        depth_path=group / "xyz" / f"{rgb.stem}.tiff",
        mask_path=mask if mask.exists() else None,
        depth_unit_m=_DEPTH_UNIT_M,
        intrinsics=intrinsics,
        read_depth=_read_depth,
    )


def _check_partners(group: Path, *, with_masks: bool) -> None:
    names = {"rgb": {path.stem for path in (group / "rgb").glob("*.png")}}
    names["xyz"] = {path.stem for path in (group / "xyz").glob("*.tiff")}
    if with_masks:
        names["gt"] = {path.stem for path in (group / "gt").glob("*.png")}
    for name in sorted(set.union(*names.values())):
        for kind, stems in names.items():
            if name not in stems:
                suffix = ".tiff" if kind == "xyz" else ".png"
                raise CaptureError(f"{group / kind / (name + suffix)}: is missing; its partners are there")


def _intrinsics(category: Path, first_rgb: Path) -> Intrinsics:
    path = category / CALIBRATION_FILE
    try:
        camera = _CameraParameters.model_validate_json(path.read_bytes())
    except OSError as error:
        raise CaptureError(f"{path}: can't be read ({error.strerror}); restore it") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CaptureError(f"{path}: {key}: {first['msg']}") from error
    xyz_path = first_rgb.parent.parent / "xyz" / f"{first_rgb.stem}.tiff"
    xyz = read_xyz_m(xyz_path).astype(np.float64)  # (H, W, 3)
    intrinsics = Intrinsics(
        width_px=xyz.shape[1],
        height_px=xyz.shape[0],
        fx_px=camera.focus / camera.sx,
        fy_px=camera.focus / camera.sy,
        cx_px=camera.cx,
        cy_px=camera.cy,
    )
    v, u = np.nonzero(xyz[..., 2] > 0)  # (N,) each
    if u.size:
        x, y, z = xyz[v, u].T  # (N,) each
        miss_px = np.hypot(
            intrinsics.fx_px * x / z + intrinsics.cx_px - u, intrinsics.fy_px * y / z + intrinsics.cy_px - v
        )
        if (median_px := float(np.median(miss_px))) > _MISFIT_PX:
            raise CaptureError(
                f"{path}: the points of {xyz_path.name} miss their pixels by {median_px:.1f} px; the "
                "calibration belongs to another image, or the image was cropped or resized since"
            )
    return intrinsics
