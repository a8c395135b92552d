"""A rig's captures on disk: lossless images that a person can open, and what it takes to read them.

::

    <product>/<date>-<lot>/
      capture.yaml              depth_unit_m, intrinsics, serial, options, software version
      good/000.rgb.png          8-bit RGB
      good/000.depth.png        16 bit, z = value × depth_unit_m, 0 = invalid
      good/000.note.json        when, of which part, how good an image; sha256 of the images (may be missing)
      <defect>/000.mask.png     > 0 is a defect; beside its rgb and depth

A capture is there when its rgb is: that is written last.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import numpy.typing as npt
import yaml
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, ValidationError

from edge.camera.depth_integers import depth_m_from_z16, z16_from_depth_m
from edge.camera.sample import Sample, image_size, read_image
from edge.disk import sync_folder
from edge.errors import CaptureError, FrameError
from edge.frame import DepthImage, Frame, Intrinsics
from edge.inspection import Outcome
from edge.sealed import write_atomically
from edge.version import __version__

__all__ = [
    "CAPTURE_FILE",
    "GOOD",
    "CaptureInfo",
    "CaptureLabel",
    "CaptureNote",
    "IntrinsicsInfo",
    "check_label",
    "encoded_images",
    "list_captures",
    "next_number",
    "read_capture_info",
    "read_depth",
    "read_note",
    "write_capture",
    "write_capture_info",
]

CAPTURE_FILE = "capture.yaml"
GOOD = "good"
_NUMBERED = re.compile(r"(\d+)\.")
_LABEL = re.compile(r"[a-z0-9][a-z0-9_-]*")

_SAME = 1e-6
"""Options and intrinsics come through float32; the same number twice differs by no more."""

_Sha256 = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class IntrinsicsInfo(_Strict):
    """The pinhole of all images in the folder, in pixels; see `edge.frame.Intrinsics`."""

    width_px: int = Field(ge=1)
    height_px: int = Field(ge=1)
    fx_px: float = Field(gt=0)
    fy_px: float = Field(gt=0)
    cx_px: float
    cy_px: float

    @classmethod
    def of(cls, intrinsics: Intrinsics) -> IntrinsicsInfo:
        return cls(
            width_px=intrinsics.width_px,
            height_px=intrinsics.height_px,
            fx_px=intrinsics.fx_px,
            fy_px=intrinsics.fy_px,
            cx_px=intrinsics.cx_px,
            cy_px=intrinsics.cy_px,
        )

    def intrinsics(self) -> Intrinsics:
        return Intrinsics(**self.model_dump())


class CaptureInfo(_Strict):
    """capture.yaml; `options` as they were read back from the camera."""

    depth_unit_m: float = Field(gt=0, lt=1)
    intrinsics: IntrinsicsInfo
    serial: str | None = None
    options: dict[str, float] = Field(default_factory=dict)
    software_version: str = __version__

    def differences(self, other: CaptureInfo) -> list[str]:
        """What makes captures of the two no one lot, "serial is … and … there": all but the software."""
        mine, others = _flat(self.model_dump()), _flat(other.model_dump())
        return [
            f"{key} is {mine.get(key)} and {others.get(key)} there"
            for key in dict.fromkeys([*mine, *others])
            if key != "software_version" and not _same(mine.get(key), others.get(key))
        ]


class CaptureLabel(_Strict):
    """What one person (or program) said of the part, the last time that they did."""

    label: str
    labelled_by: str
    labelled_utc: AwareDatetime
    note: str | None = None


class CaptureNote(_Strict):
    """What is known of one capture beside its images; `<number>.note.json`.

    `sharpness` and `fill_share` are those that `edge-capture` measures on the part; `concerns` what spoke
    against the frame, which was kept all the same. `sha256` is of each image's file, by its kind. `note` is
    what a person wrote, `asked_by` who had the rig keep it.

    Of a frame that was judged: `result_id` to `threshold` are the verdict's, `recipe` its product, and
    `labels` what people said of the part afterwards, the oldest first. Parts that were labelled because of
    their `outcome` or `score` are no fair sample of a line.
    """

    captured_utc: AwareDatetime
    part_serial: str | None = Field(default=None, min_length=1, max_length=128)
    sharpness: float | None = Field(default=None, ge=0)
    fill_share: float | None = Field(default=None, ge=0, le=1)
    concerns: tuple[str, ...] = ()
    sha256: dict[str, _Sha256] = Field(default_factory=dict)
    note: str | None = Field(default=None, max_length=500)
    asked_by: str | None = Field(default=None, max_length=128)
    result_id: str | None = None
    recipe: str | None = None
    model_sha256: _Sha256 | None = None
    calibration_id: str | None = None
    outcome: Outcome | None = None
    score: float | None = None
    threshold: float | None = None
    labels: tuple[CaptureLabel, ...] = ()


def check_label(label: str) -> None:
    """Raises `CaptureError` where it can't name the folder of a class."""
    if not _LABEL.fullmatch(label):
        raise CaptureError(f"{label!r} is no label; use lower-case letters, digits, _ and -")


def read_capture_info(folder: Path) -> CaptureInfo:
    """The folder's capture.yaml; raises `CaptureError` naming the key that is wrong."""
    path = folder / CAPTURE_FILE
    try:
        data: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise CaptureError(
            f"{path}: can't be read ({error.strerror}); a folder of captures has one, it holds the depth unit"
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CaptureError(f"{path}: is not YAML ({error})") from error
    try:
        return CaptureInfo.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "the whole"
        raise CaptureError(f"{path}: {key}: {first['msg']}; allowed: {_keys()}") from error


def write_capture_info(folder: Path, info: CaptureInfo) -> None:
    """Write capture.yaml, or find it there saying the same; raises `CaptureError` where it says otherwise."""
    path = folder / CAPTURE_FILE
    if path.exists():
        if different := info.differences(read_capture_info(folder)):
            raise CaptureError(
                f"{path}: was written with another camera, resolution or options ({'; '.join(different)}); "
                "set them as they were, or use a new folder"
            )
        return
    text = yaml.safe_dump(info.model_dump(mode="json"), sort_keys=False)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, text.encode())
        sync_folder(folder)
    except OSError as error:
        raise CaptureError(f"{path}: can't be written ({error.strerror})") from error


def write_capture(
    folder: Path,
    label: str,
    frame: Frame,
    mask: npt.NDArray[np.bool_] | None = None,
    *,
    note: CaptureNote | None = None,
) -> Sample:
    """Add a frame under the next free number of `label` ("good" or a defect's name); nothing is overwritten.

    `mask` bool (H, W) belongs to a defect and may be unknown (None). The depth comes back bit for bit where
    it was read from integers. `note` is written beside, with the images' sha256. Each file is whole or
    absent, and on disk when this returns; the rgb is the last. A crash may leave the others alone, which
    `list_captures` names. One process writes into a folder at a time. Raises `CaptureError`, after which
    nothing of this capture is there.
    """
    info = read_capture_info(folder)
    check_label(label)
    if label == GOOD and mask is not None and mask.any():
        raise CaptureError("a good part has no defect mask; give it the defect's label")
    if info.intrinsics.intrinsics() != frame.intrinsics or info.depth_unit_m != frame.depth_unit_m:
        raise CaptureError(
            f"{folder / CAPTURE_FILE}: {info.intrinsics.width_px}×{info.intrinsics.height_px}, unit "
            f"{info.depth_unit_m} m and its focal lengths are not the frame's ({frame.width_px}×"
            f"{frame.height_px}, {frame.depth_unit_m} m); use a new folder"
        )
    if mask is not None and mask.shape != frame.depth_m.shape:
        raise CaptureError(f"the mask is {mask.shape}, the frame {frame.depth_m.shape}")
    try:
        images = encoded_images(frame)
    except CaptureError as error:
        raise CaptureError(f"{folder}: {error}") from error
    if mask is not None and label != GOOD:
        images["mask"] = _png("mask", mask.astype(np.uint8) * 255)
    group = folder / label
    try:
        if not group.exists():
            group.mkdir()
            sync_folder(folder)
        number = next_number(group)
        _write_files(group, dict(_files(number, images, note)))
    except OSError as error:
        raise CaptureError(f"{group}: can't be written ({error.strerror})") from error
    return _sample(group / f"{number}.rgb.png", info)


def encoded_images(frame: Frame) -> dict[str, bytes]:
    """The PNGs of a frame by their kind: `depth` (16 bit, in its unit) and `rgb`; lossless.

    Raises `CaptureError` where the depth lies off the grid of its unit, so that 16 bits can't hold it.
    """
    try:
        z16 = z16_from_depth_m(frame.depth_m, frame.depth_unit_m)
    except FrameError as error:
        raise CaptureError(str(error)) from error
    return {"depth": _png("depth", z16), "rgb": _png("rgb", np.ascontiguousarray(frame.rgb[..., ::-1]))}


def _png(kind: str, image: npt.NDArray[Any]) -> bytes:
    done, data = cv2.imencode(".png", image)
    if not done:
        raise CaptureError(f"OpenCV can't encode the {kind} as PNG")
    return data.tobytes()


def _files(number: str, images: dict[str, bytes], note: CaptureNote | None) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of each file of a capture, the rgb last."""
    yield from ((f"{number}.{kind}.png", data) for kind, data in images.items() if kind != "rgb")
    if note is not None:
        digests = {kind: hashlib.sha256(data).hexdigest() for kind, data in images.items()}
        yield f"{number}.note.json", note.model_copy(update={"sha256": digests}).model_dump_json().encode()
    yield f"{number}.rgb.png", images["rgb"]


def _write_files(group: Path, files: dict[str, bytes]) -> None:
    """All of them, on disk; or none, and `OSError`."""
    try:
        for name, data in files.items():
            write_atomically(group / name, data)
        sync_folder(group)
    except OSError:
        for name in files:
            (group / name).unlink(missing_ok=True)
        raise


def read_note(sample: Sample) -> CaptureNote | None:
    """The note of a capture, None where it has none; raises `CaptureError` where it can't be read."""
    path = _beside(sample.rgb_path, "note.json")
    try:
        return CaptureNote.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise CaptureError(f"{path}: can't be read ({error.strerror})") from error
    except ValidationError as error:
        raise CaptureError(
            f"{path}: is no note of a capture ({error.errors()[0]['msg']}); remove it"
        ) from error


def list_captures(folder: Path) -> tuple[Sample, ...]:
    """All samples of a folder, sorted by label and number; sizes and partners checked from the headers.

    Raises `CaptureError` naming the first file that is missing, or of another size.
    """
    info = read_capture_info(folder)
    samples: list[Sample] = []
    for group in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        names = {path.name.split(".")[0] for path in group.glob("*.*.png") if not path.name.startswith(".")}
        samples += [
            _sample(group / f"{name}.rgb.png", info)
            for name in sorted(names, key=lambda name: (len(name), name))
        ]
    if not samples:
        raise CaptureError(
            f"{folder}: holds no captures; they lie in {GOOD}/ and in a folder for each defect"
        )
    return tuple(samples)


def _sample(rgb: Path, info: CaptureInfo) -> Sample:
    label, name = rgb.parent.name, rgb.name.split(".")[0]
    depth, mask = _beside(rgb, "depth.png"), _beside(rgb, "mask.png")
    has_mask = mask.exists()
    if label == GOOD and has_mask:
        raise CaptureError(f"{mask}: a good part has no defect mask; move it to its defect, or remove it")
    expected = (info.intrinsics.height_px, info.intrinsics.width_px)
    for path in (rgb, depth, mask) if has_mask else (rgb, depth):
        if not path.is_file():
            raise CaptureError(f"{path}: is missing; each capture is a .rgb.png and a .depth.png")
        if (size := image_size(path)) is not None and size != expected:
            raise CaptureError(
                f"{path}: is {size[1]}×{size[0]}, {CAPTURE_FILE} says {expected[1]}×{expected[0]}; depth has "
                "to be aligned to colour, and neither may be resized"
            )
    return Sample(
        part_id=f"{label}/{name}",
        split=None,
        defect=None if label == GOOD else label,
        source=str(rgb.parent.parent),
        rgb_path=rgb,
        depth_path=depth,
        mask_path=mask if has_mask else None,
        depth_unit_m=info.depth_unit_m,
        intrinsics=info.intrinsics.intrinsics(),
        read_depth=read_depth,
    )


def read_depth(path: Path, depth_unit_m: float) -> DepthImage:
    """(H, W) metres of a depth image as captures have it; raises `CaptureError`."""
    image = read_image(path)
    if image.dtype != np.uint16 or image.ndim != 2:
        raise CaptureError(
            f"{path}: is {image.dtype}{image.shape}, must be 16-bit grey; 8 bits can't hold a depth"
        )
    return depth_m_from_z16(image.astype(np.uint16), depth_unit_m)


def _beside(rgb: Path, kind: str) -> Path:
    return rgb.with_name(f"{rgb.name.split('.')[0]}.{kind}")


def next_number(group: Path) -> str:
    """Behind all that are there, whole or not."""
    taken = [int(found[1]) for path in group.iterdir() if (found := _NUMBERED.match(path.name))]
    return f"{max(taken, default=-1) + 1:03d}"


def _flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested keys with dots."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _same(mine: object, other: object) -> bool:
    if isinstance(mine, float | int) and isinstance(other, float | int):
        return math.isclose(mine, other, rel_tol=_SAME)
    return mine == other


def _keys() -> str:
    return ", ".join(CaptureInfo.model_fields)
