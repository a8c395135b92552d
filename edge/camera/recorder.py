"""A recording that is either whole and under its own name, or not there."""

from __future__ import annotations

import os
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from edge.camera.db3 import check_db3
from edge.camera.depth_integers import exact_unit
from edge.errors import CameraError, RecordingCorrupt
from edge.sealed import file_sha256, write_atomically
from edge.version import __version__

__all__ = ["UNFINISHED", "Recorder", "RecordingSidecar", "read_sidecar", "sidecar_path"]


UNFINISHED = ".unfinished.db3"
"""How the name of a recording ends until it is whole."""

_OLDEST = (2, 59)
"""From here on librealsense writes images as PNGs, each with its CRC."""


class RecordingSidecar(BaseModel):
    """What lies beside a recording, in `<recording>.json`: enough to know it whole, and how to read it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    frames: int
    depth_unit_m: float | None
    librealsense: str | None
    edge_inspect: str
    sha256: str


def sidecar_path(recording: Path) -> Path:
    return recording.with_name(recording.name + ".json")


def read_sidecar(recording: Path) -> RecordingSidecar | None:
    """None where there is none; raises `RecordingCorrupt` where it can't be understood."""
    path = sidecar_path(recording)
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RecordingCorrupt(f"{path}: can't be read ({error.strerror})") from error
    try:
        return RecordingSidecar.model_validate_json(text)
    except ValidationError as error:
        raise RecordingCorrupt(
            f"{path}: is not the sidecar of a recording ({error.errors()[0]['msg']}); "
            "restore it, or remove it to play the recording without its sha256"
        ) from error


class Recorder:
    """Takes a recording from an unfinished name to its own, once its data is committed.

    librealsense writes into `partial`; after pipeline, profile and config are released, `finish` counts
    what is in the file, writes the sidecar and gives the file its name. What never came to `finish` stays
    under the unfinished name. Raises `CameraError` where the recording, or its sidecar, exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.partial = path.with_name(path.stem + UNFINISHED)
        for taken in (path, sidecar_path(path), self.partial):
            if taken.exists():
                raise CameraError(f"{taken}: exists and is not overwritten; choose another record_to")
        if not path.parent.is_dir():
            raise CameraError(f"{path.parent}: is not a folder; create it, or choose another record_to")

    def check_librealsense(self, version: str) -> None:
        """Refuse a release that writes another format, or one that can't be verified."""
        numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
        if numbers < _OLDEST:
            raise CameraError(
                f"{self.path}: recording needs librealsense {_OLDEST[0]}.{_OLDEST[1]} or later, "
                f"{version or 'an older one'} is installed; upgrade pyrealsense2"
            )

    def check_unit(self, depth_unit_m: float) -> None:
        """librealsense writes the depth unit with six decimals; refuse one that would come back wrong."""
        if exact_unit(round(depth_unit_m, 6)) != exact_unit(depth_unit_m):
            raise CameraError(
                f"{self.path}: a recording keeps six decimals of the depth unit, and {depth_unit_m:.9g} m "
                "needs more; set the camera's depth unit to a multiple of 0.000001 m"
            )

    def discard(self) -> None:
        """Remove what holds no frame that anybody saw."""
        self.partial.unlink(missing_ok=True)

    def finish(self, depth_unit_m: float, delivered: int, librealsense: str) -> None:
        """Count, describe and name the file; one from which no frame was read is removed.

        Raises `RecordingCorrupt` where the file holds fewer frames than were delivered meanwhile.
        """
        if delivered == 0:
            self.discard()
            return
        contents = check_db3(self.partial)
        if contents.depth_frames < delivered:
            raise RecordingCorrupt(
                f"{self.partial}: holds {contents.depth_frames} frames of {delivered} that were delivered; "
                "the disk is full, or too slow: record at a lower fps"
            )
        try:
            with self.partial.open("rb") as file:
                os.fsync(file.fileno())
            sidecar = RecordingSidecar(
                frames=contents.depth_frames,
                depth_unit_m=depth_unit_m,
                librealsense=librealsense,
                edge_inspect=__version__,
                sha256=file_sha256(self.partial),
            )
            write_atomically(sidecar_path(self.path), (sidecar.model_dump_json(indent=2) + "\n").encode())
            self.partial.rename(self.path)
        except OSError as error:
            raise CameraError(
                f"{self.partial}: can't be finished ({error.strerror}); make room, then record again"
            ) from error
