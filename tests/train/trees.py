"""Small data sets of simulated parts in the layout of each format, written by no code of ours that reads one.

Each function writes below a new folder and returns it. A category `a` is a product of its own; `train`,
`validation`, `good` and `bad` say how many parts go into each split, `bad` ones evenly over `defects`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml

from edge.frame import Intrinsics
from edge.simulation.dataset import write_lot
from edge.simulation.products import PRODUCTS
from edge.simulation.rig import RigScene
from edge.simulation.scene import Shot
from train.datasets.globs import PDREAL_LAYOUT

__all__ = ["captures_tree", "eyecandies_tree", "mvtec3d_tree", "pdreal_tree"]

CATEGORIES = ("a", "b")
DEFECTS = ("foreign_other",)
SIZE = (320, 240)
_FOCUS_M = 0.01
_FIRST_BAD = 1000
_EYECANDIES = ("bumps", "colors", "dents", "normals")


@dataclass(frozen=True)
class _Tree:
    """How many parts a category has."""

    train: int
    validation: int
    good: int
    bad: int
    defects: Sequence[str]
    size: tuple[int, int]

    def splits(self, number: int, *, noise: bool = True) -> Iterator[tuple[str, str, int, RigScene, Shot]]:
        """Split, label, number within the label, scene and shot of each part of category `number`."""
        scene = self._scene(number, None, noise=noise)
        shots = (scene.shot(index) for index in count())
        for split, parts in (("train", self.train), ("validation", self.validation), ("test", self.good)):
            for i, shot in enumerate(islice(shots, parts)):
                assert shot is not None
                yield split, "good", i, scene, shot
        for i in range(self.bad):
            kind = self.defects[i % len(self.defects)]
            bad = self._scene(number, kind, noise=noise)
            shot = bad.shot(_FIRST_BAD + i)
            assert shot is not None
            yield "test", kind, i // len(self.defects), bad, shot

    def _scene(self, number: int, defect: str | None, *, noise: bool) -> RigScene:
        ideal: dict[str, Any] = {} if noise else {"depth_noise": None}
        return RigScene(
            PRODUCTS[number % len(PRODUCTS)],
            21 + number,  # one rig for good and bad: they differ by the defect alone
            defective_share=0.0 if defect is None else 1.0,
            defects=None if defect is None else [defect],
            severity=2.0,
            width_px=self.size[0],
            height_px=self.size[1],
            **ideal,
        )


def mvtec3d_tree(
    folder: Path,
    categories: Sequence[str] = CATEGORIES,
    *,
    train: int = 6,
    validation: int = 3,
    good: int = 4,
    bad: int = 3,
    defects: Sequence[str] = DEFECTS,
    size: tuple[int, int] = SIZE,
) -> Path:
    """MVTec 3D-AD: xyz in float TIFF, a calibration file."""
    tree = _Tree(train, validation, good, bad, defects, size)
    for number, category in enumerate(categories):
        root = folder / category
        for split, label, i, scene, shot in tree.splits(number):
            optics = scene.intrinsics
            group = root / split / label
            _write(group / "rgb" / f"{i:03d}.png", shot.rgb[..., ::-1])
            v, u = np.mgrid[: optics.height_px, : optics.width_px]
            z = shot.depth_m
            x, y = (u - optics.cx_px) * z / optics.fx_px, (v - optics.cy_px) * z / optics.fy_px
            # OpenCV writes three channels in reverse.
            _write(group / "xyz" / f"{i:03d}.tiff", np.stack([z, y, x], axis=-1).astype(np.float32))
            if split == "test":
                _write(group / "gt" / f"{i:03d}.png", shot.truth_mask.astype(np.uint8) * 255)
            _write_calibration(root / "calibration" / "camera_parameters.json", optics)
    return folder


def eyecandies_tree(
    folder: Path,
    categories: Sequence[str] = CATEGORIES,
    *,
    train: int = 6,
    validation: int = 3,
    good: int = 4,
    bad: int = 3,
    defects: Sequence[str] = DEFECTS,
    size: tuple[int, int] = SIZE,
    suffix: str = ".yaml",
    lights: Sequence[int] = (4, 5),
) -> Path:
    """Eyecandies: depth in 16 bits between two bounds; a defect of kind k is called by the k-th of its names.

    Without parts for validation there is no folder for them. The private split has no ground truth.
    """
    tree = _Tree(train, validation, good, bad, defects, size)
    names = {"train": "train", "validation": "val", "test": "test_public"}
    for number, category in enumerate(categories):
        numbers = {name: count() for name in names.values()}
        for split, label, _, _, shot in tree.splits(number, noise=False):
            data = folder / category / names[split] / "data"
            stem = f"{next(numbers[names[split]]):0{3 if split == 'train' else 2}d}"
            kind = None if label == "good" else _EYECANDIES[defects.index(label) % len(_EYECANDIES)]
            _write_candy(data, stem, shot, kind=kind, suffix=suffix, lights=lights)
        private = folder / category / "test_private" / "data"
        _write(private / "000_image_4.png", np.zeros((size[1], size[0], 3), np.uint8))
    return folder


def pdreal_tree(
    folder: Path,
    categories: Sequence[str] = CATEGORIES,
    *,
    train: int = 6,
    validation: int = 3,
    good: int = 4,
    bad: int = 3,
    defects: Sequence[str] = DEFECTS,
    size: tuple[int, int] = SIZE,
    mask_format: str = "image",
) -> Path:
    """PD-REAL as its layout file guesses it, and `layout.yaml` in it for pictures of this size."""
    tree = _Tree(train, validation, good, bad, defects, size)
    for number, category in enumerate(categories):
        for split, label, i, scene, shot in tree.splits(number):
            group = folder / category / split / label
            _write(group / "rgb" / f"{i:03d}.png", shot.rgb[..., ::-1])
            _write(
                group / "depth" / f"{i:03d}.png",
                np.rint(shot.depth_m / scene.depth_unit_m).astype(np.uint16),
            )
            if split == "test" and mask_format == "image":
                _write(group / "gt" / f"{i:03d}.png", shot.truth_mask.astype(np.uint8) * 255)
            elif split == "test" and label != "good":
                _write_labelme(group / "gt" / f"{i:03d}.json", shot.truth_mask)
    layout = yaml.safe_load(PDREAL_LAYOUT.read_text(encoding="utf-8"))
    factor = size[1] / layout["intrinsics"]["height_px"]
    layout["intrinsics"] = {
        "width_px": size[0],
        "height_px": size[1],
        "fx_px": layout["intrinsics"]["fx_px"] * factor,
        "fy_px": layout["intrinsics"]["fy_px"] * factor,
        "cx_px": (size[0] - 1) / 2,
        "cy_px": (size[1] - 1) / 2,
    }
    if mask_format == "labelme":
        layout["mask_format"] = "labelme"
        layout["splits"]["test"][0]["mask"] = "test/{label}/gt/{id}.json"
    (folder / "layout.yaml").write_text(yaml.safe_dump(layout, sort_keys=False), encoding="utf-8")
    return folder


def captures_tree(
    folder: Path,
    categories: Sequence[str] = CATEGORIES,
    *,
    train: int = 9,
    test: int = 7,
    defects: Sequence[str] = DEFECTS,
    size: tuple[int, int] = SIZE,
) -> Path:
    """Captures: `<product>/train-1` of good parts, `<product>/test-2` half of bad ones."""
    for number, category in enumerate(categories):
        product = PRODUCTS[number % len(PRODUCTS)]
        wide: dict[str, Any] = {"width_px": size[0], "height_px": size[1]}
        write_lot(RigScene(product, 1, defective_share=0.0, **wide), folder / category / "train-1", train)
        mixed = RigScene(product, 2, defective_share=0.5, defects=defects, severity=2.0, **wide)
        write_lot(mixed, folder / category / "test-2", test)
    return folder


def _write(path: Path, image: npt.NDArray[Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.ascontiguousarray(image))


def _write_calibration(path: Path, optics: Intrinsics) -> None:
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
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(parameters), encoding="utf-8")


def _write_candy(
    data: Path, stem: str, shot: Shot, *, kind: str | None, suffix: str, lights: Sequence[int]
) -> None:
    for light in lights:
        gain = 0.6 + 0.08 * light
        _write(data / f"{stem}_image_{light}.png", (shot.rgb[..., ::-1] * gain).astype(np.uint8))
    low, high = float(shot.depth_m.min()), float(shot.depth_m.max())
    counts = np.rint((shot.depth_m.astype(np.float64) - low) / (high - low) * 65535)
    _write(data / f"{stem}_depth.png", counts.astype(np.uint16))
    said = {"anomalous": int(kind is not None)} | {name: int(name == kind) for name in _EYECANDIES}
    for item, content in (
        ("info_depth", {"normalization": {"min": low, "max": high}}),
        ("metadata", said),
    ):
        (data / f"{stem}_{item}{suffix}").write_text(yaml.safe_dump(content), encoding="utf-8")
    mask = shot.truth_mask.astype(np.uint8) * 255
    _write(data / f"{stem}_mask.png", mask)
    for name in _EYECANDIES:
        _write(data / f"{stem}_{name}_mask.png", mask if name == kind else np.zeros_like(mask))


def _write_labelme(path: Path, mask: npt.NDArray[np.bool_]) -> None:
    contours, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    shapes = [
        # LabelMe measures from the image's corner, OpenCV from the middle of the first pixel.
        {"label": "defect", "shape_type": "polygon", "points": (contour[:, 0] + 0.5).tolist()}
        for contour in contours
        if len(contour) >= 3
    ]
    annotation = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": path.with_suffix(".png").name,
        "imageData": None,
        "imageHeight": mask.shape[0],
        "imageWidth": mask.shape[1],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(annotation), encoding="utf-8")
