"""Captures of good and bad parts, wherever they lie, as frames with what is known of them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from edge.camera.config import RECORDINGS, RecordingCamera
from edge.camera.factory import source_from_config
from edge.camera.sample import Sample
from edge.captures import CAPTURE_FILE, list_captures, read_note
from edge.errors import CameraError, CaptureError
from edge.frame import Frame
from edge.mvtec3d import CALIBRATION_FILE, SPLITS, list_category
from edge.sealed import file_sha256

__all__ = ["KnownCapture", "captures_in", "frames_of_recording"]


@dataclass(frozen=True, slots=True, eq=False)
class KnownCapture:
    """A capture on disk: its name, the part's label, lot and serial (None where unknown)."""

    name: str
    sample: Sample
    lot: str | None
    serial: str | None

    @property
    def good(self) -> bool:
        return self.sample.defect is None

    @property
    def sha256(self) -> str:
        """Of the colour picture's file; raises `CaptureError`."""
        try:
            return file_sha256(self.sample.rgb_path)
        except OSError as error:
            raise CaptureError(f"{self.sample.rgb_path}: can't be read ({error.strerror})") from error


def captures_in(path: Path, split: str) -> tuple[KnownCapture, ...]:
    """The captures of a lot, of all lots of a product, or of MVTec 3D-AD (a category's `split`, or a split).

    Raises `CaptureError` where it is none of these.
    """
    if (path / CAPTURE_FILE).is_file():
        return _of_lot(path)
    lots = sorted(found.parent for found in path.glob(f"*/{CAPTURE_FILE}"))
    if lots:
        return tuple(capture for lot in lots for capture in _of_lot(lot))
    if (path / CALIBRATION_FILE).is_file():
        return _of_category(path, split)
    whole = path.absolute()
    if whole.name in SPLITS and (whole.parent / CALIBRATION_FILE).is_file():
        return _of_category(whole.parent, whole.name)
    raise CaptureError(
        f"{path}: holds neither {CAPTURE_FILE} (a lot of captures, or a folder of lots) nor "
        f"{CALIBRATION_FILE} (a category of MVTec 3D-AD); name the folder that does"
    )


def _of_lot(lot: Path) -> tuple[KnownCapture, ...]:
    found = []
    for sample in list_captures(lot):
        note = read_note(sample)
        serial = note.part_serial if note is not None else None
        name = lot.resolve().name
        found.append(KnownCapture(f"{name}/{sample.part_id}", sample, name, serial))
    return tuple(found)


def _of_category(category: Path, split: str) -> tuple[KnownCapture, ...]:
    return tuple(
        KnownCapture(f"{split}/{sample.part_id}", sample, None, None)
        for sample in list_category(category, split)
    )


def frames_of_recording(path: Path) -> Iterator[tuple[str, Frame]]:
    """sha256 (of colour and depth) and frame, one after the other; raises `CameraError`."""
    if path.suffix not in RECORDINGS:
        raise CameraError(f"{path}: is no recording ({' or '.join(RECORDINGS)}); check the path")
    with source_from_config(RecordingCamera(path=path)) as source:
        for frame in source:
            digest = hashlib.sha256(frame.rgb.tobytes())
            digest.update(frame.depth_m.tobytes())
            yield digest.hexdigest(), frame
